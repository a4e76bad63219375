"""Figures of merit. All are fractions in [0, 1]."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def accuracy(predicted: NDArray[np.int64], labels: NDArray[np.int64]) -> float:
    """Share of images whose predicted class is the right one; both ``(N,)``, N at least 1."""
    if len(labels) == 0:
        raise ValueError("accuracy of no images is not defined")
    return float(np.mean(predicted == labels))


def confusion(predicted: NDArray[np.int64], labels: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """How often each class (row) was taken for each (column), ``(C, C)``."""
    counts = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(counts, (labels, predicted), 1)
    return counts
