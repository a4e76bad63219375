"""The loop over a run's steps: the schedule, checkpoints, and what happens when the loss stops being a number."""

from __future__ import annotations

import dataclasses
import itertools
import math
import time
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch

from ..config import TrainingConfig
from ..progress import Track
from .checkpoints import CheckpointFile
from .state import LastGood, TrainingState

_DRAWS = 3  # keeps the stream of a step's draws apart from those of crops and of the order


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
        checkpoint: Where the state is kept; None for nowhere.
    """

    state: TrainingState
    config: TrainingConfig
    steps: int
    gradients: Callable[[int, Sequence[int]], float]
    is_sound: Callable[[], bool]
    checkpoint: CheckpointFile | None = None

    def run(self, order: Iterable[Sequence[int]], track: Track, what: str) -> str:
        """Take the steps that are left.

        The state is written at the end too, and when the loop is interrupted, unless that happens in the middle of an
        update. Where a loss is no number, the last values that gave one are put back; the run would end there again,
        so its checkpoint is removed.

        Args:
            order: The batches of the whole run, from its first step.
            track: Shows progress.
            what: What to call it.

        Returns:
            Why it stopped early, or nothing.
        """
        state, good, updating = self.state, LastGood(self.state.parameters), False
        began, before = time.perf_counter(), state.seconds
        left = itertools.islice(order, state.step, None)
        try:
            for rows in track(left, what=what, total=self.steps - state.step):
                loss = self._draw(rows)
                if not math.isfinite(loss):
                    return self._diverged(good, f"step {state.step + 1} of {self.steps}")
                good.keep()
                updating = True
                self._update()
                state.losses.append(loss)
                state.seconds = before + time.perf_counter() - began
                updating = False
                if self.checkpoint is not None and self.checkpoint.is_due():
                    self.checkpoint.write(state)
        except KeyboardInterrupt:
            if not updating:
                self._keep()
            raise
        if not self.is_sound():
            return self._diverged(good, "the last step")
        self._keep()
        return ""

    def _draw(self, rows: Sequence[int]) -> float:
        """A step's loss and gradients; what it draws from torch's own generator depends on seed and step alone."""
        number = self.state.step
        key = np.random.SeedSequence([self.config.seed, number, _DRAWS]).generate_state(1, np.uint64)
        torch.manual_seed(int(key[0]))
        return self.gradients(number, rows)

    def _update(self) -> None:
        rate = learning_rate(self.state.step, self.steps, self.config)
        for group in self.state.optimizer.param_groups:
            group["lr"] = rate
        self.state.optimizer.step()

    def _keep(self) -> None:
        if self.checkpoint is not None:
            self.checkpoint.write(self.state)

    def _diverged(self, good: LastGood, where: str) -> str:
        good.bring_back()
        self.state.losses = self.state.losses[:-1]  # the update after the last good loss is undone
        if self.checkpoint is not None:
            self.checkpoint.path.unlink(missing_ok=True)
        return f"training diverged at {where}; try a lower learning rate than {self.config.learning_rate:g}"


def learning_rate(step: int, steps: int, config: TrainingConfig) -> float:
    """A cosine from ``learning_rate`` to ``minimum_learning_rate`` at step ``steps`` (arXiv 1608.03983, eq. 5)."""
    low, high = config.minimum_learning_rate, config.learning_rate
    return low + (high - low) * (1 + math.cos(math.pi * step / steps)) / 2
