"""What takes the steps of a run for the loop: each launched by itself and waited for, or recorded once and replayed."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Protocol

from .state import TrainingState


class Steps(Protocol):
    """Takes steps. What they give is in the state when they are settled."""

    ahead: int
    """How many steps may be begun before they are settled."""
    note: str
    """What a person should know of how they are taken; empty if nothing."""
    is_whole: bool
    """Whether the state may be written now: not in the middle of an update."""

    def take(self, rows: Sequence[int], rate: float) -> None:
        """Begin the next step.

        Args:
            rows: Its batch.
            rate: Its learning rate.
        """

    def settle(self) -> bool:
        """Wait for all steps that were begun; their losses are in the state then.

        Returns:
            False where a loss was no number: the state is as it was when one last was, and no later step was taken.
        """


@dataclasses.dataclass
class LaunchedSteps:
    """Each step is launched by itself, and its loss waited for.

    Args:
        state: Of the run; changed in place.
        gradients: (number of the step, its batch) to the loss, with the gradients left on the parameters.
        note: See ``Steps``.
    """

    state: TrainingState
    gradients: Callable[[int, Sequence[int]], float]
    note: str = ""

    def __post_init__(self) -> None:
        self.ahead, self.is_whole = 1, True
        self._is_sound = True

    def take(self, rows: Sequence[int], rate: float) -> None:
        """Take a step; where its loss is no number the last good values are put back."""
        state = self.state
        loss = self.gradients(state.step, rows)
        self._is_sound = math.isfinite(loss)
        if not self._is_sound:
            state.bring_back()
            return
        state.keep()
        self.is_whole = False
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        state.optimizer.step()
        state.losses.append(loss)
        self.is_whole = True

    def settle(self) -> bool:
        """Whether the step's loss was a number."""
        return self._is_sound
