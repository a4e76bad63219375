"""Ranks by depth: deep layers get more of an adapter's rank, or less, at the same number of parameters in all."""

from __future__ import annotations

import torch
from torch import nn

from ..errors import InputError
from ..settings import MethodConfig
from .placement import Place


def ranks_by_depth(course: str, rank: int, layers: int) -> tuple[int, ...]:
    """The rank of each layer of a tower, from its input on; their mean is ``rank``.

    ``increasing`` ranks grow by steps of the same size, from 1 to about ``2 rank - 1``: layer i of n has
    ``1 + (rank - 1) (2 i + 1) / n``, rounded so that the sum is kept. ``decreasing`` is the reverse.

    Args:
        course: ``uniform``, ``increasing`` or ``decreasing``.
        rank: The mean.
        layers: How many layers have an adapter.
    """
    if course == "uniform":
        return (rank,) * layers
    # In whole numbers: layer i is due 1 and shares[i] / layers.
    shares = [(rank - 1) * (2 * layer + 1) for layer in range(layers)]
    ranks = [1 + share // layers for share in shares]
    left = rank * layers - sum(ranks)
    for layer in sorted(range(layers), key=lambda layer: (-(shares[layer] % layers), -layer))[:left]:
        ranks[layer] += 1
    return tuple(sorted(ranks, reverse=course == "decreasing"))


def layer_ranks(method: MethodConfig, place: Place) -> dict[str, int]:
    """Name of each linear layer with a low-rank adapter -> its rank. Each tower's depth counts by itself."""
    of_block: dict[str, int] = {}
    for blocks in place.blocks.values():
        of_block |= dict(zip(blocks, ranks_by_depth(method.rank_by_depth, method.rank, len(blocks)), strict=True))
    return {
        name: next(rank for block, rank in of_block.items() if name.startswith(f"{block}.")) for name in place.linears
    }


def refuse_large_ranks(model: nn.Module, method: MethodConfig, place: Place) -> None:
    """Refuse ranks that a weight cannot have.

    Raises:
        InputError: The rank exceeds a weight's smaller side.
    """
    for name, rank in layer_ranks(method, place).items():
        weight = model.get_submodule(name).weight
        assert isinstance(weight, torch.Tensor)
        shape = tuple(weight.shape)
        if rank > min(shape):
            raise InputError(f"rank is {rank}, but {name} is {shape[0]} x {shape[1]}; expected at most {min(shape)}")
