"""Doing the runs of a grid, one after the other, in this process."""

from __future__ import annotations

import dataclasses
import itertools
import statistics
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from ..classifier import FewShotClassifier
from ..config import parse_bytes
from ..data import Task, decoded_once
from ..errors import LowshotError
from ..progress import Track, silent
from ..records import RunRecord
from .grid import Cell
from .runs import RunsFolder


@dataclasses.dataclass
class Outcome:
    """What became of the runs of a grid."""

    done: int = 0
    """Runs with a record, those of earlier calls included."""
    failed: int = 0
    left: int = 0
    """Runs that this call did not come to, or left to another process."""


class SharedTasks:
    """The data sets of a grid, each read once; the images of each decoded once for all runs of this process."""

    def __init__(self) -> None:
        self._kept: dict[tuple[Any, ...], Task] = {}

    def of(self, cell: Cell, classifier: FewShotClassifier) -> Task:
        """What a run learns from and is judged on.

        Raises:
            DataError: It cannot be used.
        """
        data, engine = cell.recipe.data, cell.recipe.engine
        key = (cell.data, data.root, data.on_bad_image, engine.image_memory, engine.image_disk)
        if key not in self._kept:
            caps = [parse_bytes(field, getattr(engine, field)) for field in ("image_memory", "image_disk")]
            task = classifier.task(cell.data)
            kept = {
                split: dataclasses.replace(examples, images=decoded_once(examples.images, caps[0], caps[1]))
                for split, examples in (("train", task.train), ("test", task.test))
                if examples is not None
            }
            self._kept[key] = dataclasses.replace(task, **kept)  # type: ignore[arg-type]
        return self._kept[key]


def run_cell(cell: Cell, tasks: SharedTasks, checkpoint: Path | None = None, track: Track = silent) -> RunRecord:
    """Do one run: learn, judge, and return the record.

    Args:
        cell: The run.
        tasks: Data sets that other runs of this process have read.
        checkpoint: Where the state of training is kept; if it exists, training goes on from it.
        track: Shows progress.

    Raises:
        LowshotError: The run cannot be done.
    """
    classifier = FewShotClassifier.from_recipe(cell.recipe)
    task = tasks.of(cell, classifier)
    classifier.fit(task, checkpoint=checkpoint, track=track)
    classifier.evaluate(task, track=track)
    return classifier.record_


def run_cells(
    cells: Sequence[Cell], runs: RunsFolder, *, say: Callable[[str], None] = lambda _: None, track: Track = silent
) -> Outcome:
    """Do what is not done yet. A run that fails leaves its error, and the next one begins.

    Args:
        cells: The runs.
        runs: Where records go.
        say: Is told one line for each run.
        track: Shows the progress of each.
    """
    outcome, tasks, forecast = Outcome(), SharedTasks(), Forecast()
    for cell in cells:
        if (record := runs.record(cell)) is not None:
            forecast.learn(cell, record, record.train_seconds)
    left = [cell for cell in cells if runs.record(cell) is None]
    outcome.done, outcome.left = len(cells) - len(left), len(left)
    for number, cell in enumerate(left):
        with runs.claimed(cell) as mine:
            if not mine or runs.record(cell) is not None:
                continue
            started = time.perf_counter()
            outcome.left -= 1
            try:
                record = run_cell(cell, tasks, runs.checkpoint(cell), track)
            except Exception as error:  # whatever it is, the other runs go on
                runs.keep_failure(cell, _said(error))
                outcome.failed += 1
                say(f"{_place(number, left)}  {cell.label}: failed: {_first_line(error)}")
                continue
            runs.keep(cell, record)
            outcome.done += 1
            took = time.perf_counter() - started
            forecast.learn(cell, record, took)
            say(f"{_place(number, left)}  {cell.label}: {_figures(record, took)}{forecast.said(left[number + 1 :])}")
    return outcome


class Forecast:
    """How long runs will take, from those of the same kind that are done."""

    def __init__(self) -> None:
        self._seen: dict[tuple[Any, ...], list[tuple[int, float, float]]] = {}

    def learn(self, cell: Cell, record: RunRecord, seconds: float) -> None:
        """Take note of a run: its steps, the seconds of training, and all of its seconds."""
        for kind in _kinds(cell):
            self._seen.setdefault(kind, []).append((record.steps, record.train_seconds, seconds))

    def seconds(self, cell: Cell) -> float | None:
        """Of a run that is not done; None where nothing like it is."""
        seen = next((self._seen[kind] for kind in _kinds(cell) if kind in self._seen), None)
        if seen is None:
            return None
        steps = sum(steps for steps, _, _ in seen)
        a_step = sum(training for _, training, _ in seen) / steps if steps else 0.0
        besides = statistics.fmean(max(0.0, whole - training) for _, training, whole in seen)
        return besides + a_step * (cell.recipe.steps(cell.recipe.data.shots or 1) if steps else 0)

    def said(self, cells: Iterable[Cell]) -> str:
        """The time for these runs as the end of a line; nothing where there are none."""
        known = [self.seconds(cell) for cell in cells]
        if not known:
            return ""
        unknown = known.count(None)
        minutes = sum(seconds for seconds in known if seconds is not None) / 60
        return f"; {minutes:.1f} min left" + (f" and {unknown} runs of kinds not seen yet" if unknown else "")


_CHANGES_NO_SPEED = {"seed", "shots", "steps_per_shot", "base_steps", "learning_rate", "minimum_learning_rate"}


def _kinds(cell: Cell) -> list[tuple[Any, ...]]:
    """Runs like this one: first those on the same data, then those on any."""
    settings = {name: value for name, value in cell.recipe.settings().items() if name not in _CHANGES_NO_SPEED}
    alike = tuple(itertools.chain.from_iterable(sorted(settings.items())))
    return [(cell.data, *alike), ("", *alike)]


def _place(number: int, cells: Sequence[Cell]) -> str:
    return f"{number + 1:>{len(str(len(cells)))}} of {len(cells)}"


def _figures(record: RunRecord, seconds: float) -> str:
    return f"{record.metrics['acc1']:.1%}, {seconds:.1f} s"


def _said(error: Exception) -> str:
    """A message where the error is one of ours; else where it came from, too."""
    return str(error) if isinstance(error, LowshotError) else "".join(traceback.format_exception(error))


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
