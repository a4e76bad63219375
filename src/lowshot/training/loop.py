"""The loop over a run's steps: the schedule, checkpoints, and what happens when the loss stops being a number."""

from __future__ import annotations

import dataclasses
import itertools
import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from ..errors import OutputError
from ..progress import UNREPORTED, Report, StepTaken, Track
from ..settings import TrainingConfig
from .checkpoints import CheckpointFile
from .state import TrainingState
from .steps import Steps


@dataclasses.dataclass
class TrainingLoop:
    """Takes a run's steps, from wherever it stands.

    Args:
        state: Where it stands; changed in place.
        config: Learning rates and seed.
        steps: Of the whole run.
        taking: Takes them.
        is_sound: Whether the trained model gives numbers; asked at the end, since no loss is computed after the last
            update.
        rate: (number of the step, steps of the run) to its learning rate.
        checkpoint: Where the state is kept; None for nowhere.
    """

    state: TrainingState
    config: TrainingConfig
    steps: int
    taking: Steps
    is_sound: Callable[[], bool]
    rate: Callable[[int, int], float]
    checkpoint: CheckpointFile | None = None
    unwritten: str = ""
    """Why a checkpoint could not be written, if one could not."""

    def run(self, order: Iterable[Sequence[int]], track: Track, what: str, report: Report = UNREPORTED) -> str:
        """Take the steps that are left.

        The state is written at the end too, and when anything interrupts the loop, unless that happens in the middle
        of an update. Where a loss is no number, the last values that gave one are put back.

        Args:
            order: The batches of the whole run, from its first step.
            track: Shows progress.
            what: What to call it.
            report: Is told of each step.

        Returns:
            Why it stopped early, or nothing.
        """
        left = iter(order)
        images = sum(map(len, itertools.islice(left, self.state.step)))
        begun, started = list[Begun](), 0.0
        try:
            for rows in track(left, what=what, total=self.steps - self.state.step):
                started = started if begun else time.perf_counter()
                number, images = self.state.step + len(begun), images + len(rows)
                rate = self.rate(number, self.steps)
                self.taking.take(rows, rate)
                begun.append(Begun(number + 1, rate, images))
                is_due = self.checkpoint is not None and self.checkpoint.is_due()
                if len(begun) < self.taking.ahead and number + 1 < self.steps and not is_due:
                    continue
                if not self._settle(begun, started, report):
                    return self._diverged(f"step {self.state.stopped_at} of {self.steps}")
                if self.checkpoint is not None and self.checkpoint.is_due():
                    self._keep()
            self._keep()
            if self.is_sound():
                return ""
            self.state.bring_back()
            return self._diverged("the last step")
        except BaseException:
            if self.taking.is_whole and self._settle(begun, started, UNREPORTED):
                self._keep()
            raise

    def _settle(self, begun: list[Begun], started: float, report: Report) -> bool:
        """Wait for steps that were begun, count their time, and tell of those whose loss was a number."""
        is_sound, count = self.taking.settle(), len(begun)
        seconds = (time.perf_counter() - started) / max(1, count)
        sound = [step for step in begun if step.number <= self.state.step]
        begun.clear()
        self.state.seconds += seconds * len(sound)
        for step in sound:
            loss = self.state.losses[step.number - 1]
            report.step(StepTaken(step.number, self.steps, loss, step.rate, step.images, seconds))
        return is_sound

    def _keep(self) -> None:
        """Write the state; where that fails training goes on, since what it learns may still be saved elsewhere."""
        if self.checkpoint is None:
            return
        try:
            self.checkpoint.write(self.state)
        except OutputError as error:
            self.unwritten = f"the state of training was not written: {error}"

    def _diverged(self, where: str) -> str:
        return f"training diverged at {where}; try a lower learning rate than {self.config.learning_rate:g}"


class Begun(NamedTuple):
    """A step that was begun."""

    number: int
    """From 1."""
    rate: float
    images: int
    """Learnt from up to and with this step."""


def learning_rate(step: int, steps: int, config: TrainingConfig) -> float:
    """A cosine from ``learning_rate`` to ``minimum_learning_rate`` at step ``steps`` (arXiv 1608.03983, eq. 5)."""
    low, high = config.minimum_learning_rate, config.learning_rate
    return low + (high - low) * (1 + math.cos(math.pi * step / steps)) / 2
