"""Sets of classes that hold the true one with a stated probability: conformal prediction.

The score of an image and a class is one minus the class's probability (the least ambiguous sets of Sadinle, Lei and
Wasserman, arXiv 1609.00451). A set has every class whose score is at most a quantile of the scores that held-out
images have with their true classes.

What is guaranteed. Let the scores of n held-out images and of one new image be exchangeable, and k the smallest whole
number with ``k >= (n + 1) * coverage``. Then the new image's score is at most the k-th smallest with a probability of
``coverage`` or more, over the draw of all n + 1: an average, no promise for one class or for one draw of the shots.
This is the case of a zero-shot classifier whose shots and images come from one distribution, but for two things. The
temperature, one number, is fitted on the same scores; and shots are drawn alike from every class, so that the average
is one over images of which every class has as many.

For a method that learns, the scores come from the classifiers of a cross-validation, pooled, and the sets are those of
another classifier, which has learnt from all shots. That is the plainest form of cross-conformal prediction (Vovk,
arXiv 1208.0806), and nothing is guaranteed without further assumptions: for its like in regression there are
distributions on which the coverage vanishes, and CV+, which asks every fold's classifier about a new image, is what
has a guarantee, of about ``2 * coverage - 1`` (Barber et al., arXiv 1905.02928; for classes Romano, Sesia and Candes,
arXiv 2006.02544). What is done here needs one classifier alone. It has about the stated coverage where learning is
stable, and more where the classifier, which has seen more images, gives true classes larger probabilities than the
folds' classifiers did. ``evaluate`` measures it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_DIGITS = 6


def scores_of(table: NDArray[np.floating], labels: NDArray[np.int64]) -> tuple[float, ...]:
    """One minus the true class's probability, ascending, rounded up to 6 digits: sets only grow by the rounding.

    Args:
        table: Probabilities ``(N, C)`` of held-out images.
        labels: Their classes, ``(N,)``.
    """
    exact = np.clip(1 - table[np.arange(len(labels)), labels].astype(np.float64), 0, 1)
    unit = 10**_DIGITS
    steps = np.ceil(exact * unit)
    steps += steps / unit < exact  # the product may have been rounded down to a whole number
    return tuple(float(score) for score in np.sort(np.minimum(steps, unit) / unit))


def prediction_sets(table: NDArray[np.floating], largest: float) -> NDArray[np.bool_]:
    """Which classes are in each image's set, ``(N, C)``. The most probable class always is: no set is empty.

    Args:
        table: Probabilities ``(N, C)``.
        largest: What ``Calibration.threshold`` gave.
    """
    members: NDArray[np.bool_] = 1 - table.astype(np.float64) <= largest
    members[np.arange(len(table)), table.argmax(1)] = True
    return members


def set_measures(members: NDArray[np.bool_], labels: NDArray[np.int64]) -> dict[str, Any]:
    """``covered``, the share of sets ``(N, C)`` that hold the true class ``(N,)``, and ``mean_set_size``, classes."""
    covered = members[np.arange(len(labels)), labels]
    return {"covered": float(covered.mean()), "mean_set_size": float(members.sum(1).mean())}
