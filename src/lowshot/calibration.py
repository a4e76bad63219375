"""The calibration record: what held-out shots told of a classifier, as it is saved and predicted with."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from .errors import InputError

LEAST_TEMPERATURE, LARGEST_TEMPERATURE = 1e-3, 1e6
"""At the largest one all classes are as good as equally probable, whatever the scores are."""


@dataclasses.dataclass(frozen=True)
class Calibration:
    """A classifier's calibration by held-out shots; all that is needed to predict with it.

    Args:
        folds: Parts that the shots were held out in; 0 where nothing is learnt, so that none had to be.
        temperature: What class scores are divided by before the softmax.
        scores: One minus the probability of the true class, of every held-out image; ascending, rounded up.
        right: How many of the held-out images were recognised; None in calibrations made before this was kept.
    """

    folds: int
    temperature: float
    scores: tuple[float, ...]
    right: int | None = None

    def threshold(self, coverage: float) -> float:
        """The largest score of a class in a set with this coverage; see ``evaluation.conformal``.

        Raises:
            InputError: It is no fraction between 0 and 1, or too few images were held out for it.
        """
        return threshold(self.scores, coverage)

    @property
    def knows_nothing(self) -> bool:
        """Whether the true classes were the less probable the surer the classifier was."""
        return self.temperature > LARGEST_TEMPERATURE / 2

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a record."""
        return {
            "folds": self.folds,
            "images": len(self.scores),
            "scores": list(self.scores),
            "temperature": self.temperature,
            **({} if self.right is None else {"right": self.right}),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Calibration:
        """Read what ``to_dict`` gave.

        Raises:
            InputError: It is something else.
        """
        folds, temperature, scores = (values.get(name) for name in ("folds", "temperature", "scores"))
        right = values.get("right")
        sound = (
            set(values) - {"right"} == {"folds", "images", "scores", "temperature"}
            and type(folds) is int
            and (folds == 0 or folds >= 2)
            and isinstance(temperature, float)
            and LEAST_TEMPERATURE <= temperature <= LARGEST_TEMPERATURE
            and isinstance(scores, list)
            and all(isinstance(score, float) and 0 <= score <= 1 for score in scores)
            and scores == sorted(scores)
            and values["images"] == len(scores) > 0
            and ("right" not in values or (type(right) is int and 0 <= right <= len(scores)))
        )
        if not sound:
            raise InputError(
                "calibration is not what lowshot writes: folds, images, ascending scores, a temperature and "
                "how many were right"
            )
        return cls(values["folds"], values["temperature"], tuple(values["scores"]), right)


def threshold(scores: Sequence[float], coverage: float) -> float:
    """The largest score that a class in a set may have: the k-th smallest of n, k the least with k >= (n + 1) coverage.

    Args:
        scores: Of n held-out images, ascending.
        coverage: Probability with which a set holds the true class, between 0 and 1.

    Raises:
        InputError: The coverage is no such fraction, or there are too few scores for it.
    """
    if not 0 < coverage < 1:
        raise InputError(f"coverage is {coverage}; expected a fraction between 0 and 1, such as 0.9")
    count, wanted = len(scores), Fraction(str(coverage))  # 0.9 is meant, not the binary number beside it
    position = math.ceil((count + 1) * wanted)
    if position > count:
        most, needed = math.floor(1000 * count / (count + 1)) / 1000, math.ceil(wanted / (1 - wanted))
        raise InputError(
            f"coverage is {coverage}, but {count} held-out images allow at most {most:g}; "
            f"ask for less, or calibrate on {needed} images or more (--shots)"
        )
    return scores[position - 1]
