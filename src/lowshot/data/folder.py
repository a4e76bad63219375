"""Folders of images: ``<class>/*`` or ``{train,val,test}/<class>/*``; or a folder or table for each split."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from ..errors import DataError
from .assembling import Reading, task_of_files
from .formats import is_image
from .layout import LeftOut, refuse_folders_of_classes, split_folders, subfolders
from .listing import Classes, class_name, kind_of, visible_entries
from .tables import READERS, table_of_split
from .task import Task


def read_folder(root: Path, reading: Reading) -> Task:
    """Read a folder of images as a task; the folders' names are the class names, ``_`` read as a space.

    Hidden files are passed over and links are not followed, so nothing outside ``root`` is ever read. An image's
    identity is its path below its split, so that moving the whole folder changes no draw. Where images may have several
    labels, one that is in several folders by its content shows the classes of all.

    Raises:
        DataError: There is no such folder, it holds no classes, a class is empty, or its layout is ambiguous.
    """
    folders = split_folders(root, reading.warn)
    splits = {split: (folder, _classes(folder, split, reading.warn)) for split, folder in folders.items()}
    refuse_folders_of_classes(*splits["train"], reading.warn)
    return task_of_files(root, root.resolve().name, splits, reading)


def read_splits(sources: Mapping[str, str | os.PathLike[str]], reading: Reading) -> Task:
    """Read a task of which it is said where its splits are, in a folder or a table each.

    The folders in a folder are the classes, whatever their names. All rows of a table are of the split that it is for.

    Args:
        sources: ``train``, ``validation`` or ``test`` -> its folder or table, ``train`` at least.
        reading: How they are read.

    Raises:
        DataError: As for ``read_folder`` and ``read_table``, a split has another name, or a row is of another.
        MissingExtraError: Parquet without pyarrow.
    """
    unknown = [name for name in sources if name not in ("train", "validation", "test")]
    if unknown or "train" not in sources:
        raise DataError(
            f"the folders or tables of splits are for {', '.join(map(repr, sources)) or 'none'}; expected 'train', "
            "and maybe 'validation' and 'test'"
        )
    for split, source in sources.items():
        if not isinstance(source, str | os.PathLike):
            raise DataError(
                f"{split} is a {type(source).__name__}, and not every split is a table in memory; expected the path of "
                "a folder or a table for each split, or a table in memory for each"
            )
    paths = {split: Path(source) for split, source in sources.items()}
    splits: dict[str, tuple[Path, Classes]] = {}
    for split, path in paths.items():
        if path.suffix.lower() in READERS and kind_of(path) != "folder":
            splits[split] = path.parent, table_of_split(path, split, reading)
        else:
            splits[split] = path, _classes(path, split, reading.warn)
    parents = {path.resolve().parent for path in paths.values()}
    named = parents.pop() if len(paths) > 1 and len(parents) == 1 else paths["train"].resolve()
    title = named.stem if named.is_file() else named.name
    return task_of_files(paths["train"], title, splits, reading)


def image_files(folder: Path, left_out: LeftOut) -> Iterator[Path]:
    """Yield the image files in a folder and the folders in it, to any depth.

    Args:
        folder: Where to begin.
        left_out: Receives what else is there.

    Raises:
        DataError: A folder cannot be listed, or a name in it is not UTF-8.
    """
    pending = [folder]
    while pending:
        for entry in visible_entries(pending.pop()):
            path = Path(entry.path)
            if entry.is_symlink():
                left_out.links += 1
            elif entry.is_dir():
                pending.append(path)
            elif not entry.is_file():
                left_out.special += 1
            elif is_image(entry.name):
                yield path
            else:
                left_out.others[path.suffix.lower()] += 1


def images_below(folder: Path, warn: list[str]) -> list[Path]:
    """Return the image files in a folder and in the folders in it, to any depth, in the order of their names.

    What is passed over is what ``read_folder`` passes over.

    Args:
        folder: The folder.
        warn: Receives one line for everything but hidden files that was left out.

    Raises:
        DataError: It cannot be listed, a name in it is not UTF-8, or it holds no image.
    """
    left_out = LeftOut()
    files = sorted(image_files(folder, left_out))
    if not files:
        raise DataError(f"{folder} holds no images{left_out.reason()}")
    warn += [f"{folder}: left out {line}" for line in left_out.lines()]
    return files


def classes_in(folder: Path, warn: list[str]) -> tuple[Path, Classes] | None:
    """Return the classes of a folder, one or more, and the folder that their files' paths start from.

    A folder that images lie in, and no folders, is a class by its name.

    Args:
        folder: The folder.
        warn: Receives one line for everything but hidden files that was left out.

    Returns:
        None where the folder has splits, or shards, and is to be read as ``load_task`` does.

    Raises:
        DataError: It cannot be listed, or a class has no images.
    """
    inside, _ = subfolders(folder)
    if not inside:
        if not any(is_image(entry.name) for entry in visible_entries(folder)):
            return None
        named = folder.resolve()
        files = images_below(named, warn)
        return named.parent, {class_name(named.name): [path.relative_to(named.parent).as_posix() for path in files]}
    if split_folders(folder, []) != {"train": folder}:
        return None
    return folder, _classes(folder, "train", warn)


def _classes(folder: Path, split: str, warn: list[str]) -> Classes:
    """Return the image files of each class folder in a folder."""
    class_folders, left_out = subfolders(folder)
    if not class_folders:
        raise DataError(f"{folder} has no folders in it; expected one folder of images per class{left_out.reason()}")
    warn += [f"{folder}: left out {line}" for line in left_out.lines()]
    classes: Classes = {}
    for class_folder in class_folders:
        name, left_out = class_name(class_folder.name), LeftOut()
        if name in classes:
            raise DataError(f"{folder}: two folders give the class name {name!r}; expected one folder per class")
        files = sorted(image_files(class_folder, left_out))
        if not files:
            raise DataError(
                f"{folder}: no images for class {name!r} in {split}; add some or remove its folder{left_out.reason()}"
            )
        warn += [f"{class_folder}: left out {line}" for line in left_out.lines()]
        classes[name] = [path.relative_to(folder).as_posix() for path in files]
    return classes
