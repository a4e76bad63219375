"""From images with the names of their classes to a task, and what becomes of bad images among them."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, ImageError
from .copies import copies_within, report_copies
from .damage import examined, name_of
from .listing import NO_LABEL, Classes, FileList, first_names
from .task import Examples, Images, Task

Names: TypeAlias = str | tuple[str, ...]
"""The name of an image's class, or of each class that it shows where images may have several labels."""


@dataclasses.dataclass(frozen=True)
class Reading:
    """The settings by which data are read, as ``load_task`` takes them, and the lines that a person should know."""

    on_bad_image: str = "error"
    warn: list[str] = dataclasses.field(default_factory=list)
    root: str | os.PathLike[str] | None = None
    several: str | None = None

    def task(self, name: str, class_names: Sequence[str], splits: Mapping[str, Examples]) -> Task:
        """Return the task that has these splits, one of which is ``train``, without the images to be left out.

        Raises:
            DataError: Of some class no image is left, or an image is bad and is not to be left out.
        """
        good = {split: self.good(examples, class_names) for split, examples in splits.items()}
        return Task(name, tuple(class_names), good["train"], good.get("validation"), good.get("test"))

    def good(self, examples: Examples, class_names: Sequence[str]) -> Examples:
        """Return the examples of a split without the images to be left out.

        Raises:
            DataError: As for ``task``.
        """
        rows = good_images(examples, class_names, self.on_bad_image, self.warn)
        return examples if len(rows) == len(examples) else examples.subset(rows)


def task_of_named_images(
    where: object,
    name: str,
    splits: Mapping[str, tuple[Images, Sequence[Names], Sequence[str]]],
    reading: Reading,
    class_names: Sequence[str] | None = None,
) -> Task:
    """Return a task of images that come with the names of their classes.

    Args:
        where: The data, for messages.
        name: The task's name.
        splits: Split -> its images, the class name of each or the names of those that it shows, and their identities.
        reading: How the data are read.
        class_names: All class names in the data's own order; those of ``train``, sorted, if not given. One that no
            image of ``train`` has is left out, which is said.

    Raises:
        DataError: As for ``sorted_class_names`` and ``Reading.task``.
    """
    named = {split: [(n,) if isinstance(n, str) else n for n in names] for split, (_, names, _) in splits.items()}
    used = sorted_class_names(where, {split: set(itertools.chain(*names)) for split, names in named.items()})
    known = [name for name in class_names or used if name in set(used)]
    if idle := [name for name in class_names or () if name not in known]:
        reading.warn.append(f"{where}: left out {len(idle)} class name(s) that no image has: {first_names(idle)}")
    label_of = {class_name: label for label, class_name in enumerate(known)}
    several = any(not isinstance(each, str) for _, names, _ in splits.values() for each in names)
    examples = {}
    for split, (images, _, identities) in splits.items():
        numbers = [[label_of[each] for each in names] for names in named[split]]
        labels = table_of_labels(numbers, len(known)) if several else np.asarray(numbers, dtype=np.int64).reshape(-1)
        examples[split] = Examples(images, labels, tuple(identities))
    return reading.task(name, known, examples)


def task_of_files(where: Path, name: str, splits: Mapping[str, tuple[Path, Classes]], reading: Reading) -> Task:
    """Return a task of image files that are known by their classes.

    Where images may have several labels, files of one split that are the same byte for byte are one image. It shows
    the classes of all of them.

    Args:
        where: The folder or table, for messages.
        name: The task's name.
        splits: Split -> the folder that its paths start from, and its classes; files of ``NO_LABEL`` show none.
        reading: How the data are read. A line tells of images that are in two splits or classes.

    Raises:
        DataError: There is no train split, it has fewer than two classes, another split has a class of its own, or a
            file has two classes.
    """
    class_names = sorted_class_names(where, {split: {*classes} - {NO_LABEL} for split, (_, classes) in splits.items()})
    if reading.several is not None:
        return reading.task(name, class_names, _of_several_labels(where, class_names, splits, reading.warn))
    lists = {split: FileList.of(folder, classes, class_names) for split, (folder, classes) in splits.items()}
    report_copies(where, class_names, lists, reading.warn)
    return reading.task(name, class_names, {split: files.examples() for split, files in lists.items()})


