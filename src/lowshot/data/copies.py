"""Images that are in two splits or in two classes at once, found without decoding any."""

from __future__ import annotations

import collections
import hashlib
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..errors import DataError

if TYPE_CHECKING:
    from .listing import FileList

_END_BYTES = 1 << 16
_CHUNK = 1 << 20


class _Place(NamedTuple):
    split: str
    label: int
    folder: Path
    name: str

    @property
    def path(self) -> Path:
        return self.folder / self.name

    def size(self) -> int | None:
        """Return the bytes of the file; None if it is empty, and has nothing in common with others, or a pipe."""
        return self.path.stat().st_size or None

    def end(self) -> bytes:
        """Return a hash of the last bytes of the file."""
        with self.path.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - _END_BYTES))
            return hashlib.blake2b(file.read(_END_BYTES), digest_size=16).digest()

    def content(self) -> bytes:
        """Return a hash of the whole file."""
        digest = hashlib.blake2b(digest_size=16)
        with self.path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
        return digest.digest()


def report_copies(
    where: Path, class_names: Sequence[str], splits: Mapping[str, FileList], warn: list[str], *, contents: bool = True
) -> None:
    """Say how many images are in two splits, and how many in two classes; no file may be both, or in a split twice.

    Images are the same if their files are the same byte for byte. To find out, the size of each file is asked for, the
    last 64 KB are read of those that share their size, and the whole of those that share these too.

    Args:
        where: What the messages begin with.
        class_names: Class names in label order.
        splits: The files of each split.
        warn: Receives the lines, one for splits and one for classes.
        contents: Without it no file is looked at, and only a path that is in two splits is found.

    Raises:
        DataError: One path has two classes, or is in one split twice.
    """
    lists = collections.Counter(files.folder for files in splits.values())
    shared = {split: files for split, files in splits.items() if lists[files.folder] > 1}
    groups = list(_sharing(_places(shared), lambda place: place.name))
    for first, *others in groups:
        met = {first.split}
        for other in others:
            if other.label != first.label:
                one, two = (f"{class_names[place.label]!r} in {place.split}" for place in (first, other))
                raise DataError(f"{where}: {first.name} is {one} and {two}; expected one class for an image")
            if other.split in met:
                raise DataError(f"{where}: {first.name} is in {other.split} twice; expected each image once in a split")
            met.add(other.split)
    if contents:
        groups = _of_one_content(_places(splits))
    for kind, position in (("splits", 0), ("classes", 1)):
        apart = [group for group in groups if len({place[position] for place in group}) > 1]
        if apart:
            first = apart[0][0]
            second = next(place for place in apart[0] if place[position] != first[position])
            warn.append(
                f"{where}: {len(apart)} image(s) are in two {kind} at once, such as {first.path} and {second.path}"
            )


def copies_within(files: FileList) -> list[list[str]]:
    """Return the groups of files of one split that are the same byte for byte, each in the order of the list."""
    return [[place.name for place in group] for group in _of_one_content(_places({"": files}))]


def _of_one_content(places: Iterable[_Place]) -> list[list[_Place]]:
    same_size = _sharing(places, _Place.size)
    same_end = (group for those in same_size for group in _sharing(those, _Place.end))
    return [group for those in same_end for group in _sharing(those, _Place.content)]


def _places(splits: Mapping[str, FileList]) -> Iterator[_Place]:
    for split, files in splits.items():
        for name, label in zip(files.names, files.labels, strict=True):
            yield _Place(split, label, files.folder, name)


def _sharing(places: Iterable[_Place], key: Callable[[_Place], Hashable]) -> Iterator[list[_Place]]:
    """Return groups of two and more places of one key; whoever decodes those without one will say what is wrong."""
    first: dict[Hashable, _Place] = {}
    groups: dict[Hashable, list[_Place]] = {}
    for place in places:
        try:
            value = key(place)
        except (OSError, ValueError):
            continue
        if value is None:
            continue
        before = first.setdefault(value, place)
        if before is not place:
            groups.setdefault(value, [before]).append(place)
    return (groups[value] for value in first if value in groups)
