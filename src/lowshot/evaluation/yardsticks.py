"""The classifier to beat: one on the raw pixels of the images that it has learnt from."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..data import Examples
from ..data.crops import central_crops

_SIDE = 32
_PART = 1000
"""Images that are judged together: 25 MB."""
_MOST_NUMBERS = 1 << 26
"""Shots times classes times numbers of an image up to which pixels are learnt from: some seconds."""
_CONSTANT = 1000.0
"""A number so large that the weight it needs, a bias, is as good as not penalised."""
_MOST_STEPS = 2000
_NEAR_ENOUGH = 1e-6


def pixel_accuracy(learnt: Examples, judged: Examples, classes: int) -> float | None:
    """Accuracy of logistic regression on 32 x 32 pixels; None where it would take long, or has one class to learn.

    Args:
        learnt: The shots.
        judged: Images that were not learnt from.
        classes: How many classes there are.

    Raises:
        DataError: An image cannot be read.
    """
    if len(learnt) * classes * 3 * _SIDE**2 > _MOST_NUMBERS or len(set(learnt.labels.tolist())) < 2:
        return None
    layer = logistic_regression(_pixels(learnt), torch.from_numpy(learnt.labels), classes)
    parts = (np.arange(first, min(first + _PART, len(judged))) for first in range(0, len(judged), _PART))
    right = ((_pixels(judged.subset(part)) @ layer).argmax(1).numpy() == judged.labels[part] for part in parts)
    return float(np.concatenate(list(right)).mean())


def logistic_regression(rows: Tensor, labels: Tensor, classes: int) -> Tensor:
    """A linear layer ``(D, C)`` with the lowest sum of cross-entropy and half its squares, as scikit-learn's has.

    Importing that, or torch's optimisers, takes longer than this. The layer lies in the span of its inputs, where a
    bound of the Hessian is diagonal (Boehning, 1992); steps by it never overshoot, and are accelerated as Nesterov's.

    Args:
        rows: Numbers ``(N, D)``, float64.
        labels: ``(N,)``, from 0 to C - 1.
        classes: C.
    """
    squares, left = torch.linalg.eigh(rows @ rows.T)
    lengths = squares.clamp(min=squares[-1] * 1e-12).sqrt()
    inputs, truth = left * lengths, functional.one_hot(labels, classes)
    bound = (lengths.square() / 2 + 1)[:, None]
    layer = ahead = torch.zeros(len(rows), classes, dtype=rows.dtype)
    momentum = 1.0
    for _ in range(_MOST_STEPS):
        gradient = inputs.T @ ((inputs @ ahead).softmax(1) - truth) + ahead
        before, layer = layer, ahead - gradient / bound
        if (gradient / bound.sqrt()).abs().max() < _NEAR_ENOUGH:
            break
        if (gradient * (layer - before)).sum() > 0:  # it went past the lowest point
            momentum = 1.0
        last, momentum = momentum, (1 + math.sqrt(1 + 4 * momentum**2)) / 2
        ahead = layer + (last - 1) / momentum * (layer - before)
    weights: Tensor = rows.T @ (left / lengths @ layer)
    return weights


def _pixels(examples: Examples) -> Tensor:
    """The middle of every image as a row of numbers in [0, 1], and a constant, ``(N, 3073)``, float64."""
    rows = [central_crops([examples.images[row]], _SIDE).flatten().double() for row in range(len(examples))]
    return functional.pad(torch.stack(rows), (0, 1), value=_CONSTANT)
