"""The probability that a label is wrong, from the scores of a classifier that has not learnt from it."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LARGEST_RATE = 0.5
"""Largest share of wrong labels that is looked for: with more, nothing tells which ones are right."""
_COLDEST, _WARMEST = 0.02, 50.0


class LabelNoise(NamedTuple):
    """The wrong labels among held-out images, as far as a classifier's scores tell."""

    rate: float
    """Share of labels that are wrong."""
    temperature: float
    """What the scores are divided by."""
    probabilities: NDArray[np.float64]
    """Probability that each label is wrong, ``(N,)``."""


def label_noise(scores: NDArray[np.floating], labels: NDArray[np.int64]) -> LabelNoise:
    """Estimate which labels are wrong.

    A label y is its image's class with probability ``1 - r``, and else any of the C - 1 other classes alike. With the
    classifier's probabilities p at temperature T a label is seen with probability
    ``L = p_y (1 - r) + (1 - p_y) r / (C - 1)``; r and T are those of the largest likelihood of all labels. The label
    is wrong with probability ``(1 - p_y) r / (C - 1) / L``. This is Dawid and Skene's model (1979) with one error rate.

    Args:
        scores: Class scores or log-probabilities ``(N, C)`` by classifiers that have not learnt from the image.
        labels: Given class of each image, ``(N,)``.
    """
    from scipy.optimize import minimize_scalar

    exact, rows, others = scores.astype(np.float64), np.arange(len(labels)), scores.shape[1] - 1

    def given(log_temperature: float) -> NDArray[np.float64]:
        """Probability of each given label."""
        scaled = exact / math.exp(log_temperature)
        scaled -= scaled.max(1, keepdims=True)
        table = np.exp(scaled)
        probabilities: NDArray[np.float64] = table[rows, labels] / table.sum(1)
        return probabilities

    def loss(p: NDArray[np.float64], rate: float) -> float:
        return float(-np.log(np.maximum(p * (1 - rate) + (1 - p) * rate / others, 1e-300)).mean())

    def best_rate(p: NDArray[np.float64]) -> float:
        """The likelihood is log-concave in the rate."""
        return float(minimize_scalar(lambda rate: loss(p, rate), bounds=(0, LARGEST_RATE), method="bounded").x)

    def profile(log_temperature: float) -> float:
        p = given(log_temperature)
        return loss(p, best_rate(p))

    # With wrong labels there may be several optima in T: the best of a grid, then the best near that.
    grid = np.linspace(math.log(_COLDEST), math.log(_WARMEST), 33)
    nearest = grid[int(np.argmin([profile(each) for each in grid]))]
    step = grid[1] - grid[0]
    best = minimize_scalar(profile, bounds=(nearest - step, nearest + step), method="bounded", options={"xatol": 1e-4})
    p = given(best.x)
    rate = best_rate(p)
    wrong = (1 - p) * rate / others
    return LabelNoise(rate, math.exp(best.x), wrong / np.maximum(wrong + p * (1 - rate), 1e-300))
