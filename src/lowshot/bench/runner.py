"""Doing the runs of a grid: whichever engine does them, their records are kept and told here."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Sequence

from ..progress import Track, silent
from ..runs_folder import Claims, RunsFolder
from .engines import Engine, Result
from .engines.local import LocalEngine
from .forecast import Forecast
from .grid import Cell


@dataclasses.dataclass
class Outcome:
    """Numbers of the runs of a grid that came to each end."""

    done: int = 0
    """Runs with a record, whoever did them."""
    failed: int = 0
    """Runs that failed in this call."""
    left: int = 0
    """Runs that another process is at, or that are as they were."""


def run_cells(
    cells: Sequence[Cell],
    runs: RunsFolder,
    engine: Engine | None = None,
    *,
    forecast: Forecast | None = None,
    say: Callable[[str], None] = lambda _: None,
    track: Track = silent,
) -> Outcome:
    """Do what is not done yet. A run that fails leaves its error, and the others go on.

    Args:
        cells: The runs.
        runs: The folder of their records.
        engine: Does the runs; one after the other in this process if not given.
        forecast: Knows the times of those of the runs that are done; their records are read here if not given.
        say: Receives one line for each run.
        track: Shows the progress of each, where it is done in this process.

    Raises:
        InputError: A record is damaged, or the engine has no room for a run.
        RunError: The engine has lost every place where it did runs.
    """
    runs.tidy()
    forecast = forecast or read_forecast(cells, runs)
    left, warned = [cell for cell in cells if not runs.is_done(cell)], set[str]()
    results: dict[str, Result] = {}
    if left:
        engine = engine or LocalEngine()
        with (
            contextlib.closing(Claims(runs)) as claims,
            contextlib.closing(engine.run(left, claims.take, say, track)) as ended,
        ):
            for result in ended:
                if result.record is None:
                    runs.keep_failure(result.cell, result.error)
                else:
                    runs.keep(result.cell, result.record)
                    forecast.learn(result.cell, result.record, result.seconds)
                claims.give_back(result.cell)
                results[result.cell.key] = result
                ahead = [cell for cell in left if cell.key not in results and not runs.is_done(cell)]
                for warning in result.warnings:
                    if warning not in warned:  # many runs have the same reason to warn
                        warned.add(warning)
                        say(f"{result.cell.label}: {warning}")
                place = f"{len(results):>{len(str(len(left)))}} of {len(left)}"
                say(f"{place}  {result.cell.label}: {result.summary}{forecast.time_left(ahead, engine.places)}")
    failed = sum(result.record is None for result in results.values())
    done = sum(runs.is_done(cell) for cell in cells)
    return Outcome(done, failed, len(cells) - done - failed)


def read_forecast(cells: Sequence[Cell], runs: RunsFolder) -> Forecast:
    """Return the forecast that the records of those runs tell which are done.

    Raises:
        InputError: A record is damaged.
    """
    forecast = Forecast()
    for cell in cells:
        if (record := runs.record(cell)) is not None:
            forecast.learn(cell, record)
    return forecast
