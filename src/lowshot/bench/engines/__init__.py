"""Engines do the runs of a grid somewhere. Records are kept in one place, ``runner.run_cells``.

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
    """The end of one run: a record, or an error."""

    cell: Cell
    record: RunRecord | None
    """None where the run failed."""
    seconds: float
    """Wall time of the run, data, training and evaluation."""
    error: str = ""
    """The whole message of a failure."""
    reason: str = ""
    """The failure in one line."""
    warnings: tuple[str, ...] = ()
    """Lines that a person should know of the run besides."""

    @property
    def summary(self) -> str:
        """Accuracy and time of the run, or why it failed, for a line of progress."""
        if self.record is None:
            return f"failed: {self.reason}"
        stopped = f", {self.record.stopped}" if self.record.stopped else ""
        return f"{self.record.score:.1%}, {self.seconds:.1f} s{stopped}"


class Engine(Protocol):
    """Does runs, in whatever order suits it."""

    @property
    def places(self) -> int:
        """Runs that are done at the same time, as far as is known by now."""

    def run(
        self, cells: Sequence[Cell], take: Callable[[Cell], Claim | None], say: Callable[[str], None], track: Track
    ) -> Generator[Result, None, None]:
        """Do the runs, and yield the result of each as it ends.

        Closing the iterator, or an exception in it, ends the runs that are under way.

        Args:
            cells: The runs.
            take: Asked right before a run is begun: None where it is not to be done here.
            say: Receives lines that a person should know.
            track: Shows the progress of runs in this process.

        Raises:
            InputError: There is a run that this engine has no room for, or nowhere to do runs.
        """
