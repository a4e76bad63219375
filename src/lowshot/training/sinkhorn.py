"""Entropic optimal transport by Sinkhorn's iterations (arXiv 1306.0895)."""

from __future__ import annotations

import torch
from torch import Tensor

MOST_ITERATIONS = 100
LEAST_CHANGE = 1e-2
"""PLOT++'s own limits (CHENGY12/PLOT, plot-pp/trainers/plotpp.py)."""


@torch.no_grad()
def transport_plan(
    cost: Tensor, regularisation: float, *, iterations: int = MOST_ITERATIONS, tolerance: float = LEAST_CHANGE
) -> Tensor:
    """How a uniform mass over M points is best moved to a uniform mass over N others: the plan, without a gradient.

    With K = exp(-cost / regularisation), u = 1/M and v = 1/N (PLOT, arXiv 2210.01253, equations 4 and 5):

        r <- u / (K c),    c <- v / (K^T r),    T = diag(r) K diag(c)

    c starts at 1. A problem is left as it is once the mean change of its r is below the tolerance: each by itself, so
    that its plan does not depend on which others it is solved with. As c is computed last, the columns of T sum to 1/N
    but for rounding, and the rows to 1/M only in the limit.

    Args:
        cost: ``(..., M, N)``, 0 or more. Cost over regularisation should stay below 80 in float32: K would be zero.
        regularisation: Weight of the plan's entropy, above 0; the smaller, the nearer the plan without one.
        iterations: At most so many.
        tolerance: Of the mean absolute change of r; it starts at 1.

    Returns:
        ``(..., M, N)``, of the type of the costs.
    """
    points, others = cost.shape[-2:]
    kernel = torch.exp(-cost / regularisation)
    r = torch.ones_like(kernel[..., :, 0])
    c = torch.ones_like(kernel[..., 0, :])
    going = torch.ones_like(r[..., :1], dtype=torch.bool)
    for _ in range(iterations):
        new_r = (1 / points) / _product(kernel, c)
        new_c = (1 / others) / _product(kernel.transpose(-1, -2), new_r)
        change = (new_r - r).abs().mean(-1, keepdim=True)
        r, c = torch.where(going, new_r, r), torch.where(going, new_c, c)
        going = going & (change >= tolerance)
        if not bool(going.any()):
            break
    return r[..., :, None] * kernel * c[..., None, :]


def _product(matrices: Tensor, vectors: Tensor) -> Tensor:
    """``(..., M, N)`` times ``(..., N)``, added up in the same order whatever stands beside."""
    return (matrices * vectors[..., None, :]).sum(-1)
