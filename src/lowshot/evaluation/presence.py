"""How sure each label of an image is, and from where on the image has it: fitted to held-out images."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..several_labels import Presence, sigmoid, solved_offsets

_SLOPES = 1e-3, 1e3
"""Where the slope is looked for, in units of one over the spread of the scores."""
_LEAST = 1e-6


def presence_of(scores: NDArray[np.floating], shown: NDArray[np.int64], folds: int) -> Presence:
    """Fit slope, offsets and thresholds to the scores of held-out images.

    The slope has the largest likelihood of Platt's truth, which is short of 1 and 0 by as much as so few images leave
    open: ``(n + 1) / (n + 2)`` where one of n images shows the class, ``1 / (m + 2)`` where one of m does not. So it
    stays finite where all images are told apart.

    Args:
        scores: Of H images, ``(H, C)``, as learners give them.
        shown: 1 for each class that an image shows, else 0, ``(H, C)``.
        folds: Parts that they were held out in; 0 where nothing is learnt.
    """
    from scipy.optimize import minimize_scalar

    exact, count = scores.astype(np.float64), shown.sum(0)
    likely, unlikely = (count + 1) / (count + 2), 1 / (len(shown) - count + 2)
    truth = np.where(shown == 1, likely, unlikely)
    unit = 1 / max(float(exact.std(0).mean()), 1e-12)

    def loss(log_slope: float) -> float:
        margins = math.exp(log_slope) * unit * exact
        margins += solved_offsets(margins, truth)
        return float((np.logaddexp(0, margins) - truth * margins).mean())

    best = minimize_scalar(loss, bounds=tuple(map(math.log, _SLOPES)), method="bounded", options={"xatol": 1e-4})
    slope = math.exp(best.x) * unit
    offsets = solved_offsets(slope * exact, truth)
    likely = sigmoid(slope * exact + offsets)
    return Presence(folds, len(exact), slope, tuple(offsets.tolist()), tuple(map(_threshold, likely.T)))


def _threshold(likely: NDArray[np.float64]) -> float:
    """The threshold with which the F1 of a class is largest, if its probabilities ``(H,)`` are right.

    That is half of that F1 (Lipton, Elkan and Naryanaswamy, arXiv 1402.1892, theorem 1). Of the likeliest k images as
    many show the class as their probabilities add up to. So a class of which little is known has a low one: to say it
    of too many images costs less than never to say it.
    """
    shown = np.cumsum(np.sort(likely)[::-1])
    best = float((2 * shown / (np.arange(1, len(shown) + 1) + shown[-1])).max())
    return min(max(best / 2, _LEAST), 1 - _LEAST)
