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
    inputs: Tensor,
    masks: Tensor | None,
    a: Tensor,
    b: Tensor,
    places: Sequence[int],
    onto: Tensor | None = None,
    adapters: int = 1,
) -> Tensor:
    """B A (x * mask) of J layers that see the same input, in the type of A and B; x, A and B get gradients.

    Each layer may have several adapters, G of them: the first G-th of the rows goes through the first, and so on.

    Args:
        inputs: x, ``(T, I)``.
        masks: Ones and zeros, J times the number of entries of the input; None for none.
        a: ``(J * G, R, I)``, layer after layer.
        b: ``(J * G, O, R)``.
        places: Of each layer its place among those whose outputs lie side by side.
        onto: Outputs ``(T, n * O)`` of n layers, which the updates are added to, in place.
        adapters: G, of which T is a multiple.

    Returns:
        ``onto``, or where it is not given the updates of the J layers side by side, ``(T, J * O)``.
    """
    joined = None if masks is None else masks.view(len(a), -1, inputs.shape[1])
    apply: Any = _LowRank.apply
    outputs: Tensor = apply(onto, inputs, joined, a, b, tuple(places), adapters)
    return outputs


class _LowRank(torch.autograd.Function):
    """See ``low_rank``. What belongs to one adapter of one layer lies together: ``(J * G, T / G, ...)``."""

    @staticmethod
    def forward(
        ctx: Any,
        onto: Tensor | None,
        x: Tensor,
        masks: Tensor | None,
        a: Tensor,
        b: Tensor,
        places: tuple[int, ...],
        adapters: int,
    ) -> Tensor:
        layers, ranks = len(a) // adapters, a.shape[1]
        if masks is None:  # all J layers as one product
            inner = _by_adapter(x.to(a.dtype), adapters) @ _layers_last(a, adapters).mT
            inner = inner.view(adapters, -1, layers, ranks).permute(2, 0, 1, 3).flatten(0, 1)
        else:
            parts = _at_once(masks, adapters)
            inner = _joined([torch.bmm(_masked(x, masks[some], a.dtype), a[some].mT) for some in parts])
        ctx.save_for_backward(x, masks, inner, a, b)
        ctx.places, ctx.adapters = places, adapters
        if onto is None:
            updates = torch.bmm(inner, b.mT).view(layers, len(x), -1)
            return updates.transpose(0, 1).reshape(len(x), -1)
        ctx.mark_dirty(onto)
        for part, rows in _runs(onto, b.shape[1], places, adapters):
            if part.dtype == b.dtype:
                part.baddbmm_(inner[rows], b[rows].mT)
            else:
                part.add_(torch.bmm(inner[rows], b[rows].mT))
        return onto

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        x, masks, inner, a, b = ctx.saved_tensors
        gradient, adapters = gradient.contiguous(), ctx.adapters
        needs_onto, needs_x, _, needs_a, needs_b, *_ = ctx.needs_input_grad
        runs = [(part.to(b.dtype), rows) for part, rows in _runs(gradient, b.shape[1], ctx.places, adapters)]
        to_inner = _joined([torch.bmm(part, b[rows]) for part, rows in runs])
        to_x = to_a = to_b = None
        if needs_b:
            to_b = _joined([torch.bmm(part.mT, inner[rows]) for part, rows in runs])
        to_ranks = _layers_last(to_inner.mT, adapters) if masks is None else None
        if needs_a and to_ranks is not None:
            each = to_ranks @ _by_adapter(x.to(a.dtype), adapters)
            to_a = each.view(adapters, -1, *a.shape[1:]).transpose(0, 1).reshape(a.shape)
        elif needs_a:
            seen = ((some, _masked(x, masks[some], a.dtype)) for some in _at_once(masks, adapters))
            to_a = _joined([torch.bmm(to_inner[some].mT, inputs) for some, inputs in seen])
        if needs_x and to_ranks is not None:
            to_x = (to_ranks.mT @ _layers_last(a, adapters)).view(x.shape).to(x.dtype)
        elif needs_x:
            parts = (torch.bmm(to_inner[some], a[some]).mul_(masks[some]) for some in _at_once(masks, adapters))
            sums = (part.view(-1, *x.shape).sum(0) for part in parts)
            to_x = functools.reduce(Tensor.add_, sums).to(x.dtype)
        return gradient if needs_onto else None, to_x, None, to_a, to_b, None, None


def _by_adapter(rows: Tensor, adapters: int) -> Tensor:
    """``(T, I)`` as ``(G, T / G, I)``."""
    return rows.view(adapters, -1, rows.shape[1])


def _layers_last(each: Tensor, adapters: int) -> Tensor:
    """``(J * G, R, ...)`` as ``(G, J * R, ...)``; one adapter's is a view."""
    return each.view(-1, adapters, *each.shape[1:]).transpose(0, 1).flatten(1, 2)


def _masked(x: Tensor, masks: Tensor, dtype: torch.dtype) -> Tensor:
    """The input of each layer, ``(J, T, I)``, in the shape of the masks ``(J * G, T / G, I)``."""
    return (x.to(dtype) * masks.view(-1, *x.shape)).view(masks.shape)


def _at_once(masks: Tensor, adapters: int) -> list[slice]:
    """Which layers' masked inputs are made at the same time: on a CPU one layer's, which fit into its cache."""
    if not masks.is_cpu:
        return [slice(0, len(masks))]
    return [slice(first, first + adapters) for first in range(0, len(masks), adapters)]


def _runs(outputs: Tensor, width: int, places: Sequence[int], adapters: int) -> list[tuple[Tensor, slice]]:
    """Views ``(J' * G, T / G, O)`` of the outputs of layers that lie next to each other, and which of the J * G."""
    if adapters > 1:  # layers and adapters are no one axis of a view
        each = outputs.view(adapters, len(outputs) // adapters, -1, width).permute(2, 0, 1, 3)
        return [(each[place], slice(at * adapters, (at + 1) * adapters)) for at, place in enumerate(places)]
    by_layer = outputs.view(len(outputs), -1, width).transpose(0, 1)
    runs, start = [], 0
    for index in range(1, len(places) + 1):
        if index == len(places) or places[index] != places[index - 1] + 1:
            runs.append((by_layer[places[start] : places[index - 1] + 1], slice(start, index)))
            start = index
    return runs


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))
