"""The transformer blocks of a tower, run through the model's own layers, without what cannot matter.

transformers runs the same layers; this runs fewer of them. The embedding of CLIP is read at one token, so in the last
block only that token needs a query, an output projection and an MLP. A causal mask needs no padding mask beside it.
What sequences of a causal tower have in common at their beginning is computed once for all. The activation keeps one
tensor for the backward pass instead of two.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from transformers.activations import QuickGELUActivation


@dataclasses.dataclass(frozen=True)
class Packing:
    """How N causal sequences that begin alike lie in one row ``(1, P + N * L, D)``: what they share, then their own.

    In a causal tower no token sees a later one, so the P tokens that all sequences begin with have the same hidden
    states in each of them. All but attention goes token by token: in one row it is done once for each token there is.
    """

    shared: int
    """P, the tokens that all sequences begin with."""
    sequences: int
    """N."""

    def split(self, row: Tensor) -> tuple[Tensor, Tensor]:
        """The row into ``(1, P, D)`` and ``(N, L, D)``."""
        shared, own = torch.split(row, [self.shared, row.shape[1] - self.shared], dim=1)
        return shared, own.reshape(self.sequences, -1, own.shape[-1])

    @staticmethod
    def join(shared: Tensor, own: Tensor) -> Tensor:
        """The opposite of ``split``."""
        return torch.cat([shared, own.flatten(0, 1)[None]], 1)


def run_blocks(
    layers: Sequence[nn.Module],
    hidden: Tensor,
    *,
    causal: bool,
    token: Tensor | None,
    checkpointing: bool = False,
    packing: Packing | None = None,
) -> Tensor:
    """What leaves a tower's blocks.

    Args:
        layers: The blocks in their order.
        hidden: ``(N, L, D)``, what enters the first; or packed.
        causal: Whether a token sees only itself and those before it.
        token: ``(N,)``, the place of each sequence's one token that is of interest; None for all. Where the sequences
            are packed, its place among each one's own tokens.
        checkpointing: Keep only what enters each block, and compute the rest again in the backward pass.
        packing: How the sequences are packed, if they are; they are causal then.

    Returns:
        The shape of ``hidden``, or ``(N, 1, D)`` if one token is of interest.
    """
    for index, layer in enumerate(layers):
        wanted = token if index == len(layers) - 1 else None
        if checkpointing and torch.is_grad_enabled():
            hidden = checkpoint(run_block, layer, hidden, causal, wanted, packing, use_reentrant=False)
        else:
            hidden = run_block(layer, hidden, causal, wanted, packing)
    return hidden


def run_block(layer: Any, hidden: Tensor, causal: bool, token: Tensor | None, packing: Packing | None = None) -> Tensor:
    """One pre-norm transformer block: x + attention(norm(x)), then y + MLP(norm(y)); shapes as ``run_blocks``."""
    attended, kept = layer.layer_norm1(hidden), hidden
    asking = attended
    if token is not None:
        asking, kept = _at(attended, token, packing), _at(hidden, token, packing)
    hidden = kept + _attention(layer.self_attn, asking, attended, causal, token, packing)
    return hidden + _mlp(layer.mlp, layer.layer_norm2(hidden))


def _at(hidden: Tensor, token: Tensor, packing: Packing | None) -> Tensor:
    own = hidden if packing is None else packing.split(hidden)[1]
    return own[torch.arange(len(own), device=own.device), token][:, None]


def _attention(
    attention: Any, asking: Tensor, attended: Tensor, causal: bool, token: Tensor | None, packing: Packing | None
) -> Tensor:
    query, key, value = attention.q_proj(asking), attention.k_proj(attended), attention.v_proj(attended)
    heads = attention.head_dim, attention.scale
    if packing is None:
        mixed = _mixed(query, key, value, *heads, causal=causal, token=token)
    else:
        mixed = _mixed_packed(query, key, value, *heads, token=token, packing=packing)
    projected: Tensor = attention.out_proj(mixed)
    return projected


def _mixed_packed(
    query: Tensor, key: Tensor, value: Tensor, width: int, scale: float, *, token: Tensor | None, packing: Packing
) -> Tensor:
    """Attention within what is shared, and from each sequence's own tokens to what is shared and to themselves."""
    (shared_key, own_key), (shared_value, own_value) = packing.split(key), packing.split(value)
    keys, values = (
        torch.cat([shared.expand(packing.sequences, -1, -1), own], 1)
        for shared, own in ((shared_key, own_key), (shared_value, own_value))
    )
    if token is not None:
        return _mixed(query, keys, values, width, scale, causal=True, token=token + packing.shared)
    shared_query, own_query = packing.split(query)
    return packing.join(
        _mixed(shared_query, shared_key, shared_value, width, scale, causal=True),
        _mixed(own_query, keys, values, width, scale, causal=True),
    )


