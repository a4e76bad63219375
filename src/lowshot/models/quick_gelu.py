"""OpenAI's activation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

GATE = 1.702


class QuickGelu(torch.autograd.Function):
    """x sigmoid(1.702 x), computed as silu(1.702 x) / 1.702; of its tensors the input alone is kept."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor) -> Tensor:
        ctx.save_for_backward(inputs)
        return functional.silu(GATE * inputs, inplace=True).mul_(1 / GATE)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (inputs,) = ctx.saved_tensors
        return torch.ops.aten.silu_backward(gradient, GATE * inputs)  # type: ignore[no-any-return]


class QuickGeluActivation(nn.Module):
    """The activation as a module; ``is_quick_gelu`` knows it."""

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = QuickGelu.apply(inputs)  # type: ignore[no-untyped-call]
        return outputs


def is_quick_gelu(activation: object) -> bool:
    """Whether a block's activation is QuickGELU: the module here, or transformers', which is not imported for this."""
    return type(activation).__name__ in (QuickGeluActivation.__name__, "QuickGELUActivation")
