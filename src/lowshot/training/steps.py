"""The steps of a run: its stages, one after the other, and whatever takes them for the loop."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Protocol

from ..settings import TrainingConfig
from .step import StepGradients


@dataclasses.dataclass(frozen=True)
class Stage:
    """Steps of a run that train the same, with an optimiser's state and a course of the learning rate of their own.

    Args:
        steps: How many.
        exact: Computes the gradients, and so decides what is trained.
        begin: Called before the first step that is taken here, and told whether it is the first of the stage.
        end: Called when no more steps are taken, of whatever stage.
    """

    steps: int
    exact: StepGradients
    begin: Callable[[bool], None] = lambda is_first: None  # noqa: ARG005
    end: Callable[[], None] = lambda: None

    def learning_rate(self, step: int, config: TrainingConfig) -> float:
        """The learning rate of one of the stage's steps, which are counted from 0."""
        return learning_rate(step, self.steps, config)


def stage_at(stages: Sequence[Stage], number: int) -> tuple[Stage, int]:
    """The stage that a run's step belongs to, and the number of that stage's first step."""
    first = 0
    for stage in stages:
        if number < first + stage.steps:
            return stage, first
        first += stage.steps
    raise IndexError(f"step {number} of {first}")


def learning_rate(step: int, steps: int, config: TrainingConfig) -> float:
    """A cosine from ``learning_rate`` to ``minimum_learning_rate`` at step ``steps`` (arXiv 1608.03983, eq. 5)."""
    low, high = config.minimum_learning_rate, config.learning_rate
    return low + (high - low) * (1 + math.cos(math.pi * step / steps)) / 2


class Steps(Protocol):
    """Takes steps. What they give is in the state when they are settled."""

    ahead: int
    """How many steps may be begun before they are settled."""
    note: str
    """Tells a person how the steps are taken; empty if there is nothing to tell."""
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

    def close(self) -> None:
        """Let go of what was kept for further steps."""
