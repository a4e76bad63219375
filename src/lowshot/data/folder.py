"""Folders of images: ``<class>/*`` or ``{train,val,test}/<class>/*``."""

from __future__ import annotations

import collections
from collections.abc import Iterator
from pathlib import Path

from ..errors import DataError
from .images import SUFFIXES
from .listing import SPLITS, Classes, class_name, task_of_files, visible_entries
from .task import Task

_LINK, _OTHER, _LOOSE = "link(s), which are not followed", "file(s) without an image's suffix", "file(s) in no class"


def read_folder(root: Path, on_bad_image: str = "error", warn: list[str] | None = None) -> Task:
    """Read a folder of images as a task; the folders' names are the class names, ``_`` read as a space.

    Hidden files are passed over and links are not followed, so nothing outside ``root`` is ever read. An image's
    identity is its path below its split, so that moving the whole folder changes no draw.

    Args:
        root: The folder.
        on_bad_image: ``skip`` decodes every file now and leaves out those that cannot be; ``error`` decodes none, and
            such a file stops whoever asks for its image.
        warn: Receives one line for everything but hidden files that was left out, and one if images are in two splits
            or classes at once.

    Raises:
        DataError: There is no such folder, it holds no classes, a class is empty, or its layout is ambiguous.
    """
    warn = warn if warn is not None else []
    splits: dict[str, tuple[Path, Classes]] = {}
    for split, folder in (_split_folders(root, warn) or {"train": root}).items():
        classes: Classes = {}
        class_folders, left_out = _subfolders(folder)
        _say_left_out(folder, left_out, warn)
        for class_folder in class_folders:
            name = class_name(class_folder.name)
            if name in classes:
                raise DataError(f"{folder}: two folders give the class name {name!r}; expected one folder per class")
            left_out = collections.Counter()
            files = sorted(image_files(class_folder, left_out))
            _say_left_out(class_folder, left_out, warn)
            classes[name] = [path.relative_to(folder).as_posix() for path in files]
        splits[split] = folder, classes
    if not splits["train"][1]:
        raise DataError(f"{root} has no folders in it; expected one folder of images per class")
    for split, (_, classes) in splits.items():
        empty = [name for name, files in classes.items() if not files]
        if empty:
            raise DataError(
                f"{root}: no images for class {empty[0]!r} in {split}; add some or remove its folder "
                "(links are not followed)"
            )
    return task_of_files(root, root.resolve().name, splits, on_bad_image, warn)


def image_files(folder: Path, left_out: collections.Counter[str]) -> Iterator[Path]:
    """Yield the image files in a folder and the folders in it, to any depth.

    Args:
        folder: Where to begin.
        left_out: Receives the numbers of other things that are there.

    Raises:
        DataError: A folder cannot be listed, or a name in it is not UTF-8.
    """
    pending = [folder]
    while pending:
        for entry in visible_entries(pending.pop()):
            path = Path(entry.path)
            if entry.is_symlink():
                left_out[_LINK] += 1
            elif entry.is_dir():
                pending.append(path)
            elif path.suffix.lower() in SUFFIXES and entry.is_file():  # a pipe is neither
                yield path
            else:
                left_out[_OTHER] += 1


def _split_folders(root: Path, warn: list[str]) -> dict[str, Path]:
    """Return the folder of each split; none where the folders in ``root`` are classes.

    A split's folder is known by its name and by holding folders: a class may be called ``train`` too.
    """
    subfolders, left_out = _subfolders(root)
    folders: dict[str, Path] = {}
    for folder in subfolders:
        split = SPLITS.get(folder.name.lower())
        if split is None or not _subfolders(folder)[0]:
            continue
        if split in folders:
            raise DataError(f"{root}: {folders[split].name} and {folder.name} are both a {split} split; expected one")
        folders[split] = folder
    if not folders:
        return {}
    if "train" not in folders:
        raise DataError(
            f"{root} has a {min(folders)} split and no train; expected a folder train with the classes in it"
        )
    _say_left_out(root, left_out, warn)
    others = [folder.name for folder in subfolders if folder not in folders.values()]
    if others:
        warn.append(f"{root}: left out {len(others)} folder(s) that are no split: {', '.join(others[:5])}")
    return folders


def _subfolders(folder: Path) -> tuple[list[Path], collections.Counter[str]]:
    """Return the folders in a folder, and the numbers of other things in it."""
    subfolders, left_out = [], collections.Counter[str]()
    for entry in visible_entries(folder):
        if entry.is_symlink():
            left_out[_LINK] += 1
        elif entry.is_dir():
            subfolders.append(Path(entry.path))
        else:
            left_out[_LOOSE] += 1
    return subfolders, left_out


def _say_left_out(folder: Path, left_out: collections.Counter[str], warn: list[str]) -> None:
    warn += [f"{folder}: left out {count} {what}" for what, count in sorted(left_out.items())]
