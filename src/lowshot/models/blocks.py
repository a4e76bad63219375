"""The transformer blocks of a tower, run through the model's own layers, without what cannot matter.

transformers runs the same layers; this runs fewer of them. The embedding of CLIP is read at one token, so in the last
block only that token needs a query, an output projection and an MLP. A causal mask needs no padding mask beside it.
What sequences of a causal tower have in common at their beginning is computed once for all. The activation keeps one
tensor for the backward pass instead of two. While something is trained, layers that see the same input are one product.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from ..randomness import drawn_twice
from .frozen import Products, activation_of
from .layout import BlockLayout, Parts
from .precision import multiplies_bfloat16


@dataclasses.dataclass(frozen=True)
class Rotary:
    """Angles that queries and keys are turned by (arXiv 2104.09864), of W numbers each."""

    angles: Tensor
    """``(2, L, W)``, cosine and sine, of the L first tokens; those behind are not turned."""
    by_halves: bool = False
    """Whether each number of the first half is turned with one of the second, or each even one with the next."""

    def turned(self, tokens: Tensor) -> Tensor:
        """Queries or keys ``(N, H, L, W)`` of all tokens, turned."""
        cosine, sine = self.angles.to(tokens.dtype)
        first, behind = tokens[..., : len(cosine), :], tokens[..., len(cosine) :, :]
        if self.by_halves:
            one, other = first.chunk(2, dim=-1)
            across = torch.cat([-other, one], -1)
        else:
            across = torch.stack([-first[..., 1::2], first[..., ::2]], -1).flatten(-2)
        return torch.cat([first * cosine + across * sine, behind], -2)


@dataclasses.dataclass(frozen=True)
class Attention:
    """The tokens that each token sees, in every block of a tower."""

    causal: bool
    """Whether a token sees only itself and those before it."""
    words: Tensor | None = None
    """``(N, L)``, which tokens are seen, as padding is not; None where all are. A causal tower needs none."""
    rotary: Rotary | None = None
    """The rotation of queries and keys; None where there is none."""
    watch: Callable[[Attended], None] | None = None
    """Is told of each block; see ``Backbone.watched``."""


class Attended(NamedTuple):
    """The mixtures of one block's H heads, each W numbers wide: ``mixed = softmax(scale * query key^T) value``."""

    query: Tensor
    """``(N, H, Q, W)``; in the last block of a tower that is read at one token that token alone."""
    key: Tensor
    """``(N, H, L, W)``."""
    value: Tensor
    """``(N, H, L, W)``."""
    mixed: Tensor
    """``(N, H, Q, W)``."""
    scale: float


@dataclasses.dataclass(frozen=True)
class Packing:
    """How N causal sequences that begin alike lie in one row ``(1, P + N * L, D)``: what they share, then their own.

    Where each G-th of them begins alike they lie in as many rows, ``(G, P + N / G * L, D)``.

    In a causal tower no token sees a later one, so the P tokens that all sequences begin with have the same hidden
    states in each of them. All but attention goes token by token: in one row it is done once for each token there is.
    """

    shared: int
    """P, the tokens that all sequences begin with."""
    sequences: int
    """N."""

    def split(self, row: Tensor) -> tuple[Tensor, Tensor]:
        """The rows into ``(G, P, D)`` and ``(N, L, D)``."""
        shared, own = torch.split(row, [self.shared, row.shape[1] - self.shared], dim=1)
        return shared, own.reshape(self.sequences, -1, own.shape[-1])

    @staticmethod
    def join(shared: Tensor, own: Tensor) -> Tensor:
        """The opposite of ``split``."""
        return torch.cat([shared, own.reshape(len(shared), -1, own.shape[-1])], 1)

    def each(self, shared: Tensor) -> Tensor:
        """The shared part, once for each sequence: ``(N, P, D)``."""
        alike = self.sequences // len(shared)
        return shared[:, None].expand(-1, alike, -1, -1).flatten(0, 1)


