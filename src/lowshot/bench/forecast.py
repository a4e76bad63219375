"""Forecasts of the time that runs will take, by those that are done."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from ..records import RunRecord
from .grid import Cell


class Forecast:
    """Forecast of the time that runs will take, from those of the same kind that are done.

    Two runs are of one kind if their settings are the same but for seed, shots, steps and learning rates. Runs on the
    same data set count before those on others.
    """

    def __init__(self) -> None:
        self._seen: dict[tuple[Any, ...], list[tuple[int, float, float]]] = {}

    def learn(self, cell: Cell, record: RunRecord, seconds: float | None = None) -> None:
        """Take note of a run.

        Args:
            cell: The run.
            record: Has its steps and the seconds of training.
            seconds: All of the run's; if not known, those of training and evaluation, and of what ``auto`` tried.
        """
        whole = record.learning_seconds + record.evaluation_seconds if seconds is None else seconds
        for kind in _kinds(cell):
            self._seen.setdefault(kind, []).append((record.steps, record.train_seconds, whole))

    def seconds(self, cell: Cell) -> float | None:
        """Return the seconds of a run that is not done; None where nothing like it is."""
        seen = next((self._seen[kind] for kind in _kinds(cell) if kind in self._seen), None)
        if seen is None:
            return None
        steps = sum(steps for steps, _, _ in seen)
        a_step = sum(training for _, training, _ in seen) / steps if steps else 0.0
        besides = statistics.fmean(max(0.0, whole - training) for _, training, whole in seen)
        return besides + a_step * (_steps(cell) if steps else 0)

    def probes(self, cells: Iterable[Cell]) -> list[Cell]:
        """Return the runs after which ``seconds`` knows all: the one with fewest steps of each kind not seen yet."""
        shortest: dict[tuple[Any, ...], Cell] = {}
        for cell in cells:
            kind = _kinds(cell)[-1]
            if kind not in self._seen and (kind not in shortest or _steps(cell) < _steps(shortest[kind])):
                shortest[kind] = cell
        return list(shortest.values())

    def time_left(self, cells: Sequence[Cell], places: int = 1) -> str:
        """Return the time for these runs as the end of a line; nothing where there are none.

        Args:
            cells: The runs that are left, those under way included.
            places: How many of them are done at the same time.
        """
        seconds = [self.seconds(cell) for cell in cells]
        if not seconds:
            return ""
        known = [figure for figure in seconds if figure is not None]
        unknown = len(seconds) - len(known)
        minutes = max(sum(known) / places, max(known, default=0.0)) / 60
        return f"; {minutes:.1f} min left" + (f" and {unknown} runs of kinds not seen yet" if unknown else "")


def _steps(cell: Cell) -> int:
    return cell.recipe.steps(cell.recipe.data.shots or 1)


def _kinds(cell: Cell) -> list[tuple[Any, ...]]:
    """Return the kinds that a run is of: first that of runs on the same data, then that of runs on any."""
    return [(cell.data, *cell.pace), ("", *cell.pace)]
