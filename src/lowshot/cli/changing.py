"""The place of a changed adapter, which all commands that change one ask for."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import tyro

from ..errors import InputError
from ..files import claimed, folder_replaced, folder_written_aside, refuse_existing
from ..progress import is_quiet
from .printing import print_json


@dataclasses.dataclass(frozen=True)
class Changed:
    """The place of a changed adapter."""

    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder for the changed adapter; must not exist yet."""
    in_place: bool = False
    """Put the changed adapter in the place of ADAPTER instead; the one before stays beside it as `.ADAPTER.before`."""
    json: bool = False
    """Print one JSON object."""

    def place(self, adapter: Path) -> Path:
        """The folder that the changed adapter of this one goes to.

        Raises:
            InputError: Neither or both of the places are given.
            OutputError: It is taken, or cannot be written.
        """
        if (self.out is None) == (not self.in_place):
            raise InputError(
                "expected --out DIR, a new folder for the changed adapter, or --in-place, which puts it in the place "
                f"of {adapter} and keeps the one before as {adapter.parent / f'.{adapter.name}.before'}"
            )
        if self.out is not None:
            refuse_existing(self.out)
            return self.out
        if not adapter.is_dir() or adapter.is_symlink():
            raise InputError(f"in-place needs a folder of its own, and {adapter} is none; expected --out DIR")
        return adapter

    def tell(self, place: Path, answer: Mapping[str, Any], *lines: str) -> None:
        """Print which adapter there is now: as JSON with this answer, or in lines, unless it is quiet."""
        if self.json:
            print_json({"adapter": str(place), **answer})
        elif not is_quiet():
            print("\n".join(lines))

    @contextlib.contextmanager
    def written(self, adapter: Path) -> Iterator[Path]:
        """Yield a folder that takes its place as a whole once the block is done; nobody else takes it meanwhile."""
        place = self.place(adapter)
        write = folder_replaced if self.in_place else folder_written_aside
        with claimed(place), write(place) as aside:
            yield aside
