"""The transformer blocks of a tower, run through the model's own layers, without what cannot matter.

transformers runs the same layers; this runs fewer of them. The embedding of CLIP is read at one token, so in the last
block only that token needs a query, an output projection and an MLP. A causal mask needs no padding mask beside it.
The activation keeps one tensor for the backward pass instead of two.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from transformers.activations import QuickGELUActivation


def run_blocks(
    layers: Sequence[nn.Module], hidden: Tensor, *, causal: bool, token: Tensor | None, checkpointing: bool = False
) -> Tensor:
    """What leaves a tower's blocks.

    Args:
        layers: The blocks in their order.
        hidden: ``(N, L, D)``, what enters the first.
        causal: Whether a token sees only itself and those before it.
        token: ``(N,)``, the place of each sequence's one token that is of interest; None for all.
        checkpointing: Keep only what enters each block, and compute the rest again in the backward pass.

    Returns:
        ``(N, L, D)``, or ``(N, 1, D)`` if one token is of interest.
    """
    for index, layer in enumerate(layers):
        wanted = token if index == len(layers) - 1 else None
        if checkpointing and torch.is_grad_enabled():
            hidden = checkpoint(run_block, layer, hidden, causal, wanted, use_reentrant=False)
        else:
            hidden = run_block(layer, hidden, causal, wanted)
    return hidden


def run_block(layer: Any, hidden: Tensor, causal: bool, token: Tensor | None) -> Tensor:
    """One pre-norm transformer block: x + attention(norm(x)), then y + MLP(norm(y)); shapes as ``run_blocks``."""
    attended, kept = layer.layer_norm1(hidden), hidden
    asking = attended
    if token is not None:
        asking, kept = _at(attended, token), _at(hidden, token)
    hidden = kept + _attention(layer.self_attn, asking, attended, causal, token)
    return hidden + _mlp(layer.mlp, layer.layer_norm2(hidden))


def _at(hidden: Tensor, token: Tensor) -> Tensor:
    return hidden[torch.arange(len(hidden), device=hidden.device), token][:, None]


def _attention(attention: Any, asking: Tensor, attended: Tensor, causal: bool, token: Tensor | None) -> Tensor:
    query, key, value = (
        _heads(projection(inputs), attention.head_dim)
        for projection, inputs in (
            (attention.q_proj, asking),
            (attention.k_proj, attended),
            (attention.v_proj, attended),
        )
    )
    visible = None
    if causal and token is not None:
        places = torch.arange(attended.shape[1], device=attended.device)
        visible = (places <= token[:, None])[:, None, None]
    mix = _mix_by_products if query.is_cpu and query.dtype == torch.bfloat16 else _mix_fused
    mixed = mix(query, key, value, visible, causal and token is None, attention.scale)
    projected: Tensor = attention.out_proj(mixed.transpose(1, 2).flatten(2))
    return projected


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
