"""Figures of merit of probabilities ``(N, C)``: fractions and plain numbers, never percent."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..several_labels import average_precisions, mean_of_known

CALIBRATION_BINS = 15
"""Equal-width bins of the top probability behind ``ece``."""
_Z = 1.959963984540054  # of a standard normal, 95 % are nearer to its mean than this
_LEAST = float(np.finfo(np.float32).tiny)


def measures(table: NDArray[np.floating], labels: NDArray[np.int64]) -> dict[str, Any]:
    """Figures of merit of a table of probabilities against the truth.

    ``acc1``
        Share of images whose most probable class is the right one; of equally probable classes the first counts.
    ``acc1_interval``
        Its 95 % interval ``[low, high]``; see ``accuracy_interval``.
    ``acc5``
        Share of images whose true class is among the five most probable. Left out where there are five classes or
        fewer: it would be 1 whatever the classifier says.
    ``mean_class_recall``
        Mean over the classes that occur of the share of their images that are recognised: each class counts alike,
        however many images it has.
    ``ece``
        Expected calibration error (arXiv 1706.04599, equation 3): how far the top probability is from the accuracy,
        on average over images in 15 equal-width bins ``(0, 1/15], ...``; 0 at best, 1 at worst.
    ``nll``
        Mean negative log-likelihood of the true class, natural logarithm. A probability below float32's smallest
        normal number (1.2e-38) counts as that, so that an image costs 87.3 at most and never infinity.
    ``brier``
        Mean over images of the sum over classes of ``(probability - truth)^2``, the truth being 1 for the right class
        and 0 for others: 0 at best, 2 for certainty in the wrong class. Some halve it.
    ``class_recall``
        What ``mean_class_recall`` is the mean of, in label order; None for a class that does not occur.
    ``reliability``
        The bins behind ``ece`` that are not empty, by rising confidence: ``[images, mean confidence, accuracy]`` each.

    Args:
        table: Probabilities ``(N, C)``; each row sums to 1.
        labels: Class index per image, ``(N,)``; N at least 1.

    Raises:
        ValueError: There are no images, or as many labels as images there are not.
    """
    if len(table) != len(labels):
        raise ValueError(f"{len(table)} rows have {len(labels)} labels; expected one for each")
    if not len(labels):
        raise ValueError("measures of no images are not defined")
    of_truth = table[np.arange(len(labels)), labels]
    # How many classes come before the true one, (N,); of equally probable ones the first does, as in argmax.
    is_lower = np.arange(table.shape[1]) < labels[:, None]
    ranks = ((table > of_truth[:, None]) | ((table == of_truth[:, None]) & is_lower)).sum(1)
    right = ranks == 0
    # Sums of squares without a copy of the table in float64.
    squares: NDArray[np.float64] = np.einsum("nc,nc->n", table, table, dtype=np.float64)
    counts = [np.bincount(labels, weights, table.shape[1]).tolist() for weights in (right, None)]
    recalls = [hits / count if count else None for hits, count in zip(*counts, strict=True)]
    bins = _reliability(table.max(1).astype(np.float64), right)
    figures = {
        "acc1": float(right.mean()),
        "acc1_interval": accuracy_interval(int(right.sum()), len(right)),
        "acc5": float((ranks < 5).mean()),
        "mean_class_recall": float(np.mean([recall for recall in recalls if recall is not None])),
        "ece": sum(images * abs(accuracy - confidence) for images, confidence, accuracy in bins) / len(right),
        "nll": float(-np.log(np.maximum(of_truth.astype(np.float64), _LEAST)).mean()),
        "brier": float((squares - 2 * of_truth.astype(np.float64) + 1).mean()),
        "class_recall": recalls,
        "reliability": bins,
    }
    if table.shape[1] <= 5:
        del figures["acc5"]
    return figures


def accuracy_interval(right: int, images: int) -> list[float]:
    """Wilson's 95 % interval of an accuracy, ``[low, high]`` (JASA 22, 1927, page 209).

    These are the accuracies p from which what was measured is no further than chance explains in 95 % of cases:
    ``|measured - p| <= z sqrt(p (1 - p) / images)``. Where all images are right, or none, it has a width too.

    It covers the choice of test images, for this one classifier. It says nothing of another draw of the shots or
    another seed, which often makes more of a difference: for that, train with several seeds.

    Args:
        right: How many images were recognised.
        images: Of how many, at least 1.
    """
    share, pull = right / images, _Z**2 / images
    centre = (share + pull / 2) / (1 + pull)
    half = _Z * math.sqrt(share * (1 - share) / images + pull / (4 * images)) / (1 + pull)
    return [0.0 if right == 0 else centre - half, 1.0 if right == images else centre + half]


def confusion(predicted: NDArray[np.int64], labels: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """How often each class (row) was taken for each (column), ``(C, C)``."""
    counts = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(counts, (labels, predicted), 1)
    return counts


def _reliability(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> list[list[float]]:
    """Images, mean confidence and accuracy of each bin, from top probabilities ``(N,)`` and whether each was right."""
    bins = np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(np.int64) - 1, 0, CALIBRATION_BINS - 1)
    images = np.bincount(bins)
    sums = np.bincount(bins, weights=confidence), np.bincount(bins, weights=right)
    return [[int(images[b]), *(float(total[b] / images[b]) for total in sums)] for b in np.flatnonzero(images)]


def several_measures(
    table: NDArray[np.floating], shown: NDArray[np.int64], present: NDArray[np.bool_]
) -> dict[str, Any]:
    """Figures of merit where images have several labels.

    ``map``
        Mean average precision: the mean over the classes that some image shows of ``class_ap``. Thresholds have no part
        in it.
    ``micro_f1``
        F1 of all pairs of an image and a class together, ``2 TP / (2 TP + FP + FN)``.
    ``macro_f1``
        The mean of ``class_f1`` over the classes that are shown or said at all.
    ``exact_match``
        Share of images whose labels are all right, and none is missing.
    ``class_ap``
        Average precision of each class in label order (see ``several_labels.average_precisions``); None for one that no
        image shows.
    ``class_f1``
        F1 of each class; None for one that is neither shown nor said.

    Args:
        table: Probabilities ``(N, C)``.
        shown: 1 for each class that an image shows, else 0, ``(N, C)``; N at least 1.
        present: Which labels are said, ``(N, C)``.

    Raises:
        ValueError: There are no images, or the shapes differ.
    """
    if not table.shape == shown.shape == present.shape:
        raise ValueError(f"shapes are {table.shape}, {shown.shape} and {present.shape}; expected the same")
    if not len(shown):
        raise ValueError("measures of no images are not defined")
    truth = shown == 1
    right, either = (truth & present).sum(0), truth.sum(0) + present.sum(0)
    precisions = average_precisions(table, shown)
    scores = [float(2 * hits / both) if both else None for hits, both in zip(right, either, strict=True)]
    return {
        "map": mean_of_known(precisions),
        "micro_f1": float(2 * right.sum() / either.sum()) if either.any() else 0.0,
        "macro_f1": mean_of_known(scores),
        "exact_match": float((truth == present).all(1).mean()),
        "class_ap": precisions,
        "class_f1": scores,
    }