def run_blocks(
    layers: Sequence[nn.Module],
    hidden: Tensor,
    *,
    layout: BlockLayout,
    attention: Attention,
    token: Tensor | None,
    checkpointing: bool = False,
    packing: Packing | None = None,
    products: Products | None = None,
) -> Tensor:
    """Hidden states that leave a tower's blocks.

    Args:
        layers: The blocks in their order.
        hidden: ``(N, L, D)``, what enters the first; or packed.
        layout: Where the parts of a block are.
        attention: What tokens see of each other.
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
                *(run_block, layer, hidden, layout, attention, wanted, packing, products),
                use_reentrant=False,
                context_fn=drawn_twice,
                preserve_rng_state=False,
            )
        else:
            hidden = run_block(layer, hidden, layout, attention, wanted, packing, products)
    return hidden


def run_block(
    layer: nn.Module,
    hidden: Tensor,
    layout: BlockLayout,
    attention: Attention,
    token: Tensor | None,
    packing: Packing | None = None,
    products: Products | None = None,
) -> Tensor:
    """One transformer block; shapes as ``run_blocks``.

    It is x + attention(norm(x)), then y + MLP(norm(y)); where the norms come last it is norm(x + attention(x)), then
    norm(y + MLP(y)).
    """
    parts = layout.parts(layer)
    attended = parts.attention_norm(hidden) if layout.norms_first else hidden
    queries = attended
    if token is not None:
        queries, hidden = _at(attended, token, packing), _at(hidden, token, packing)
    added = _attended(parts, layout, queries, attended, attention, token, packing, products)
    hidden = hidden + _scaled(added, parts.attention_gain)
    if layout.norms_first:
        return hidden + _scaled(_through_mlp(parts, parts.mlp_norm(hidden), products), parts.mlp_gain)
    hidden = parts.attention_norm(hidden)
    normed: Tensor = parts.mlp_norm(hidden + _scaled(_through_mlp(parts, hidden, products), parts.mlp_gain))
    return normed


def _scaled(added: Tensor, gain: nn.Module | None) -> Tensor:
    scaled: Tensor = added if gain is None else gain(added)
    return scaled


def _through_mlp(parts: Parts, inputs: Tensor, products: Products | None) -> Tensor:
    if parts.gate is not None:
        each = products or _each
        gate, inner = each([parts.gate, parts.first], inputs)
        return each([parts.second], parts.activation(gate) * inner)[0]
    if products is not None:
        return products.mlp(parts.first, parts.activation, parts.second, inputs)
    outputs: Tensor = parts.second(activation_of(parts.activation)(parts.first(inputs)))
    return outputs


def _at(hidden: Tensor, token: Tensor, packing: Packing | None) -> Tensor:
    own = hidden if packing is None else packing.split(hidden)[1]
    return own.gather(1, token[:, None, None].expand(-1, 1, own.shape[-1]))


def _attended(
    parts: Parts,
    layout: BlockLayout,
    queries: Tensor,
    attended: Tensor,
    attention: Attention,
    token: Tensor | None,
    packing: Packing | None,
    products: Products | None,
) -> Tensor:
    each = products or _each
    # In the order in which the model holds them, which is that of their masks.
    together = [field for field in layout.order if queries is attended or field != "query"]
    projected = dict(zip(together, each([getattr(parts, field) for field in together], attended), strict=True))
    query = projected["query"] if queries is attended else each([parts.query], queries)[0]
    heads = parts.head_width, parts.scale
    if packing is None:
        mixed = _mixed(query, projected["key"], projected["value"], *heads, attention=attention, token=token)
    else:
        mixed = _mixed_packed(query, projected["key"], projected["value"], *heads, token=token, packing=packing)
    return each([parts.out], mixed)[0]


def _each(modules: Sequence[nn.Module], inputs: Tensor) -> tuple[Tensor, ...]:
    return tuple(module(inputs) for module in modules)


def _mixed_packed(
    query: Tensor, key: Tensor, value: Tensor, width: int, scale: float, *, token: Tensor | None, packing: Packing
) -> Tensor:
    """Attention within what is shared, and from each sequence's own tokens to what is shared and to themselves."""
    (shared_key, own_key), (shared_value, own_value) = packing.split(key), packing.split(value)
    keys, values = (
        torch.cat([packing.each(shared), own], 1) for shared, own in ((shared_key, own_key), (shared_value, own_value))
    )
    causal = Attention(causal=True)
    if token is not None:
        return _mixed(query, keys, values, width, scale, attention=causal, token=token + packing.shared)
    shared_query, own_query = packing.split(query)
    return packing.join(
        _mixed(shared_query, shared_key, shared_value, width, scale, attention=causal),
        _mixed(own_query, keys, values, width, scale, attention=causal),
    )


