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

``GuaranteedSets`` are others, with a guarantee for the images of every class: ``heads.full_conformal``.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..errors import InputError

_DIGITS = 6


class Sets(Protocol):
    """A rule that says which classes are in an image's set."""

    def members(self, table: NDArray[np.floating], embeddings: Callable[[], Tensor]) -> NDArray[np.bool_]:
        """Which classes are in each image's set, ``(N, C)``. The most probable class always is: no set is empty.

        Args:
            table: Probabilities ``(N, C)``.
            embeddings: Gives the images' unit embeddings ``(N, D)``, where the rule needs them.
        """


@dataclasses.dataclass(frozen=True)
class HeldOutSets:
    """Sets by the scores of held-out images.

    Args:
        largest: What ``Calibration.threshold`` gave for a coverage.
    """

    largest: float

    def members(self, table: NDArray[np.floating], embeddings: Callable[[], Tensor]) -> NDArray[np.bool_]:  # noqa: ARG002
        """See ``Sets``."""
        return prediction_sets(table, self.largest)


@dataclasses.dataclass(frozen=True)
class GuaranteedSets:
    """Sets by p-values of classes: those with one above the share that may be missed, and the most probable.

    Args:
        p_values: From embeddings ``(N, D)`` to p-values ``(N, C)``; with n shots of a class multiples of 1 / (n + 1).
        shots: n of each class, ``(C,)``.
        coverage: Share of the images of every class whose set is to hold it.

    Raises:
        InputError: The coverage is no fraction between 0 and 1, or no class has enough shots for it.
    """

    p_values: Callable[[Tensor], NDArray[np.float64]]
    shots: NDArray[np.int64]
    coverage: float

    def __post_init__(self) -> None:
        if not 0 < self.coverage < 1:
            raise InputError(f"coverage is {self.coverage}; expected a fraction between 0 and 1, such as 0.9")
        most = int(self.shots.max())
        if self._missed * (most + 1) < 1:
            possible, needed = math.floor(1000 * most / (most + 1)) / 1000, math.ceil(1 / self._missed) - 1
            raise InputError(
                f"coverage is {self.coverage}, but {most} shots of a class guarantee at most {possible:g}; ask for "
                f"less, or learn from {needed} shots or more (--shots)"
            )

    @property
    def _missed(self) -> Fraction:
        return 1 - Fraction(str(self.coverage))  # 0.9 is meant, not the binary number beside it

    def members(self, table: NDArray[np.floating], embeddings: Callable[[], Tensor]) -> NDArray[np.bool_]:
        """See ``Sets``."""
        last = np.array([math.floor(self._missed * (count + 1)) for count in self.shots.tolist()])
        members: NDArray[np.bool_] = np.round(self.p_values(embeddings()) * (self.shots + 1)) > last
        members[np.arange(len(table)), table.argmax(1)] = True
        return members


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
    """Measures of sets ``(N, C)`` of images whose true classes are ``(N,)``.

    ``covered`` is the share that hold the true class, ``least_covered`` that of the class with the smallest one, and
    ``mean_set_size`` the mean number of classes in a set.
    """
    covered = members[np.arange(len(labels)), labels]
    least = min(float(covered[labels == label].mean()) for label in np.unique(labels))
    sizes = members.sum(1)
    return {"covered": float(covered.mean()), "least_covered": least, "mean_set_size": float(sizes.mean())}
