"""The loop over a run's steps: the schedule, checkpoints, and what happens when the loss stops being a number."""

from __future__ import annotations

import dataclasses
import itertools
import math
import time
from collections.abc import Callable, Iterable, Sequence

from ..config import TrainingConfig
from ..errors import OutputError
from ..progress import UNREPORTED, Report, StepTaken, Track
from .checkpoints import CheckpointFile
from .state import TrainingState


@dataclasses.dataclass
class TrainingLoop:
    """Takes a run's steps, from wherever it stands.

    Args:
        state: Where it stands; changed in place.
        config: Learning rates and seed.
        steps: Of the whole run.
        gradients: (number of the step, its batch) to the loss, with the gradients left on the parameters.
        is_sound: Whether the trained model gives numbers; asked at the end, since no loss is computed after the last
            update.
        rate: (number of the step, steps of the run) to its learning rate.
        checkpoint: Where the state is kept; None for nowhere.
    """

    state: TrainingState
    config: TrainingConfig
    steps: int
    gradients: Callable[[int, Sequence[int]], float]
    is_sound: Callable[[], bool]
    rate: Callable[[int, int], float]
    checkpoint: CheckpointFile | None = None
    unwritten: str = ""
    """Why a checkpoint could not be written, if one could not."""
    _updating: bool = dataclasses.field(default=False, init=False)

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
        try:
            for rows in track(left, what=what, total=self.steps - self.state.step):
                number, before = self.state.step + 1, self.state.seconds
                rate = self.rate(self.state.step, self.steps)
                if not self._take(rows, rate):
                    return self._diverged(f"step {number} of {self.steps}")
                images += len(rows)
                seconds = self.state.seconds - before
                report.step(StepTaken(number, self.steps, self.state.losses[-1], rate, images, seconds))
                if self.checkpoint is not None and self.checkpoint.is_due():
                    self._keep()
            self._keep()
            if self.is_sound():
                return ""
            self.state.bring_back()
            return self._diverged("the last step")
        except BaseException:
            if not self._updating:
                self._keep()
            raise

    def _take(self, rows: Sequence[int], rate: float) -> bool:
        """One step at this learning rate; False where its loss is no number."""
        state, started = self.state, time.perf_counter()
        loss = self.gradients(state.step, rows)
        if not math.isfinite(loss):
            state.bring_back()
            return False
        state.keep()
        self._updating = True
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        state.optimizer.step()
        state.losses.append(loss)
        state.seconds += time.perf_counter() - started
        self._updating = False
        return True

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


def learning_rate(step: int, steps: int, config: TrainingConfig) -> float:
    """A cosine from ``learning_rate`` to ``minimum_learning_rate`` at step ``steps`` (arXiv 1608.03983, eq. 5)."""
    low, high = config.minimum_learning_rate, config.learning_rate
    return low + (high - low) * (1 + math.cos(math.pi * step / steps)) / 2
