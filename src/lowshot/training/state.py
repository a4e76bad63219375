"""Where a training run stands."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..heads.head import mean_of_last_tenth
from .step import Passes

FIRST_LOSS_SCALE = 2.0**16
"""In float16 gradients below 6e-8 are zero, so the loss is multiplied by this before it is propagated back (arXiv
1710.03740, section 3.2). A power of two: dividing by it afterwards rounds nothing."""
STEPS_TO_DOUBLE = 2000
"""Steps after which a scale that was halved is doubled again."""


@dataclasses.dataclass
class TrainingState:
    """All that decides how a run goes on, besides what it is a run of.

    Nothing random is in it: what a step draws follows from (seed, step, image).

    Args:
        parameters: What is trained.
        optimizer: Theirs.
        passes: How a batch is cut up. It decides the rounding, so a run that goes on keeps it.
        loss_scale: What the loss is multiplied by before it is propagated back; 1 but for float16.
        cut_by: The settings that ``passes`` follow from.
        is_float16: Whether gradients are computed in float16, so that the scale has to fit them.
    """

    parameters: Sequence[nn.Parameter]
    optimizer: torch.optim.Optimizer
    passes: Passes
    loss_scale: float = 1.0
    cut_by: Sequence[Any] = ()
    is_float16: bool = False
    losses: list[float] = dataclasses.field(default_factory=list)
    """Losses of the steps done so far."""
    scaled_at: int = 0
    """The step before which the scale was last changed."""
    seconds: float = 0.0
    """Spent on the steps so far."""
    stopped_at: int = 0
    """Number, from 1, of the step whose loss was no number; 0 where there was none."""
    run: str = dataclasses.field(default_factory=lambda: uuid.uuid4().hex)
    """Identifies the run to whoever is told how it goes. It decides nothing."""

    def __post_init__(self) -> None:
        self._values = lay_together(self.parameters)
        self._good = [values.clone() for values in self._values]
        self.good = parts_of(self._good, self.parameters)
        """The trained values as they were when the loss was last a number."""

    @property
    def step(self) -> int:
        """Number of the next step, from 0."""
        return len(self.losses)

    @property
    def final_loss(self) -> float | None:
        """Mean over the last tenth of the steps done."""
        return mean_of_last_tenth(self.losses)

    def keep(self) -> None:
        """The values there are now gave a loss that is a number."""
        torch._foreach_copy_(self._good, self._values)

    def keep_where(self, sound: Tensor) -> None:
        """The same where a flag on the device says so; nothing waits for it."""
        for good, values in zip(self._good, self._values, strict=True):
            torch.where(sound, values, good, out=good)

    def bring_back(self) -> None:
        """Put the last good values in the place of those there are; the update that came between is undone."""
        torch._foreach_copy_(self._values, self._good)
        self.stopped_at = len(self.losses) + 1
        self.losses = self.losses[:-1]

    def may_double_scale(self, step: int) -> bool:
        """Whether the scale has fitted for so long that it is doubled before this step."""
        is_small = self.is_float16 and self.loss_scale < FIRST_LOSS_SCALE
        return is_small and step - self.scaled_at >= STEPS_TO_DOUBLE

    def double_scale(self, step: int) -> None:
        """Multiply the loss by twice as much from this step on."""
        self.loss_scale, self.scaled_at = 2 * self.loss_scale, step

    def halve_scale(self, step: int) -> bool:
        """Multiply the loss by half as much, for this step too; False where it is not multiplied at all."""
        if self.loss_scale <= 1:
            return False
        self.loss_scale, self.scaled_at = self.loss_scale / 2, step
        return True

    def unscale_gradients(self) -> bool:
        """Take the scale out of the gradients again; False where one of them was too large for float16."""
        if self.loss_scale == 1 and not self.is_float16:
            return True
        return bool(unscaled(self.parameters, self.loss_scale))

    def facts(self) -> dict[str, Any]:
        """Return those parts of the state that JSON can hold."""
        named = {name: getattr(self, name) for name in ("loss_scale", "scaled_at", "seconds", "run")}
        return {**named, "passes": dataclasses.asdict(self.passes), "cut_by": list(self.cut_by)}

    def go_on_from(self, facts: Mapping[str, Any], losses: list[float]) -> None:
        """Take over what ``facts`` gave, and the losses; the cuts only if they were asked for in the same words."""
        if facts["cut_by"] == list(self.cut_by):
            self.passes = Passes(**facts["passes"])
        self.loss_scale, self.scaled_at = float(facts["loss_scale"]), int(facts["scaled_at"])
        self.seconds, self.losses = float(facts["seconds"]), losses
        self.run = str(facts.get("run", self.run))


def unscaled(parameters: Sequence[nn.Parameter], scale: float | Tensor) -> Tensor:
    """Divide all gradients by a scale, in place; returns on the device whether all of them are finite."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    torch._foreach_div_(gradients, scale)
    return torch.stack(torch._foreach_norm(gradients)).isfinite().all()


@torch.no_grad()
def lay_together(parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    """Move the parameters of each type into one tensor, ``(n,)``, which they are views of from now on.

    What is done to all of them is then one operation, whatever their number.
    """
    together = []
    for dtype in dict.fromkeys(parameter.dtype for parameter in parameters):
        alike = [parameter for parameter in parameters if parameter.dtype == dtype]
        together.append(torch.cat([parameter.detach().flatten() for parameter in alike]))
        for parameter, part in zip(alike, parts_of(together[-1:], alike), strict=True):
            parameter.data = part
    return together


def parts_of(values: Sequence[Tensor], parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    """Parts of tensors as ``lay_together`` gives them, in the shapes and the order of the parameters."""
    by_type = {each.dtype: each for each in values}
    ends, parts = dict.fromkeys(by_type, 0), []
    for parameter in parameters:
        start, ends[parameter.dtype] = ends[parameter.dtype], ends[parameter.dtype] + parameter.numel()
        parts.append(by_type[parameter.dtype][start : ends[parameter.dtype]].view_as(parameter))
    return parts
