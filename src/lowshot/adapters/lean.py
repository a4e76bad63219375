"""LoRA layers that keep less: the same update as PEFT's, by one differentiable operation.

PEFT casts the input, multiplies it by a dropout mask and keeps both for the backward pass, for q, k and v each: more
than everything else the block keeps. Here the input is kept as it is, once for all three, and of the mask one byte per
entry; what else the backward pass needs is computed again from them.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from peft.tuners.lora import layer as lora_layer
from torch import Tensor, nn

from .dropout import SampleDropout


class LeanMixin(lora_layer.LoraLayer):  # type: ignore[misc]
    """Replaces the forward pass of a PEFT LoRA layer in the one case that training needs; PEFT does all others."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """``(N, ..., I)`` to ``(N, ..., O)``: W x + bias + scaling * B A dropout(x)."""
        name = self.lean_adapter()
        if name is None or args or kwargs:
            unchanged: Tensor = super().forward(x, *args, **kwargs)
            return unchanged
        result: Tensor = self.base_layer(x)
        dropout = self.lora_dropout[name]
        mask = dropout.mask(x) if isinstance(dropout, SampleDropout) else None
        scale = self.scaling[name] if mask is None else self.training_scale(name)
        a, b = self.lora_A[name].weight, scale * self.lora_B[name].weight
        update = low_rank(x.flatten(0, -2), mask, a[None], b[None], [0])
        return result + update.view(result.shape).to(result.dtype)

    def lean_adapter(self) -> str | None:
        """The one active adapter, if it is plain LoRA with a dropout that can be asked for its mask."""
        active = [name for name in self.active_adapters if name in self.lora_A]
        if self.disable_adapters or self.merged or len(active) != 1 or active[0] in self.lora_variant:
            return None
        fits = isinstance(self.lora_dropout[active[0]], SampleDropout | nn.Identity)
        return active[0] if fits and not self.lora_bias[active[0]] else None

    def training_scale(self, name: str) -> float:
        """Factor of an update in training: the scaling, and compensation for entries that are dropped."""
        dropout, scale = self.lora_dropout[name], float(self.scaling[name])
        return scale / dropout.share_kept if isinstance(dropout, SampleDropout) else scale


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


def low_rank(
    inputs: Tensor, masks: Tensor | None, a: Tensor, b: Tensor, places: Sequence[int], onto: Tensor | None = None
) -> Tensor:
    """B A (x * mask) of J layers that see the same input, in the type of A and B; x, A and B get gradients.

    Args:
        inputs: x, ``(T, I)``.
        masks: Ones and zeros, J times the number of entries of the input; None for none.
        a: ``(J, R, I)``.
        b: ``(J, O, R)``.
        places: Of each layer its place among those whose outputs lie side by side.
        onto: Outputs ``(T, n * O)`` of n layers, which the updates are added to, in place.

    Returns:
        ``onto``, or where it is not given the updates of the J layers side by side, ``(T, J * O)``.
    """
    joined = None if masks is None else masks.view(len(a), *inputs.shape)
    outputs: Tensor = _LowRank.apply(onto, inputs, joined, a, b, tuple(places))  # type: ignore[no-untyped-call]
    return outputs


class _LowRank(torch.autograd.Function):
    """See ``low_rank``."""

    @staticmethod
    def forward(
        ctx: Any, onto: Tensor | None, x: Tensor, masks: Tensor | None, a: Tensor, b: Tensor, places: tuple[int, ...]
    ) -> Tensor:
        if masks is None:  # all J layers as one product
            inner = (x.to(a.dtype) @ a.flatten(0, 1).T).view(len(x), *a.shape[:2]).transpose(0, 1)
        else:
            inner = _joined([torch.bmm(_masked(x, masks[some], a.dtype), a[some].mT) for some in _at_once(masks)])
        ctx.save_for_backward(x, masks, inner, a, b)
        ctx.places = places
        if onto is None:
            return torch.bmm(inner, b.mT).transpose(0, 1).reshape(len(x), -1)
        ctx.mark_dirty(onto)
        for part, rows in _runs(onto, b.shape[1], places):
            if part.dtype == b.dtype:
                part.baddbmm_(inner[rows], b[rows].mT)
            else:
                part.add_(torch.bmm(inner[rows], b[rows].mT))
        return onto

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        x, masks, inner, a, b = ctx.saved_tensors
        gradient = gradient.contiguous()
        needs_onto, needs_x, _, needs_a, needs_b, _ = ctx.needs_input_grad
        runs = [(part.to(b.dtype), rows) for part, rows in _runs(gradient, b.shape[1], ctx.places)]
        to_inner = _joined([torch.bmm(part, b[rows]) for part, rows in runs])
        to_x = to_a = to_b = None
        if needs_b:
            to_b = _joined([torch.bmm(part.mT, inner[rows]) for part, rows in runs])
        if needs_a and masks is None:
            to_a = (to_inner.transpose(0, 1).flatten(1).T @ x.to(a.dtype)).view(a.shape)
        elif needs_a:
            seen = ((some, _masked(x, masks[some], a.dtype)) for some in _at_once(masks))
            to_a = _joined([torch.bmm(to_inner[some].mT, inputs) for some, inputs in seen])
        if needs_x and masks is None:
            to_x = (to_inner.transpose(0, 1).flatten(1) @ a.flatten(0, 1)).to(x.dtype)
        elif needs_x:
            parts = (torch.bmm(to_inner[some], a[some]).mul_(masks[some]).sum(0) for some in _at_once(masks))
            to_x = functools.reduce(Tensor.add_, parts).to(x.dtype)
        return gradient if needs_onto else None, to_x, None, to_a, to_b, None


def _masked(x: Tensor, masks: Tensor, dtype: torch.dtype) -> Tensor:
    return x.to(dtype) * masks


def _at_once(masks: Tensor) -> list[slice]:
    """Which layers' masked inputs are made at the same time: on a CPU one layer's, which fit into its cache."""
    layers = len(masks)
    return [slice(layer, layer + 1) for layer in range(layers)] if masks.is_cpu else [slice(0, layers)]


def _runs(outputs: Tensor, width: int, places: Sequence[int]) -> list[tuple[Tensor, slice]]:
    """Layers whose outputs lie next to each other: a view ``(J', T, O)`` of those, and which of the J they are."""
    by_layer = outputs.view(len(outputs), -1, width).transpose(0, 1)
    runs, start = [], 0
    for index in range(1, len(places) + 1):
        if index == len(places) or places[index] != places[index - 1] + 1:
            runs.append((by_layer[places[start] : places[index - 1] + 1], slice(start, index)))
            start = index
    return runs


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))
