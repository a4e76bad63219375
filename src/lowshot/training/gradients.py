"""A step's gradients, taken again where memory or the range of float16 did not suffice."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..models import Partway
from .state import TrainingState
from .step import ExactStep

FIRST_LOSS_SCALE = 2.0**16
"""In float16 gradients below 6e-8 are zero, so the loss is multiplied by this before it is propagated back (arXiv
1710.03740, section 3.2). A power of two: dividing by it afterwards rounds nothing."""
STEPS_TO_DOUBLE = 2000
"""Steps after which a scale that was halved is doubled again."""


@dataclasses.dataclass
class StepGradients:
    """(number of the step, rows of its batch) to the loss; the gradients are left on the parameters.

    Args:
        state: Of the run; the cuts and the scale that proved right are kept in it.
        exact: What computes the gradients.
        images_of: (number of the step, rows) to their images.
        labels: Of all examples, ``(N,)``, on the model's device.
    """

    state: TrainingState
    exact: ExactStep
    images_of: Callable[[int, Sequence[int]], Tensor | Partway]
    labels: Tensor

    def __call__(self, number: int, rows: Sequence[int]) -> float:
        state = self.state
        may_grow = self._is_float16 and state.loss_scale < FIRST_LOSS_SCALE
        if may_grow and number - state.scaled_at >= STEPS_TO_DOUBLE:
            state.loss_scale, state.scaled_at = 2 * state.loss_scale, number
        while True:
            loss = self._in_memory(number, rows)
            if not math.isfinite(loss) or self._are_in_range():
                return loss
            if state.loss_scale <= 1:
                return math.nan
            state.loss_scale, state.scaled_at = state.loss_scale / 2, number

    @property
    def _is_float16(self) -> bool:
        return self.exact.backbone.dtype == torch.float16

    def _in_memory(self, number: int, rows: Sequence[int]) -> float:
        """The loss and the gradients, with as much at once as there is memory for."""
        while True:
            try:
                return self._once(number, rows)
            except torch.OutOfMemoryError:
                smaller = self.state.passes.halved()
                if smaller is None or self.exact.processes.count > 1:  # the others would wait for what never comes
                    raise
            self.state.passes = smaller  # outside: what is caught holds on to the whole graph
            torch.cuda.empty_cache()

    def _once(self, number: int, rows: Sequence[int]) -> float:
        for parameter in self.state.parameters:
            parameter.grad = None
        self.exact.passes, self.exact.loss_scale = self.state.passes, self.state.loss_scale
        labels = self.labels[torch.as_tensor(list(rows), device=self.labels.device)]
        loss = self.exact.accumulate(number, rows, labels, functools.partial(self.images_of, number))
        self.exact.processes.add_up_gradients(self.state.parameters)
        return loss

    def _are_in_range(self) -> bool:
        """Take the scale out of the gradients again; False where one of them was too large for float16."""
        if self.state.loss_scale == 1 and not self._is_float16:
            return True
        gradients = [p.grad for p in self.state.parameters if p.grad is not None]
        torch._foreach_div_(gradients, self.state.loss_scale)
        return bool(torch.stack(torch._foreach_norm(gradients)).isfinite().all())