def _mixed(
    query: Tensor, key: Tensor, value: Tensor, width: int, scale: float, *, causal: bool, token: Tensor | None = None
) -> Tensor:
    """Attention of heads that are ``width`` wide, ``(N, Q, D)`` to ``(N, L, D)``.

    The queries are those of the last places, or each that of its sequence's one ``token``.
    """
    visible = None
    if causal and (token is not None or query.shape[1] < key.shape[1]):
        visible = _visible(query.shape[1], key.shape[1], token, query.device)
    mix = _mix_by_products if query.is_cpu and query.dtype == torch.bfloat16 else _mix_fused
    query, key, value = (_heads(projected, width) for projected in (query, key, value))
    mixed = mix(query, key, value, visible, causal and visible is None, scale)
    return mixed.transpose(1, 2).flatten(2)


def _visible(queries: int, keys: int, token: Tensor | None, device: torch.device) -> Tensor:
    """Which places a query sees: those up to its own, ``(Q, L)``, or up to its sequence's token, ``(N, 1, 1, L)``."""
    places = torch.arange(keys, device=device)
    if token is not None:
        return (places <= token[:, None])[:, None, None]
    return places <= places[keys - queries :, None]


def _mix_fused(query: Tensor, key: Tensor, value: Tensor, visible: Tensor | None, causal: bool, scale: float) -> Tensor:
    return functional.scaled_dot_product_attention(query, key, value, attn_mask=visible, is_causal=causal, scale=scale)


def _mix_by_products(
    query: Tensor, key: Tensor, value: Tensor, visible: Tensor | None, causal: bool, scale: float
) -> Tensor:
    """Attention written out. In bfloat16 on a CPU it is 2.5 times as fast as the fused kernel, forward and back."""
    scores = (query * scale) @ key.transpose(-1, -2)
    if causal:
        visible = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if visible is not None:
        scores = scores.masked_fill(~visible, -torch.inf)
    return torch.softmax(scores, dim=-1) @ value


def _heads(projected: Tensor, width: int) -> Tensor:
    return projected.unflatten(-1, (-1, width)).transpose(1, 2)  # type: ignore[no-untyped-call, no-any-return]


def _mlp(mlp: Any, inputs: Tensor) -> Tensor:
    activation = _QuickGelu.apply if isinstance(mlp.activation_fn, QuickGELUActivation) else mlp.activation_fn
    projected: Tensor = mlp.fc2(activation(mlp.fc1(inputs)))
    return projected


class _QuickGelu(torch.autograd.Function):
    """x sigmoid(1.702 x), OpenAI's activation; the sigmoid is computed again instead of kept."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor) -> Tensor:
        ctx.save_for_backward(inputs)
        return torch.sigmoid_(1.702 * inputs).mul_(inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (inputs,) = ctx.saved_tensors
        gate = torch.sigmoid_(1.702 * inputs)
        # d/dx = s + 1.702 x s (1 - s) = s (1 + 1.702 x (1 - s))
        slope = (1 - gate).mul_(inputs).mul_(1.702).add_(1).mul_(gate)
        return slope.mul_(gradient)