def _mixed(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    width: int,
    scale: float,
    *,
    attention: Attention,
    token: Tensor | None = None,
) -> Tensor:
    """Attention of heads that are ``width`` wide, ``(N, Q, D)`` to ``(N, L, D)``.

    The queries are those of the last places, or each that of its sequence's one ``token``.
    """
    visible = None if attention.words is None else attention.words[:, None, None]
    if attention.causal and (token is not None or query.shape[1] < key.shape[1]):
        places = torch.arange(key.shape[1], device=query.device)
        if token is None:  # those up to a query's own, (Q, L)
            visible = places <= places[key.shape[1] - query.shape[1] :, None]
        else:  # those up to its sequence's token, (N, 1, 1, L)
            visible = (places <= token[:, None])[:, None, None]
    mix = _mix_fused
    if query.is_cpu and query.dtype in (torch.bfloat16, torch.float16):
        mix = _mix_by_products if query.dtype == torch.bfloat16 and multiplies_bfloat16() else _mix_in_float32
    query, key, value = (
        projected.unflatten(-1, (-1, width)).transpose(1, 2)  # type: ignore[no-untyped-call]
        for projected in (query, key, value)
    )
    if attention.rotary is not None:
        query, key = attention.rotary.turned(query), attention.rotary.turned(key)
    mixed = mix(query, key, value, visible, attention.causal and visible is None, scale)
    if attention.watch is not None:
        attention.watch(Attended(query, key, value, mixed, scale))
    return mixed.transpose(1, 2).flatten(2)


def _mix_fused(query: Tensor, key: Tensor, value: Tensor, visible: Tensor | None, causal: bool, scale: float) -> Tensor:
    if query.is_meta and visible is None:  # torch writes it out there; what is counted there is what CUDA would run
        flash = torch.ops.aten._scaled_dot_product_flash_attention
        return flash(query, key, value, 0.0, causal, scale=scale)[0]  # type: ignore[no-any-return]
    return functional.scaled_dot_product_attention(query, key, value, attn_mask=visible, is_causal=causal, scale=scale)


def _mix_in_float32(
    query: Tensor, key: Tensor, value: Tensor, visible: Tensor | None, causal: bool, scale: float
) -> Tensor:
    """The fused kernel in float32: without instructions for half precision it takes six times as long in that."""
    return _mix_fused(query.float(), key.float(), value.float(), visible, causal, scale).to(query.dtype)


def _mix_by_products(
    query: Tensor, key: Tensor, value: Tensor, visible: Tensor | None, causal: bool, scale: float
) -> Tensor:
    """Attention written out. It is 2.5 times as fast as the fused kernel on a CPU that multiplies bfloat16."""
    scores = (query * scale) @ key.transpose(-1, -2)
    if causal:
        visible = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if visible is not None:
        scores = scores.masked_fill(~visible, -torch.inf)
    return torch.softmax(scores, dim=-1) @ value
