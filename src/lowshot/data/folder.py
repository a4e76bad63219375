"""Folders of images: ``<class>/*`` or ``{train,val,test}/<class>/*``."""

from __future__ import annotations

import collections
import contextlib
import hashlib
import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import numpy as np

from ..errors import DataError
from .images import SUFFIXES, FileImages, decode_image
from .task import Examples, Task

SPLITS = {"train": "train", "val": "validation", "valid": "validation", "validation": "validation", "test": "test"}
"""Names of split folders and the split they hold."""
_LINK, _OTHER, _LOOSE = "link(s), which are not followed", "file(s) without an image's suffix", "file(s) in no class"
_COMPARED_BYTES = 1 << 16  # two files of one size that end in the same 64 KB are taken for copies

Classes: TypeAlias = dict[str, list[tuple[str, Path]]]
"""Class name -> its files, each with its identity; in sorted order."""


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
    folders = _split_folders(root, warn) or {"train": root}
    splits = {split: _list_classes(folder, warn) for split, folder in folders.items()}
    class_names = sorted(splits["train"])
    _check_classes(root, splits, class_names)
    _warn_of_copies(root, splits, warn)
    examples = {split: _examples(files, class_names, on_bad_image, warn) for split, files in splits.items()}
    return Task(
        root.resolve().name, tuple(class_names), examples["train"], examples.get("validation"), examples.get("test")
    )


def _split_folders(root: Path, warn: list[str]) -> dict[str, Path]:
    """Split -> its folder; nothing where the folders in ``root`` are classes.

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


def _visible(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder but for hidden files, by name."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except FileNotFoundError:
        raise DataError(f"data {folder} does not exist") from None
    except NotADirectoryError:
        raise DataError(f"data {folder} is a file; expected a folder with one folder of images per class") from None
    except (OSError, ValueError) as error:
        raise DataError(f"data {folder} cannot be listed: {getattr(error, 'strerror', error)}") from error
    entries = [entry for entry in entries if not entry.name.startswith(".")]
    for entry in entries:
        if not entry.name.isascii() and any("\ud800" <= c <= "\udfff" for c in entry.name):
            raise DataError(f"data {folder}: the name {entry.name!r} is not UTF-8; rename it")
    return entries


def _subfolders(folder: Path) -> tuple[list[Path], collections.Counter[str]]:
    """The folders in a folder, and how much of what else is in it."""
    subfolders, left_out = [], collections.Counter[str]()
    for entry in _visible(folder):
        if entry.is_symlink():
            left_out[_LINK] += 1
        elif entry.is_dir():
            subfolders.append(Path(entry.path))
        else:
            left_out[_LOOSE] += 1
    return subfolders, left_out


def _say_left_out(folder: Path, left_out: collections.Counter[str], warn: list[str]) -> None:
    warn += [f"{folder}: left out {count} {what}" for what, count in sorted(left_out.items())]


def _class_name(folder: Path) -> str:
    """The folder's name as words, with accents as one character each (macOS may store them as two)."""
    return " ".join(unicodedata.normalize("NFC", folder.name).replace("_", " ").split())


def _list_classes(folder: Path, warn: list[str]) -> Classes:
    classes: Classes = {}
    class_folders, left_out = _subfolders(folder)
    _say_left_out(folder, left_out, warn)
    for class_folder in class_folders:
        name = _class_name(class_folder)
        if name in classes:
            raise DataError(f"{folder}: two folders give the class name {name!r}; expected one folder per class")
        left_out = collections.Counter()
        files = sorted(_files(class_folder, left_out))
        _say_left_out(class_folder, left_out, warn)
        classes[name] = [(path.relative_to(folder).as_posix(), path) for path in files]
    return classes


def _files(folder: Path, left_out: collections.Counter[str]) -> Iterator[Path]:
    """The image files in a folder and the folders in it, to any depth."""
    pending = [folder]
    while pending:
        for entry in _visible(pending.pop()):
            path = Path(entry.path)
            if entry.is_symlink():
                left_out[_LINK] += 1
            elif entry.is_dir():
                pending.append(path)
            elif path.suffix.lower() in SUFFIXES and entry.is_file():  # a pipe is neither
                yield path
            else:
                left_out[_OTHER] += 1


def _check_classes(root: Path, splits: dict[str, Classes], class_names: list[str]) -> None:
    if not class_names:
        raise DataError(f"{root} has no folders in it; expected one folder of images per class")
    for split, classes in splits.items():
        empty = [name for name, files in classes.items() if not files]
        if empty:
            raise DataError(
                f"{root}: no images for class {empty[0]!r} in {split}; add some or remove its folder "
                "(links are not followed)"
            )
        unknown = sorted(set(classes) - set(class_names))
        if unknown:
            raise DataError(f"{root}: class {unknown[0]!r} is in {split} but not in train")
    if len(class_names) < 2:
        raise DataError(f"{root} has one class, {class_names[0]!r}; expected at least 2 folders of images")


def _warn_of_copies(root: Path, splits: dict[str, Classes], warn: list[str]) -> None:
    """One line each if images are in two splits, or in two classes, at once: the same file by size and last bytes."""
    by_size: dict[int, list[tuple[str, str, Path]]] = collections.defaultdict(list)
    by_content: dict[tuple[int, bytes], list[tuple[str, str, Path]]] = collections.defaultdict(list)
    for split, classes in splits.items():
        for name, files in classes.items():
            for _, path in files:
                with contextlib.suppress(OSError):  # decoding it will say so
                    by_size[path.lstat().st_size].append((split, name, path))
    for size, places in by_size.items():
        for place in places if len(places) > 1 and size else ():
            with contextlib.suppress(OSError):
                by_content[size, _ending(place[2], size)].append(place)
    for kind, position in (("splits", 0), ("classes", 1)):
        copied = [places for places in by_content.values() if len({place[position] for place in places}) > 1]
        if copied:
            first = copied[0][0]
            second = next(place for place in copied[0] if place[position] != first[position])
            warn.append(f"{root}: {len(copied)} image(s) are in two {kind} at once, such as {first[2]} and {second[2]}")


def _ending(path: Path, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, size - _COMPARED_BYTES))
        return hashlib.sha256(file.read()).digest()


def _examples(classes: Classes, class_names: list[str], on_bad_image: str, warn: list[str]) -> Examples:
    kept = [(label, *file) for label, name in enumerate(class_names) for file in classes.get(name, [])]
    if on_bad_image == "skip":
        kept = _decodable(kept, class_names, warn)
    return Examples(
        images=FileImages([path for _, _, path in kept]),
        labels=np.asarray([label for label, _, _ in kept], dtype=np.int64),
        identities=tuple(identity for _, identity, _ in kept),
    )


def _decodable(
    files: list[tuple[int, str, Path]], class_names: list[str], warn: list[str]
) -> list[tuple[int, str, Path]]:
    kept = []
    for file in files:
        try:
            decode_image(file[2])
        except DataError as error:
            warn.append(f"left out: {error}")
        else:
            kept.append(file)
    without = sorted({label for label, *_ in files} - {label for label, *_ in kept})
    if without:
        raise DataError(f"no image of class {class_names[without[0]]!r} can be decoded")
    return kept
