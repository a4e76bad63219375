"""Listing of image files, and from such a list to the examples of a split."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import itertools
import os
import stat
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, ImageError
from .copies import copies_within, report_copies
from .damage import examined, name_of
from .images import FileImages
from .task import Examples, Images, Task, is_text

SPLITS = {
    **{"train": "train", "val": "validation", "valid": "validation", "validation": "validation", "test": "test"},
    **{"training": "train", "dev": "validation", "testing": "test", "eval": "test", "evaluation": "test"},
}
"""Name that a split may have -> the split that is meant."""
Classes: TypeAlias = dict[str, list[str]]
"""Class name -> its files, as paths below a folder."""
NO_LABEL = "\0"
"""Stands among the classes of a list for images that show none of them, where images may have several labels. No file
system has such a name."""
Names: TypeAlias = str | tuple[str, ...]
"""The name of an image's class, or of each class that it shows where images may have several labels."""
Kind: TypeAlias = Literal["file", "folder", "other", "nothing"]
"""The kinds of things at a path; ``other`` is a pipe, a socket, a device, or one that cannot be looked at."""

_MAXIMUM_CHARACTERS = 64 << 20
_NAMES_SHOWN = 10
_OF_THE_SYSTEM = frozenset(
    {"@eadir", "@recycle", "@recently-snapshot", "#recycle", "#snapshot", "$recycle.bin", "__macosx", "lost+found"}
    | {"system volume information"}
)  # what NAS, Windows, macOS and Linux put into folders: previews, waste, snapshots


@dataclasses.dataclass
class FileList:
    """Image files of one split below one folder, in order.

    Args:
        folder: The folder that the names start from.
        names: Path of each file below it; this is also the image's identity, the same on every machine.
        labels: Class index of each file.
    """

    folder: Path
    names: list[str] = dataclasses.field(default_factory=list)
    labels: list[int] = dataclasses.field(default_factory=list)

    def __len__(self) -> int:
        return len(self.names)

    def add(self, name: str, label: int) -> None:
        """Append one file."""
        self.names.append(name)
        self.labels.append(label)

    def examples(self) -> Examples:
        """The split's examples; no file is decoded."""
        return Examples(
            images=FileImages(tuple(self.names), self.folder),
            labels=np.asarray(self.labels, dtype=np.int64),
            identities=tuple(self.names),
        )


def task_of_splits(
    name: str, class_names: Sequence[str], splits: Mapping[str, Examples], on_bad_image: str, warn: list[str]
) -> Task:
    """Return the task that has these splits.

    Args:
        name: The task's name.
        class_names: Class names in label order.
        splits: Split -> its examples; one of them is ``train``.
        on_bad_image: ``skip`` decodes every image now and leaves out those that cannot be. ``skip-damaged`` leaves out
            damaged ones too, and ``error-damaged`` raises at the first that is either. Anything else decodes none.
        warn: Receives a line for each that was left out.

    Raises:
        DataError: Of some class no image is left, or with ``error-damaged`` an image is bad.
    """
    rows = {split: good_images(examples, class_names, on_bad_image, warn) for split, examples in splits.items()}
    splits = {s: each if len(rows[s]) == len(each) else each.subset(rows[s]) for s, each in splits.items()}
    return Task(name, tuple(class_names), splits["train"], splits.get("validation"), splits.get("test"))


def task_of_names(
    where: object,
    name: str,
    splits: Mapping[str, tuple[Images, Sequence[Names], Sequence[str]]],
    on_bad_image: str,
    warn: list[str],
    class_names: Sequence[str] | None = None,
) -> Task:
    """Return a task of images that come with the names of their classes.

    Args:
        where: The data, for messages.
        name: The task's name.
        splits: Split -> its images, the class name of each or the names of those that it shows, and their identities.
        on_bad_image: As for ``task_of_splits``.
        warn: As for ``task_of_splits``.
        class_names: All class names in the data's own order; those of ``train``, sorted, if not given. One that no
            image of ``train`` has is left out, which is said.

    Raises:
        DataError: As for ``sorted_class_names`` and ``task_of_splits``.
    """
    named = {split: [(n,) if isinstance(n, str) else n for n in names] for split, (_, names, _) in splits.items()}
    used = sorted_class_names(where, {split: set(itertools.chain(*names)) for split, names in named.items()})
    known = [name for name in class_names or used if name in set(used)]
    if idle := [name for name in class_names or () if name not in known]:
        warn.append(f"{where}: left out {len(idle)} class name(s) that no image has: {first_names(idle)}")
    label_of = {class_name: label for label, class_name in enumerate(known)}
    several = any(not isinstance(each, str) for _, names, _ in splits.values() for each in names)
    examples = {}
    for split, (images, _, identities) in splits.items():
        numbers = [[label_of[each] for each in names] for names in named[split]]
        labels = table_of_labels(numbers, len(known)) if several else np.asarray(numbers, dtype=np.int64).reshape(-1)
        examples[split] = Examples(images, labels, tuple(identities))
    return task_of_splits(name, known, examples, on_bad_image, warn)


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


