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
    """Refuse a tracker whose package is not installed, while nothing is lost by it.

    Raises:
        MissingExtraError: The package is not installed.
    """
    if report_to == "none":
        return
    package = importlib.util.find_spec(report_to)
    if package is None or package.origin is None:  # a folder of the tracker's files, such as ./wandb, is no package
        raise MissingExtraError(report_to, report_to, f"report-to {report_to}")


class Tracking:
    """A ``progress.Report`` that passes the course of a training on to a tracker, every so many steps.

    The tracker's run is opened when there is something to log. It stays open until ``close``, or until nobody holds
    this any more; whatever is logged later opens it again.

    Args:
        report_to: Name of the tracker.
        every: Steps between two reports.
        name: Of the run.
        settings: Of the run.
    """

    def __init__(
        self, report_to: str = "none", every: int = 1, name: str = "", settings: Mapping[str, Plain] | None = None
    ) -> None:
        self.warnings: list[str] = []
        """Reason why the tracker lacks something, if it does."""
        self._report_to = report_to
        self._every = every
        self._run = TrackedRun(uuid.uuid4().hex, name, settings or {})
        self._tracker: Tracker | None = None
        self._closing: weakref.finalize[..., Any] | None = None
        self._failed = False
        self._losses: list[float] = []  # of the steps since the last report
        self._seconds: list[float] = []
        self._last_step: StepTaken | None = None

    @classmethod
    def of(cls, recipe: Recipe, *, task: str, shots: int, **facts: Plain) -> Tracking:
        """Tracking of one run as its recipe asks for.

        Args:
            recipe: All settings.
            task: Name of the data.
            shots: Images per class that were drawn.
            **facts: Further settings to file the run under.
        """
        method = display_name(recipe.method.method, recipe.model.quantize)
        name = f"{method} on {task}, {shots} shots, seed {recipe.training.seed}"
        settings = settings_of(recipe, task=task, shots=shots, **facts)
        return cls(recipe.engine.report_to, recipe.engine.logging_steps, name, settings)

    def begin(self, run: str, losses: Sequence[float]) -> None:
        """Training begins, or goes on after the steps with these losses; see ``progress.Report``."""
        steps = len(losses)
        self._run = dataclasses.replace(self._run, id=run, step=steps)
        self._losses = list(losses[steps - steps % self._every :])  # so that a mean is over the same steps all the same
        if self._is_on():
            with self._guarded():
                self._opened()

    def step(self, taken: StepTaken) -> None:
        """A step was taken."""
        self._losses.append(taken.loss)
        self._seconds.append(taken.seconds)
        self._last_step = taken
        if taken.step % self._every == 0 or taken.step == taken.steps:
            self._send_steps()

    def learnt(self, record: RunRecord) -> None:
        """Log the costs of a training that is over."""
        if self._seconds:  # it ended early
            self._send_steps()
        self._log(costs_of(record), record.steps)

    def judged(self, record: RunRecord) -> None:
        """Log the metrics that the record has now, and end the run: it is complete."""
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
        """Log the steps since the last report."""
        last = self._last_step
        assert last is not None
        values = {
            "train/loss": statistics.fmean(self._losses),
            "train/learning_rate": last.learning_rate,
            "train/images": last.images,
            "train/step_seconds": statistics.fmean(self._seconds),
        }
        self._losses, self._seconds = [], []
        self._log(values, last.step)

    def _log(self, values: Mapping[str, float], step: int) -> None:
        self._run = dataclasses.replace(self._run, step=step)
        if self._is_on():
            with self._guarded():
                self._opened().log(values, step)

    def _is_on(self) -> bool:
        return self._report_to != "none" and not self._failed

    def _opened(self) -> Tracker:
        if self._tracker is None:
            module = importlib.import_module(f".{self._report_to}", __package__)
            self._tracker = tracker = cast(Tracker, module.open_run(self._run))
            self._closing = weakref.finalize(self, _close_quietly, tracker)
        return self._tracker

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """Make one warning of whatever a tracker raises, and leave it alone from then on."""
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
    """End a run that nobody waits for any more: nobody could be told of a failure either."""
    with contextlib.suppress(Exception):
        tracker.close(False)
