"""Runs in this process, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence

from ...progress import Track
from ...runs_folder import Claim
from ..grid import Cell
from . import Result


class LocalEngine:
    """The plain loop."""

    places = 1

    def run(
        self, cells: Sequence[Cell], take: Callable[[Cell], Claim | None], say: Callable[[str], None], track: Track
    ) -> Generator[Result, None, None]:
        """See ``Engine.run``."""
        from ..worker import Worker  # brings torch, which nobody needs where all is done

        del say  # there is nothing to tell
        worker = Worker()
        for cell in cells:
            if (claim := take(cell)) is not None:
                yield worker.do(cell, claim.state, track)
