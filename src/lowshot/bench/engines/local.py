"""Runs in this process, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence

from ...progress import Track
from ...runs_folder import Claim
from ..grid import Cell
from ..worker import Worker
from . import Result


class LocalEngine:
    """The plain loop."""

    places = 1

    def run(
        self, cells: Sequence[Cell], take: Callable[[Cell], Claim | None], say: Callable[[str], None], track: Track
    ) -> Generator[Result, None, None]:
        """See ``Engine.run``."""
        del say  # there is nothing to tell
        worker = Worker()
        for cell in cells:
            if (claim := take(cell)) is not None:
                yield worker.do(cell, claim.state, track)
