"""The transformer blocks of a tower, run through the model's own layers, without what cannot matter.

transformers runs the same layers; this runs fewer of them. The embedding of CLIP is read at one token, so in the last
block only that token needs a query, an output projection and an MLP. A causal mask needs no padding mask beside it.
What sequences of a causal tower have in common at their beginning is computed once for all. The activation keeps one
tensor for the backward pass instead of two. While something is trained, layers that see the same input are one product.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from ..randomness import drawn_twice
from .frozen import Products, activation_of


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
    products: Products | None = None,
) -> Tensor:
    """Hidden states that leave a tower's blocks.

    Args:
        layers: The blocks in their order.
        hidden: ``(N, L, D)``, what enters the first; or packed.
        causal: Whether a token sees only itself and those before it.
        token: ``(N,)``, the place of each sequence's one token that is of interest; None for all. Where the sequences
            are packed, its place among each one's own tokens.
        checkpointing: Keep only what enters each block, and compute the rest again in the backward pass.
        packing: How the sequences are packed, if they are; they are causal then.
        products: Computes the linear layers; None for each by itself.

    Returns:
        The shape of ``hidden``, or ``(N, 1, D)`` if one token is of interest.
    """
    for index, layer in enumerate(layers):
        wanted = token if index == len(layers) - 1 else None
        if checkpointing and torch.is_grad_enabled():
            # Nothing here draws from torch's own generators, whose state checkpointing would keep.
            hidden = checkpoint(
                *(run_block, layer, hidden, causal, wanted, packing, products),
                use_reentrant=False,
                context_fn=drawn_twice,
                preserve_rng_state=False,
            )
        else:
            hidden = run_block(layer, hidden, causal, wanted, packing, products)
    return hidden


def run_block(
    layer: Any,
    hidden: Tensor,
    causal: bool,
    token: Tensor | None,
    packing: Packing | None = None,
    products: Products | None = None,
) -> Tensor:
    """One pre-norm transformer block: x + attention(norm(x)), then y + MLP(norm(y)); shapes as ``run_blocks``."""
    attended = layer.layer_norm1(hidden)
    queries = attended
    if token is not None:
        queries, hidden = _at(attended, token, packing), _at(hidden, token, packing)
    hidden = hidden + _attention(layer.self_attn, queries, attended, causal, token, packing, products)
    normed, mlp = layer.layer_norm2(hidden), layer.mlp
    return hidden + (mlp.fc2(activation_of(mlp)(mlp.fc1(normed))) if products is None else products.mlp(mlp, normed))


def _at(hidden: Tensor, token: Tensor, packing: Packing | None) -> Tensor:
    own = hidden if packing is None else packing.split(hidden)[1]
    return own.gather(1, token[:, None, None].expand(-1, 1, own.shape[-1]))


def _attention(
    attention: Any,
    queries: Tensor,
    attended: Tensor,
    causal: bool,
    token: Tensor | None,
    packing: Packing | None,
    products: Products | None,
) -> Tensor:
    each = products or (lambda modules, inputs: tuple(module(inputs) for module in modules))
    if queries is attended:  # in the order in which the model holds them, which is that of their masks
        key, value, query = each([attention.k_proj, attention.v_proj, attention.q_proj], attended)
    else:
        key, value = each([attention.k_proj, attention.v_proj], attended)
        (query,) = each([attention.q_proj], queries)
    heads = attention.head_dim, attention.scale
    if packing is None:
        mixed = _mixed(query, key, value, *heads, causal=causal, token=token)
    else:
        mixed = _mixed_packed(query, key, value, *heads, token=token, packing=packing)
    return each([attention.out_proj], mixed)[0]


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
        places = torch.arange(key.shape[1], device=query.device)
        if token is None:  # those up to a query's own, (Q, L)
            visible = places <= places[key.shape[1] - query.shape[1] :, None]
        else:  # those up to its sequence's token, (N, 1, 1, L)
            visible = (places <= token[:, None])[:, None, None]
    mix = _mix_by_products if query.is_cpu and query.dtype == torch.bfloat16 else _mix_fused
    query, key, value = (
        projected.unflatten(-1, (-1, width)).transpose(1, 2)  # type: ignore[no-untyped-call]
        for projected in (query, key, value)
    )
    mixed = mix(query, key, value, visible, causal and visible is None, scale)
    return mixed.transpose(1, 2).flatten(2)


def _mix_fused(query: Tensor, key: Tensor, value: Tensor, visible: Tensor | None, causal: bool, scale: float) -> Tensor:
    if query.is_meta and visible is None:  # torch writes it out there; what is counted there is what CUDA would run
        flash = torch.ops.aten._scaled_dot_product_flash_attention
        return flash(query, key, value, 0.0, causal, scale=scale)[0]  # type: ignore[no-any-return]
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
