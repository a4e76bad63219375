"""Engines: where the runs of a grid are done. What becomes of them is kept in one place, ``runner.run_cells``.

An engine never writes into the folder of runs: it gives back results, and so can do the runs on any machine.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Sequence
from typing import Protocol

from ...progress import Track
from ...records import RunRecord
from ...runs_folder import Claim
from ..grid import Cell


@dataclasses.dataclass(frozen=True)
class Result:
    """What became of one run: a record, or an error."""

    cell: Cell
    record: RunRecord | None
    """None where the run failed."""
    seconds: float
    """Wall time of the run, data, training and evaluation."""
    error: str = ""
    """Why it failed, in full."""
    reason: str = ""
    """The same in one line."""
    warnings: tuple[str, ...] = ()
    """What a person should know of the run besides."""


class Engine(Protocol):
    """Does runs, in whatever order suits it."""

    @property
    def places(self) -> int:
        """Runs that are done at the same time, as far as is known by now."""

    def run(
        self, cells: Sequence[Cell], take: Callable[[Cell], Claim | None], say: Callable[[str], None], track: Track
    ) -> Generator[Result, None, None]:
        """Do the runs, and yield what becomes of each as it ends.

        Closing the iterator, or an exception in it, ends the runs that are under way.

        Args:
            cells: What to do.
            take: Asked right before a run is begun: None where it is not to be done here.
            say: Is told what a person should know.
            track: Shows the progress of runs in this process.

        Raises:
            InputError: There is a run that this engine has no room for, or nowhere to do runs.
        """
