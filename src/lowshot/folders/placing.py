"""Images on their way to their places: what was decided of each is in a journal before it is put there."""

from __future__ import annotations

import dataclasses
import errno
import filecmp
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from ..data import images_below
from ..errors import DataError, InputError
from ..files import os_errors_about, sync
from .journal import Journal

Row: TypeAlias = dict[str, Any]
"""An image of the journal: its path below the folder, its place or places ``to``, and its ``best`` classes."""
PARTIAL = ".partial"
"""The end of the hidden name that a copy has until it is whole."""
_IN_PLACE = {"in_place": True}
"""A line of the journal: all images above it are in their places, and what becomes of them now is a person's doing."""


def places_of(row: Row) -> list[str]:
    """The paths below the output that an image of the journal has: one, or one for each of several labels."""
    return [row["to"]] if isinstance(row["to"], str) else row["to"]


def _copied(source: Path, target: Path) -> None:
    """Copy a file with its times; it has its name when it is whole and on the disk."""
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:80]}.", suffix=PARTIAL)
    os.close(handle)
    try:
        shutil.copy2(source, name)
        sync(Path(name))
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _linked(source: Path, target: Path) -> None:
    """Give a file a second name, on the same disk. A symbolic link would be passed over where images are read."""
    try:
        target.hardlink_to(source)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        raise InputError(
            f"{source} and {target} are on two disks, where no link can be; copy or move instead"
        ) from None


def _moved(source: Path, target: Path) -> None:
    """Rename a file; to another disk it is copied, and goes once its copy is there."""
    try:
        source.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copied(source, target)
        source.unlink()


def _beside(source: Path, target: Path) -> None:
    """Give a file that is moved to several folders its place in one of the first: a second name, or a copy."""
    try:
        target.hardlink_to(source)
    except OSError:  # on another disk, or on one that has no links
        _copied(source, target)


PUT: dict[str, Callable[[Path, Path], None]] = {"copy": _copied, "link": _linked, "move": _moved}
"""The ways in which an image gets into its new folder."""


@dataclasses.dataclass(frozen=True)
class Placing:
    """The images of a folder, and the output that they are put into."""

    folder: Path
    out: Path
    put: str
    """A way of ``PUT``."""
    journal: Journal
    warn: list[str]
    """Receives a line for each thing that a person should know."""

    def rows(self) -> Iterator[Row]:
        """The journal's row of each image that has got a place."""
        return (row for row in self.journal.rows() if row != _IN_PLACE)

    def resume(self) -> dict[str, list[str]]:
        """Put the images that were on their way in place; return the places of all that have any, by path."""
        for each in self.out.rglob(f".*{PARTIAL}"):  # of a process that was killed
            each.unlink()
        places: dict[str, list[str]] = {}
        on_the_way: list[Row] = []
        for row in self.journal.rows():
            if row == _IN_PLACE:
                on_the_way.clear()
            else:
                places[row["image"]] = places_of(row)
                on_the_way.append(row)
        self._put_in_place(on_the_way)
        return places

    def remaining(self, places: Mapping[str, list[str]]) -> list[str]:
        """The images that have no place yet, as paths below the folder."""
        try:
            names = [path.relative_to(self.folder).as_posix() for path in images_below(self.folder, self.warn)]
        except DataError:
            if not places or not self.folder.is_dir():
                raise
            names = []  # all have been moved
        if self.put == "move":
            self.warn.extend(
                f"{self.folder / name} was left: an image of this name has been moved to {self.out / places[name][0]} "
                "before"
                for name in names
                if name in places
            )
        return [name for name in names if name not in places]

    def place(self, rows: Sequence[Row]) -> None:
        """Write down where images belong, and put them there.

        Raises:
            OutputError: It cannot be written.
        """
        self.journal.append(rows)
        self._put_in_place(rows)

    def _put_in_place(self, rows: Sequence[Row]) -> None:
        """Put images where they belong, unless they are there, and write down that they are."""
        for source, target, is_last in (
            (self.folder / row["image"], self.out / to, to == places_of(row)[-1])
            for row in rows
            for to in places_of(row)
        ):
            with os_errors_about(target):
                if not os.path.lexists(target):
                    if not source.exists():
                        self.warn.append(f"{source} has gone before it was put to {target}")
                        continue
                    target.parent.mkdir(parents=True, exist_ok=True)
                    # What is moved goes from the folder with the last of its places.
                    (_beside if self.put == "move" and not is_last else PUT[self.put])(source, target)
                elif self.put == "move" and is_last and source.exists() and filecmp.cmp(source, target, shallow=False):
                    source.unlink()  # it was copied to another disk, and not removed yet
        if rows:
            self.journal.append([_IN_PLACE])
