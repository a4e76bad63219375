"""One run in one tracker, from its first step to its figures. A tracker that fails becomes a warning, and no more."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import importlib.util
import statistics
import uuid
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from ..errors import MissingExtraError
from ..methods import display_name
from ..progress import StepTaken
from ..records import RunRecord
from ..settings import Recipe
from .figures import costs_of, measures_of, settings_of
from .tracker import Plain, TrackedRun, Tracker

_LONGEST_REASON = 300


def refuse_missing_tracker(report_to: str) -> None:
    """Say that a tracker's package is not installed while nothing is lost by it.

    Raises:
        MissingExtraError: It is not.
    """
    if report_to == "none":
        return
    found = importlib.util.find_spec(report_to)
    if found is None or found.origin is None:  # a folder of the tracker's files, such as ./wandb, is no package
        raise MissingExtraError(report_to, report_to, f"report-to {report_to}")


class Tracking:
    """Is told how training goes, and passes it on every so many steps.

    The run is opened when there is something to say. It stays open until ``close``, or until nobody holds this any
    more; whatever is said later opens it again.

    Args:
        report_to: Which tracker.
        every: Steps between two reports.
        name: Of the run.
        settings: What was asked for.
    """

    def __init__(
        self, report_to: str = "none", every: int = 1, name: str = "", settings: Mapping[str, Plain] | None = None
    ) -> None:
        self.warnings: list[str] = []
        """Why the tracker lacks something, if it does."""
        self._report_to = report_to
        self._every = every
        self._run = TrackedRun(uuid.uuid4().hex, name, settings or {})
        self._tracker: Tracker | None = None
        self._closing: weakref.finalize[..., Any] | None = None
        self._failed = False
        self._losses: list[float] = []  # since the last report
        self._seconds: list[float] = []
        self._taken: StepTaken | None = None  # the last of them

    @classmethod
    def of(cls, recipe: Recipe, *, task: str, shots: int, **facts: Plain) -> Tracking:
        """What a recipe asks for.

        Args:
            recipe: All settings.
            task: Name of the data.
            shots: Images per class that were drawn.
            **facts: What else to file the run under.
        """
        method = display_name(recipe.method.method, recipe.model.quantize)
        name = f"{method} on {task}, {shots} shots, seed {recipe.training.seed}"
        settings = settings_of(recipe, task=task, shots=shots, **facts)
        return cls(recipe.engine.report_to, recipe.engine.logging_steps, name, settings)

    def begin(self, run: str, losses: Sequence[float]) -> None:
        """Training begins, or goes on after the steps with these losses; see ``progress.Report``."""
        done = len(losses)
        self._run = dataclasses.replace(self._run, id=run, step=done)
        self._losses = list(losses[done - done % self._every :])  # so that a mean is over the same steps all the same
        if self._is_told():
            with self._guarded():
                self._opened()

    def step(self, taken: StepTaken) -> None:
        """A step was taken."""
        self._losses.append(taken.loss)
        self._seconds.append(taken.seconds)
        self._taken = taken
        if taken.step % self._every == 0 or taken.step == taken.steps:
            self._send_steps()

    def learnt(self, record: RunRecord) -> None:
        """Training is over: what it took."""
        if self._seconds:  # it ended early
            self._send_steps()
        self._log(costs_of(record), record.steps)

    def judged(self, record: RunRecord) -> None:
        """The record has its metrics now; the run is complete."""
        seconds = {"cost/evaluation_seconds": record.evaluation_seconds}
        self._log({**measures_of(record), **seconds}, record.steps)
        self.close(failed=bool(record.stopped))

    def close(self, *, failed: bool = False) -> None:
        """Send what is left, and end the run."""
        tracker, self._tracker = self._tracker, None
        if tracker is None or self._closing is None:
            return
        if self._failed:
            self._closing()
        else:
            self._closing.detach()
            with self._guarded():
                tracker.close(failed)

    def _send_steps(self) -> None:
        """The steps since the last report."""
        assert self._taken is not None
        values = {
            "train/loss": statistics.fmean(self._losses),
            "train/learning_rate": self._taken.learning_rate,
            "train/images": self._taken.images,
            "train/step_seconds": statistics.fmean(self._seconds),
        }
        self._losses, self._seconds = [], []
        self._log(values, self._taken.step)

    def _log(self, values: Mapping[str, float], step: int) -> None:
        self._run = dataclasses.replace(self._run, step=step)
        if self._is_told():
            with self._guarded():
                self._opened().log(values, step)

    def _is_told(self) -> bool:
        return self._report_to != "none" and not self._failed

    def _opened(self) -> Tracker:
        if self._tracker is None:
            module = importlib.import_module(f".{self._report_to}", __package__)
            self._tracker = tracker = cast(Tracker, module.open_run(self._run))
            self._closing = weakref.finalize(self, _close_quietly, tracker)
        return self._tracker

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """Whatever a tracker raises is said once, and it is left alone from then on."""
        try:
            yield
        except Exception as error:
            self._failed = True
            reason = " ".join(str(error).split())[:_LONGEST_REASON] or type(error).__name__
            self.warnings.append(
                f"{self._report_to} failed at step {self._run.step} and was told nothing more; the run went on without "
                f"it: {reason}"
            )


def _close_quietly(tracker: Tracker) -> None:
    """The end of a run that nobody waits for any more: nobody could be told of a failure either."""
    with contextlib.suppress(Exception):
        tracker.close(False)
