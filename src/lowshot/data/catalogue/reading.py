"""From a data set on disk to a task: one reader for each layout.

CoOp split most data sets at random, once, some of them but for the official test list, and shared the result as JSON
files; the lists that the data sets themselves come with are other splits. So where a split file is missing it is
refused, not replaced: figures measured on another split would look comparable and not be.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from ...errors import DataError, InputError, UnknownNameError
from ...files import read_json_object
from ..assembling import Reading
from ..copies import report_copies
from ..formats import is_image
from ..listing import FileList, class_name, is_below, read_lines, visible_entries
from ..task import Task, is_text
from .class_names import FILE as CLASS_NAMES
from .class_names import has_class_names, names_in_order, names_of_synsets
from .facts import DataSet, Layout
from .places import Place, data_root, place_of, synset_folders
from .rows import CATALOGUE

_VARIANTS, _VARIANT_SPLIT = "variants.txt", "images_variant_{}.txt"
_SPLITS = {"train": "train", "validation": "val", "test": "test"}  # ours -> CoOp's and FGVC's names

Splits = tuple[list[str], dict[str, FileList]]
"""Class names in label order, and the files of each split."""


def data_set(name: str) -> DataSet:
    """Return the catalogue's row of this name.

    Raises:
        UnknownNameError: There is none.
    """
    if name not in CATALOGUE:
        raise UnknownNameError("data set", name, CATALOGUE)
    return CATALOGUE[name]


def read_data_set(name: str, reading: Reading) -> Task:
    """Read a data set of the catalogue as a task.

    No image is opened, so one that is missing is only found when it is asked for; ``lowshot data check`` asks for all.
    An image's identity is its path below the data set's folder of images, the same on every machine.

    Args:
        name: As in the catalogue.
        reading: How it is read. A line tells of each split that has another size than the published one.

    Raises:
        UnknownNameError: The catalogue has no such data set.
        DataError: It is not below the root, or a file that says what is what is missing, damaged or contradicts itself.
    """
    row = data_set(name)
    place = place_of(row, data_root(reading.root))
    class_names, splits = _READERS[row.layout](row, place, reading.warn)
    splits = {"train": FileList(place.images), **splits}  # a data set to test on alone has none to learn from
    task = reading.task(row.name, class_names, {split: files.examples() for split, files in splits.items()})
    task = dataclasses.replace(task, summary=row.summary, template=row.template)
    reading.warn.extend(wrong_sizes(row, task))
    return task


def wrong_sizes(row: DataSet, task: Task) -> list[str]:
    """Return a line for everything in a task that is more or less than published."""
    sizes = {"classes": (len(task.class_names), row.classes)}
    for split in _SPLITS:
        sizes[f"images in {split}"] = (len(task.splits().get(split, ())), getattr(row.sizes, split) or 0)
    return [
        f"{row.name} has {count:,} {what}; expected {published:,}, as published"
        for what, (count, published) in sizes.items()
        if count != published
    ]


def lacks(row: DataSet, place: Place) -> list[str]:
    """Return the names of small files that a data set cannot be read without and that are not there."""
    match row.layout:
        case "split":
            needed = [row.split_file]
        case "aircraft":
            needed = [_VARIANTS, *(_VARIANT_SPLIT.format(key) for key in _SPLITS.values())]
        case "imagenet" | "synsets" | "numbers":
            return [] if has_class_names(place) else [CLASS_NAMES]
    return [name for name in needed if place.file(name) is None]


# -- CoOp's split files ------------------------------------------------------------------------------------------------


def _read_split_file(row: DataSet, place: Place, warn: list[str]) -> Splits:
    path = place.file(row.split_file)
    if path is None:
        downloads = [file for need in row.needs for file in need if file.file == row.split_file]
        where = next((url for file in downloads for url in file.urls), "")
        raise DataError(
            f"{row.split_file} is not in {place.images} or a folder above it. {row.title} comes with other splits than "
            f"the one that published figures use: lowshot data prepare {row.name} --root {place.root} fetches that, "
            f"or put it there yourself (from {where})"
        )
    try:
        content = read_json_object(path)
    except (InputError, FileNotFoundError) as error:
        raise DataError(f"split {error}; expected CoOp's {row.split_file}") from error
    names: dict[int, str] = {}
    splits = {}
    for split, key in _SPLITS.items():
        if not isinstance(content.get(key), list) or not content[key]:
            raise DataError(f"{path} has no list {key!r}; expected train, val and test, as in CoOp's {row.split_file}")
        splits[split] = files = FileList(place.images)
        for number, item in enumerate(content[key]):
            file, label, name = _checked_item(item, f"{path}: {key}[{number}]")
            name = class_name(row.renamed.get(name, name))
            if names.setdefault(label, name) != name:
                raise DataError(f"{path} calls class {label} {names[label]!r} and {name!r}; expected one name")
            files.add(file, label)
    if sorted(names) != list(range(len(names))):
        raise DataError(
            f"{path} has labels from {min(names)} to {max(names)} for {len(names)} classes; expected 0, 1, ..."
        )
    class_names = [names[label] for label in sorted(names)]
    report_copies(path, class_names, splits, warn, contents=False)
    return class_names, splits


def _checked_item(item: Any, where: str) -> tuple[str, int, str]:
    match item:
        case [str(file), int(label), str(name)] if (
            is_below(file) and is_text(file) and label >= 0 and not isinstance(label, bool) and name.strip()
        ):
            return PurePosixPath(file).as_posix(), label, name
    raise DataError(f"{where} is {str(item)[:80]}; expected a path below the images, a label and a class name")


# -- FGVC Aircraft's text files ----------------------------------------------------------------------------------------


def _read_aircraft(row: DataSet, place: Place, warn: list[str]) -> Splits:
    class_names = [line for _, line in read_lines(_required(row, place, _VARIANTS))]
    label_of = {name: label for label, name in enumerate(class_names)}
    splits = {}
    for split, key in _SPLITS.items():
        path = _required(row, place, _VARIANT_SPLIT.format(key))
        splits[split] = files = FileList(place.images)
        for number, line in read_lines(path):
            image, _, name = line.partition(" ")
            if name not in label_of or not is_below(image):
                raise DataError(f"{path}, line {number}, is {line[:80]!r}; expected an image and one of variants.txt")
            files.add(f"{image}.jpg", label_of[name])
    report_copies(place.images.parent, class_names, splits, warn, contents=False)
    return class_names, splits


def _required(row: DataSet, place: Place, name: str) -> Path:
    path = place.file(name)
    if path is None:
        raise DataError(
            f"{name} is not in {place.images.parent}; it is in the archive of {row.title}: "
            f"lowshot data prepare {row.name} --root {place.root} unpacks it"
        )
    return path


# -- ImageNet and its shifts -------------------------------------------------------------------------------------------


def _read_imagenet(row: DataSet, place: Place, warn: list[str]) -> Splits:
    folders = {split: place.images / name for split, name in (("train", "train"), ("test", "val"))}
    classes = {split: synset_folders(folder) for split, folder in folders.items() if folder.is_dir()}
    for split, synsets in classes.items():
        if not synsets:
            raise DataError(
                f"{folders[split]} has no folders of synsets (n01440764, ...) in it; lowshot data prepare {row.name} "
                f"--root {place.root} --from ARCHIVES sorts the images into them"
            )
    names = {split: [folder.name for folder in synsets] for split, synsets in classes.items()}
    if len(names) == 2 and names["train"] != names["test"]:
        alone = sorted(set(names["train"]) ^ set(names["test"]))
        raise DataError(f"{place.images}: {len(alone)} synset(s) are in train or val alone, such as {alone[0]}")
    splits = {split: _list_folders(folders[split], synsets, warn) for split, synsets in classes.items()}
    return names_of_synsets(place, next(iter(names.values())), warn), splits


def _read_shift(row: DataSet, place: Place, warn: list[str]) -> Splits:
    if row.layout == "numbers":
        folders = [place.images / str(label) for label in range(row.classes)]
        missing = [folder.name for folder in folders if not folder.is_dir()]
        if missing:
            raise DataError(
                f"{place.images} lacks {len(missing)} of the folders 0 to {row.classes - 1}, such as {missing[0]}"
            )
        names = names_in_order(place, row.classes, warn)
    else:
        folders = synset_folders(place.images)
        names = names_of_synsets(place, [folder.name for folder in folders], warn)
    return names, {"test": _list_folders(place.images, folders, warn)}


def _list_folders(above: Path, folders: list[Path], warn: list[str]) -> FileList:
    """List the images in each folder, by name; a folder's position is its label."""
    files, left_out = FileList(above), 0
    for label, folder in enumerate(folders):
        for entry in visible_entries(folder):
            if is_image(entry.name) and (entry.is_symlink() or entry.is_file()):
                files.add(f"{folder.name}/{entry.name}", label)
            else:
                left_out += 1
    if left_out:
        warn.append(f"{above}: left out {left_out} file(s) without an image's suffix")
    return files


_READERS: dict[Layout, Callable[[DataSet, Place, list[str]], Splits]] = {
    "split": _read_split_file,
    "aircraft": _read_aircraft,
    "imagenet": _read_imagenet,
    "synsets": _read_shift,
    "numbers": _read_shift,
}
