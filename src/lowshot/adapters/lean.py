"""LoRA layers that keep less: the same update as PEFT's, by one differentiable operation.

PEFT casts the input, multiplies it by a dropout mask and keeps both for the backward pass, for q, k and v each: more
than everything else the block keeps. Here the input is kept as it is, once for all three, and of the mask one byte per
entry; what else the backward pass needs is computed again from them.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora import layer as lora_layer
from torch import Tensor, nn

from .dropout import SampleDropout


class LeanMixin(lora_layer.LoraLayer):  # type: ignore[misc]
    """Replaces the forward pass of a PEFT LoRA layer in the one case that training needs; PEFT does all others."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """``(N, ..., I)`` to ``(N, ..., O)``: W x + bias + scaling * B A dropout(x)."""
        name = self._lean_adapter()
        if name is None or args or kwargs:
            unchanged: Tensor = super().forward(x, *args, **kwargs)
            return unchanged
        result: Tensor = self.base_layer(x)
        dropout = self.lora_dropout[name]
        mask = dropout.kept(x) if isinstance(dropout, SampleDropout) else None
        scale = self.scaling[name]
        inner = scale if mask is None else scale / dropout.share_kept
        update: Tensor = _LowRank.apply(x, mask, self.lora_A[name].weight, self.lora_B[name].weight, inner)  # type: ignore[no-untyped-call]
        return result + update.to(result.dtype)

    def _lean_adapter(self) -> str | None:
        """The one active adapter, if it is plain LoRA with a dropout that can be asked for its mask."""
        active = [name for name in self.active_adapters if name in self.lora_A]
        if self.disable_adapters or self.merged or len(active) != 1 or active[0] in self.lora_variant:
            return None
        fits = isinstance(self.lora_dropout[active[0]], SampleDropout | nn.Identity)
        return active[0] if fits and not self.lora_bias[active[0]] else None


def modules_with(mixin: type[lora_layer.LoraLayer]) -> dict[type[nn.Module], type[nn.Module]]:
    """Base layer type -> PEFT's LoRA layer type for it, with a mixin before it.

    The quantised ones come first, since they derive from ``nn.Linear``.
    """
    layers: dict[type[nn.Module], type[nn.Module]] = {}
    try:
        import bitsandbytes
        from peft.tuners.lora import bnb
    except ImportError:
        pass
    else:
        layers[bitsandbytes.nn.Linear4bit] = type("Linear4bit", (mixin, bnb.Linear4bit), {})
        layers[bitsandbytes.nn.Linear8bitLt] = type("Linear8bitLt", (mixin, bnb.Linear8bitLt), {})
    layers[nn.Linear] = type("Linear", (mixin, lora_layer.Linear), {})
    return layers


class _LowRank(torch.autograd.Function):
    """scale * B A (x * mask), in the type of A and B; A, B and x get gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mask: Tensor | None, a: Tensor, b: Tensor, scale: float) -> Tensor:
        inner = _masked(x, mask, a.dtype) @ a.T
        ctx.save_for_backward(x, mask, inner, a, b)
        ctx.scale = scale
        return inner @ (scale * b).T

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        x, mask, inner, a, b = ctx.saved_tensors
        needs_x, _, needs_a, needs_b, _ = ctx.needs_input_grad
        scaled = gradient.to(a.dtype) * ctx.scale
        to_inner = scaled @ b
        to_x = to_a = to_b = None
        if needs_b:
            to_b = _flat(scaled).T @ _flat(inner)
        if needs_a:
            to_a = _flat(to_inner).T @ _flat(_masked(x, mask, a.dtype))
        if needs_x:
            to_x = to_inner @ a
            to_x = (to_x if mask is None else to_x.mul_(mask)).to(x.dtype)
        return to_x, None, to_a, to_b, None


def _masked(x: Tensor, mask: Tensor | None, dtype: torch.dtype) -> Tensor:
    return x.to(dtype) if mask is None else x.to(dtype) * mask


def _flat(tensor: Tensor) -> Tensor:
    return tensor.flatten(0, -2)
