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
    repeated = list(_same_paths(splits))
    for first, *others in repeated:
        _refuse_contradictions(where, class_names, first, others)
    groups = list(_same_contents(splits)) if contents else repeated
    for kind, position in (("splits", 0), ("classes", 1)):
        apart = [group for group in groups if len({place[position] for place in group}) > 1]
        if apart:
            first = apart[0][0]
            second = next(place for place in apart[0] if place[position] != first[position])
            warn.append(
                f"{where}: {len(apart)} image(s) are in two {kind} at once, such as {first.path} and {second.path}"
            )


def _refuse_contradictions(where: Path, class_names: Sequence[str], first: _Place, others: Sequence[_Place]) -> None:
    """Of places that have one path."""
    met = {first.split}
    for other in others:
        if other.label != first.label:
            one, two = (f"{class_names[place.label]!r} in {place.split}" for place in (first, other))
            raise DataError(f"{where}: {first.name} is {one} and {two}; expected one class for an image")
        if other.split in met:
            raise DataError(f"{where}: {first.name} is in {other.split} twice; expected each image once in a split")
        met.add(other.split)


def _same_paths(splits: Mapping[str, FileList]) -> Iterator[list[_Place]]:
    """Places of one path: of three splits no more than one folder is shared, and without that there are none."""
    lists = collections.Counter(files.folder for files in splits.values())
    shared = {split: files for split, files in splits.items() if lists[files.folder] > 1}
    return _sharing(_places(shared), lambda place: place.name)


def _same_contents(splits: Mapping[str, FileList]) -> Iterator[list[_Place]]:
    for same_size in _sharing(_places(splits), _size):
        for same_end in _sharing(same_size, _end):
            yield from _sharing(same_end, _content)


def _places(splits: Mapping[str, FileList]) -> Iterator[_Place]:
    for split, files in splits.items():
        for name, label in zip(files.names, files.labels, strict=True):
            yield _Place(split, label, files.folder, name)


def _sharing(places: Iterable[_Place], key: Callable[[_Place], Hashable]) -> Iterator[list[_Place]]:
    """Two and more places of one key; those that have none are passed over: who decodes them will say what is wrong."""
    first: dict[Hashable, _Place] = {}
    groups: dict[Hashable, list[_Place]] = {}
    for place in places:
        try:
            found = key(place)
        except (OSError, ValueError):
            continue
        if found is None:
            continue
        before = first.setdefault(found, place)
        if before is not place:
            groups.setdefault(found, [before]).append(place)
    return (groups[found] for found in first if found in groups)


def _size(place: _Place) -> int | None:
    """None for an empty file, which has nothing in common with another one, and for a pipe, which has no size."""
    return place.path.stat().st_size or None


def _end(place: _Place) -> bytes:
    with place.path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - _END_BYTES))
        return hashlib.blake2b(file.read(_END_BYTES), digest_size=16).digest()


def _content(place: _Place) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    with place.path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.digest()