def _of_several_labels(
    where: Path, class_names: Sequence[str], splits: Mapping[str, tuple[Path, Classes]], warn: list[str]
) -> dict[str, Examples]:
    """Return the examples of each split, whose labels are those of all files of one content."""
    lists, examples = {}, {}
    for split, (folder, classes) in splits.items():
        shown: dict[str, set[int]] = {}
        for label, known in enumerate(class_names):
            for file in classes.get(known, ()):
                shown.setdefault(file, set()).add(label)
        for file in classes.get(NO_LABEL, ()):
            shown.setdefault(file, set())
        groups = copies_within(FileList(folder, list(shown), [0] * len(shown)))
        for first, *others in groups:
            shown[first].update(*(shown.pop(other) for other in others))
        if groups:
            merged = sum(map(len, groups)) - len(groups)
            warn.append(
                f"{where}: {merged} file(s) of {split} are copies of others, such as {groups[0][1]} of {groups[0][0]}: "
                "they are one image with the labels of all"
            )
        lists[split] = files = FileList(folder, list(shown), [0] * len(shown))
        labels = table_of_labels(list(shown.values()), len(class_names))
        examples[split] = dataclasses.replace(files.examples(), labels=labels)
    report_copies(where, class_names, lists, warn)  # between splits alone: all of them have one label here
    return examples


def sorted_class_names(where: object, splits: Mapping[str, Collection[str]]) -> list[str]:
    """Return the class names of the train split, sorted; no other split may have one that is not among them.

    Raises:
        DataError: It has one, or there is no train split, or it has fewer than two classes.
    """
    if "train" not in splits:
        raise DataError(f"{where} has a {min(splits)} split and no train; expected images to learn from")
    class_names = sorted(splits["train"])
    for split, names in splits.items():
        unknown = sorted(set(names) - set(class_names))
        if unknown:
            raise DataError(
                f"{where}: class {unknown[0]!r} is in {split} but not in train; add images of it to train, or leave it "
                f"out of {split}"
            )
    if len(class_names) < 2:
        those = f"one class, {class_names[0]!r}" if class_names else "no label at all"
        raise DataError(f"{where} has {those}; expected at least 2 classes")
    return class_names


def labels_in(cell: Any, delimiter: str) -> list[Any]:
    """Return the labels in a cell of a table where images have several, as they stand there; none in an empty one."""
    if isinstance(cell, str):
        return [part.strip() for part in cell.split(delimiter)] if cell.strip() else []
    if cell is None:
        return []
    return list(cell) if isinstance(cell, list | tuple | set | frozenset) else [cell]


def table_of_labels(labels: Sequence[Iterable[int]], classes: int) -> NDArray[np.int64]:
    """Return the table ``(N, C)`` with 1 for each class that an image shows, of the classes of each image."""
    table = np.zeros((len(labels), classes), dtype=np.int64)
    for row, shown in enumerate(labels):
        table[row, list(shown)] = 1
    return table


# -- bad images --------------------------------------------------------------------------------------------------------


def good_images(examples: Examples, class_names: Sequence[str], on_bad_image: str, warn: list[str]) -> Sequence[int]:
    """Return the indices of the images of a split that are not to be left out, and say which are.

    Raises:
        DataError: Of some class no image is left, or with ``error-damaged`` an image is bad.
    """
    if on_bad_image not in ("skip", "skip-damaged", "error-damaged"):
        return range(len(examples))
    good, images = [], examples.images
    for index in range(len(examples)):
        try:
            if on_bad_image == "skip":
                images[index]
            elif faults := examined(images, index).faults:
                raise ImageError(f"{name_of(images, index, examples.identities[index])} {faults[0]}")
        except DataError as error:
            if on_bad_image == "error-damaged":
                raise
            warn.append(f"left out: {error}")
        else:
            good.append(index)
    classes = len(class_names)
    before, after = examples.counts(classes), examples.subset(good).counts(classes)
    without = np.flatnonzero((before > 0) & (after == 0))
    if len(without):
        fault = "can be decoded" if on_bad_image == "skip" else "can be decoded and is not damaged"
        raise DataError(f"no image of class {class_names[without[0]]!r} {fault}; add some, or leave the class out")
    return good


def skipping(on_bad_image: str) -> str:
    """Return the setting that leaves out what this one stops at."""
    return "skip-damaged" if on_bad_image == "error-damaged" else "skip"


@contextlib.contextmanager
def bad_images_explained(on_bad_image: str) -> Iterator[None]:
    """Say of an image that cannot be read how to leave it out, and how to find the others.

    Args:
        on_bad_image: The setting; with ``skip`` and ``skip-damaged`` such images are left out already, and nothing is
            added.

    Raises:
        ImageError: The one that was raised within, with that behind it.
    """
    try:
        yield
    except ImageError as error:
        if on_bad_image in ("skip", "skip-damaged"):
            raise
        bad = "are damaged or cannot be read" if on_bad_image == "error-damaged" else "cannot be read"
        raise ImageError(
            f"{error}; --on-bad-image {skipping(on_bad_image)} leaves out images that {bad}, lowshot data check lists "
            "them all"
        ) from error