def good_images(examples: Examples, class_names: Sequence[str], on_bad_image: str, warn: list[str]) -> Sequence[int]:
    """Return the indices of the images that are not bad; each is looked at if the setting asks for that.

    Args:
        examples: Images of one split.
        class_names: Class names in label order.
        on_bad_image: As for ``task_of_splits``.
        warn: Receives a line for each that is left out.

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


def task_of_files(
    where: Path,
    name: str,
    splits: Mapping[str, tuple[Path, Classes]],
    on_bad_image: str,
    warn: list[str],
    *,
    several: bool = False,
) -> Task:
    """Return a task of image files that are known by their classes.

    Where images may have several labels, files of one split that are the same byte for byte are one image. It shows
    the classes of all of them.

    Args:
        where: The folder or table, for messages.
        name: The task's name.
        splits: Split -> the folder that its paths start from, and its classes.
        on_bad_image: As for ``task_of_splits``.
        warn: Receives a line for images that are in two splits or classes, and for each that was left out.
        several: Whether images may have several labels, or none: those of ``NO_LABEL``.

    Raises:
        DataError: There is no train split, it has fewer than two classes, another split has a class of its own, or a
            file has two classes.
    """
    class_names = sorted_class_names(where, {split: {*classes} - {NO_LABEL} for split, (_, classes) in splits.items()})
    if several:
        examples = _of_several_labels(where, class_names, splits, warn)
        return task_of_splits(name, class_names, examples, on_bad_image, warn)
    lists = {}
    for split, (folder, classes) in splits.items():
        lists[split] = files = FileList(folder)
        for label, known in enumerate(class_names):
            for file in classes.get(known, ()):
                files.add(file, label)
    report_copies(where, class_names, lists, warn)
    return task_of_splits(name, class_names, {s: files.examples() for s, files in lists.items()}, on_bad_image, warn)


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
        listed = FileList(folder, list(shown), [0] * len(shown))
        groups = copies_within(listed)
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


def first_names(names: Sequence[str]) -> str:
    """Return up to ten names, and how many more there are, for a message."""
    more = f" and {len(names) - _NAMES_SHOWN:,} more" if len(names) > _NAMES_SHOWN else ""
    return ", ".join(names[:_NAMES_SHOWN]) + more


def class_name(text: str) -> str:
    """Return a folder's or label's name as words, with accents as one character each (macOS may store them as two)."""
    return " ".join(unicodedata.normalize("NFC", text).replace("_", " ").split())


def visible_entries(folder: Path) -> list[os.DirEntry[str]]:
    """Return the entries of a folder by name, but for hidden ones and those that a system puts there for itself.

    Raises:
        DataError: It is no folder, it cannot be listed, or a name in it is not UTF-8.
    """
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except FileNotFoundError:
        raise DataError(f"data {folder} does not exist") from None
    except NotADirectoryError:
        raise DataError(f"data {folder} is a file; expected a folder with one folder of images per class") from None
    except (OSError, ValueError) as error:
        raise DataError(f"data {folder} cannot be listed: {getattr(error, 'strerror', error)}") from error
    entries = [e for e in entries if not e.name.startswith(".") and e.name.lower() not in _OF_THE_SYSTEM]
    for entry in entries:
        if not is_text(entry.name):
            raise DataError(f"data {folder}: the name {entry.name!r} is not UTF-8; rename it")
    return entries


def is_below(name: str) -> bool:
    """Tell whether a path in a list stays in the list's folder: relative, and without ``..``."""
    path = PurePosixPath(name)
    elsewhere = path.is_absolute() or ".." in path.parts or PureWindowsPath(name).drive
    return bool(path.parts) and not elsewhere and "\0" not in name and "\\" not in name


def kind_of(path: Path) -> Kind:
    """Return the kind of thing at a path, links followed; ``nothing`` also where nothing can be."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return "nothing"
    except OSError as error:
        return "nothing" if error.errno in (errno.ENAMETOOLONG, errno.ELOOP) else "other"
    if stat.S_ISREG(mode):
        return "file"
    return "folder" if stat.S_ISDIR(mode) else "other"


def read_lines(path: Path) -> list[tuple[int, str]]:
    """Return the lines of a small text file that are not empty, without the space around them, numbered from 1.

    Raises:
        DataError: It is no plain file, cannot be read, is no UTF-8, or has more than 64 M characters.
    """
    kind = kind_of(path)
    if kind != "file":
        raise DataError(f"{path} {'does not exist' if kind == 'nothing' else 'is no file that can be read'}")
    try:
        with path.open(encoding="utf-8-sig") as file:
            text = file.read(_MAXIMUM_CHARACTERS + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if len(text) > _MAXIMUM_CHARACTERS:
        raise DataError(f"{path} has more than {_MAXIMUM_CHARACTERS:,} characters; expected a short list")
    return [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
