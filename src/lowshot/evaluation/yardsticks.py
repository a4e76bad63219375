"""What a classifier must beat to be worth having: the raw pixels of the images that it has learnt from."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from ..data import Examples
from ..data.crops import central_crops

_SIDE = 32
_PART = 1000
"""Images that are judged together: 25 MB."""
_MOST_NUMBERS = 1 << 26
"""Shots times classes times numbers of an image up to which pixels are learnt from: some seconds."""


def pixel_accuracy(learnt: Examples, judged: Examples, classes: int) -> float | None:
    """Accuracy of logistic regression on 32 x 32 pixels; None where it would take long, or has one class to learn.

    Args:
        learnt: The shots.
        judged: Images that were not learnt from.
        classes: How many classes there are.

    Raises:
        DataError: An image cannot be read.
    """
    from sklearn.linear_model import LogisticRegression

    if len(learnt) * classes * 3 * _SIDE**2 > _MOST_NUMBERS or len(set(learnt.labels.tolist())) < 2:
        return None
    rows = _pixels(learnt)
    # Weights with an L2 penalty lie in the span of what they are learnt from: in its few dimensions they are the same.
    span = np.linalg.svd(rows, full_matrices=False)[2].T
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it is good enough where it has not converged
        model = LogisticRegression(max_iter=200).fit(rows @ span, learnt.labels)
    parts = (np.arange(first, min(first + _PART, len(judged))) for first in range(0, len(judged), _PART))
    right = (model.predict(_pixels(judged.subset(part)) @ span) == judged.labels[part] for part in parts)
    return float(np.concatenate(list(right)).mean())


def _pixels(examples: Examples) -> NDArray[np.float64]:
    """The middle of every image as a row of numbers in [0, 1], ``(N, 3072)``."""
    rows = (central_crops([examples.images[row]], _SIDE).numpy().reshape(-1) for row in range(len(examples)))
    return np.stack(list(rows)).astype(np.float64)
