"""The frozen factors of LoRA-XS: a truncated singular value decomposition in which every sign is settled.

A singular vector is defined up to its sign, and libraries, precisions and transpositions pick different ones. An
adapter that stores only R would then mean another function elsewhere. So the decomposition is always of the float32
weight, in float64, in full, and each pair is turned so that the left vector's largest entry is positive.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ...errors import InputError

ATTRIBUTE = "lora_xs_basis"
"""Set on a linear layer, it keeps the basis of the weight that the layer had in full precision."""


class Basis(NamedTuple):
    """W ~ U diag(S) V^T of one weight ``(O, I)``, float32."""

    u: Tensor
    """``(O, R)``"""
    s_v: Tensor
    """diag(S) V^T, ``(R, I)``: the singular values are on the input's side, as in both reference codes."""


def basis_of(weight: Tensor, rank: int) -> Basis:
    """Leading singular vectors of a weight.

    Args:
        weight: ``(O, I)``, floating point.
        rank: How many of them.

    Raises:
        InputError: ``rank`` exceeds the smaller side of the weight.
    """
    if rank > min(weight.shape):
        raise InputError(
            f"rank is {rank}, but the weight is {tuple(weight.shape)}; expected at most {min(weight.shape)}"
        )
    u, s, v = torch.linalg.svd(weight.detach().to("cpu", torch.float64), full_matrices=False)
    u, s, v = u[:, :rank], s[:rank], v[:rank]
    anchors = u.abs().argmax(0)
    signs = u[anchors, torch.arange(rank)].sign()
    return Basis(u=(u * signs).float().contiguous(), s_v=((s * signs)[:, None] * v).float().contiguous())


def attach_bases(model: nn.Module, names: Sequence[str], rank: int) -> None:
    """Compute the basis of each named linear layer and leave it there, before anything quantises the weight."""
    for name in names:
        linear = model.get_submodule(name)
        known: Basis | None = getattr(linear, ATTRIBUTE, None)
        if known is None or known.u.shape[1] < rank:
            assert isinstance(linear.weight, Tensor)
            setattr(linear, ATTRIBUTE, basis_of(linear.weight, rank))
