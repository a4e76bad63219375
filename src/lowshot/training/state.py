"""Where a training run stands."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from .step import Passes


@dataclasses.dataclass
class TrainingState:
    """All that decides how a run goes on, besides what it is a run of.

    Nothing random is in it: what a step draws follows from (seed, step, image).

    Args:
        parameters: What is trained.
        optimizer: Theirs.
        passes: How a batch is cut up. It decides the rounding, so a run that goes on keeps it.
        loss_scale: What the loss is multiplied by before it is propagated back; 1 but for float16.
    """

    parameters: Sequence[nn.Parameter]
    optimizer: torch.optim.Optimizer
    passes: Passes
    loss_scale: float = 1.0
    losses: list[float] = dataclasses.field(default_factory=list)
    """Of the steps done so far."""
    seconds: float = 0.0
    """Spent on the steps before this process went on with them."""

    @property
    def step(self) -> int:
        """Number of the next step, from 0."""
        return len(self.losses)

    @property
    def final_loss(self) -> float | None:
        """Mean over the last tenth of the steps done."""
        last = self.losses[-max(1, len(self.losses) // 10) :]
        return sum(last) / len(last) if last else None

    def facts(self) -> dict[str, Any]:
        """What of it JSON can hold."""
        return {"passes": dataclasses.asdict(self.passes), "loss_scale": self.loss_scale, "seconds": self.seconds}

    def go_on_from(self, facts: Mapping[str, Any], losses: list[float]) -> None:
        """Take over what ``facts`` gave, and the losses."""
        self.passes, self.loss_scale = Passes(**facts["passes"]), facts["loss_scale"]
        self.seconds, self.losses = facts["seconds"], losses


class LastGood:
    """A copy of the trained values as they were when the loss was last a number.

    Args:
        parameters: What is trained.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self._values = [p.detach() for p in parameters]
        self._copies = [value.clone() for value in self._values]

    def keep(self) -> None:
        """These values are good."""
        torch._foreach_copy_(self._copies, self._values)

    def bring_back(self) -> None:
        """Put the last good values in the place of those that came after."""
        torch._foreach_copy_(self._values, self._copies)
