"""Where images may have several labels: how sure each is, which of them an image has, and how images are held out.

Each class has a probability of its own,

    p_c = sigmoid(a s_c + b_c)

with its score s_c, a slope a that all classes share, and an offset b_c. They are fitted to the scores of held-out
images, as Platt has it (1999), with one slope: of a few images a slope for each class would know nothing. An image has
every label whose probability is at least the threshold of its class, and may have none.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from .errors import InputError

_Name = TypeVar("_Name")
_HALVINGS = 60


@dataclasses.dataclass(frozen=True)
class Presence:
    """The rule that says which classes an image shows, as it is saved and predicted with.

    Args:
        folds: Parts that the shots were held out in; 0 where none was.
        images: How many images were held out.
        slope: a, above 0.
        offsets: b, one for each class.
        thresholds: The least probability of a label that an image has, for each class; above 0, below 1.
    """

    folds: int
    images: int
    slope: float
    offsets: tuple[float, ...]
    thresholds: tuple[float, ...]

    def present(self, table: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Which labels images have, ``(N, C)`` or ``(C,)`` of one, by their probabilities of the same shape."""
        has: NDArray[np.bool_] = table.astype(np.float64) >= np.asarray(self.thresholds)
        return has

    def of_classes(self, numbers: Sequence[int]) -> Presence:
        """The same for some of the classes: each is judged by itself."""
        offsets, thresholds = (tuple(each[number] for number in numbers) for each in (self.offsets, self.thresholds))
        return dataclasses.replace(self, offsets=offsets, thresholds=thresholds)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a record."""
        lists = {"offsets": list(self.offsets), "thresholds": list(self.thresholds)}
        return {"folds": self.folds, "images": self.images, "slope": self.slope, **lists}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], classes: int) -> Presence:
        """Read what ``to_dict`` gave.

        Args:
            values: Of a record.
            classes: How many classes the record has.

        Raises:
            InputError: It is something else.
        """
        folds, images, slope = (values.get(name) for name in ("folds", "images", "slope"))
        offsets, thresholds = values.get("offsets"), values.get("thresholds")
        sound = (
            set(values) == {"folds", "images", "slope", "offsets", "thresholds"}
            and type(folds) is int
            and type(images) is int
            and (folds == 0 or folds >= 2)
            and images >= 0
            and isinstance(slope, float)
            and math.isfinite(slope)
            and slope > 0
            and all(_are_numbers(each, classes) for each in (offsets, thresholds))
            and all(0 < each < 1 for each in values["thresholds"])
        )
        if not sound:
            raise InputError(
                f"presence is not what lowshot writes: folds, images, a slope above 0, and of each of the {classes} "
                "classes an offset and a threshold between 0 and 1"
            )
        return cls(
            values["folds"], values["images"], values["slope"], tuple(values["offsets"]), tuple(thresholds or ())
        )


def _are_numbers(values: Any, count: int) -> bool:
    if not isinstance(values, list | tuple) or len(values) != count:
        return False
    return all(isinstance(value, float) and math.isfinite(value) for value in values)


def dealt(labels: NDArray[np.int64], parts: int) -> NDArray[np.int64]:
    """The part in which each image is held out, ``(N,)``, from 0; -1 for an image that is always learnt from.

    The only image of a class is: what has never seen a class tells nothing of one that has. Class by class, that with
    the fewest images first, those that are in no part yet are dealt out like cards; at last those that show no class.

    Args:
        labels: 1 for each class that an image shows, else 0, ``(N, C)``, in the order of the draw.
        parts: 2 or more.
    """
    counts, part = labels.sum(0), np.full(len(labels), -1, dtype=np.int64)
    free = ~(labels[:, counts == 1] == 1).any(1)
    order = np.argsort(counts, kind="stable")
    next_part = 0
    for group in (*(labels[:, label] == 1 for label in order), labels.sum(1) == 0):
        rows = np.flatnonzero(group & free & (part < 0))
        part[rows] = (next_part + np.arange(len(rows))) % parts
        next_part += len(rows)
    return part


def solved_offsets(scores: NDArray[np.floating], shown: NDArray[Any]) -> NDArray[np.float64]:
    """The offset b of each class, ``(C,)``, with which ``sigmoid(s + b)`` has the mean over images that the truth has.

    That is the offset of the largest likelihood. The truth of n images has half an image of each kind more, so that a
    class that all or none of them show has a finite one.

    Args:
        scores: s, ``(N, C)``.
        shown: Of each image and class 1 where it is shown, else 0, or numbers between; ``(N, C)``.
    """
    exact = scores.astype(np.float64)
    wanted = (shown.sum(0) + 0.5) / (len(shown) + 1)
    odds = np.log(wanted / (1 - wanted))
    # The mean is at most wanted where every image's is, and at least where every image's is.
    low, high = odds - exact.max(0), odds - exact.min(0)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        is_low = sigmoid(exact + middle).mean(0) < wanted
        low, high = np.where(is_low, middle, low), np.where(is_low, high, middle)
    solved: NDArray[np.float64] = (low + high) / 2
    return solved


def members_named(
    names: Sequence[_Name], probabilities: NDArray[np.floating], members: NDArray[np.bool_]
) -> tuple[_Name, ...]:
    """The names of those classes that an image has or may have, the most probable first.

    Args:
        names: Of the C classes.
        probabilities: Of the image, ``(C,)``.
        members: Which classes, ``(C,)``.
    """
    return tuple(names[place] for place in np.argsort(-probabilities, kind="stable") if members[place])


def sigmoid(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The logistic function; no value is too large for it."""
    half: NDArray[np.float64] = 0.5 * (1 + np.tanh(values / 2))
    return half


def average_precisions(table: NDArray[np.floating], shown: NDArray[np.int64]) -> list[float | None]:
    """The average precision of each class; None for a class that no image shows.

    Images are ranked by the score that the class has of them. It is the mean, over the images that show the class, of
    the share of such images among those with no lower a score: the area under steps, as scikit-learn has it.

    Args:
        table: Scores or probabilities ``(N, C)``.
        shown: 1 for each class that an image shows, else 0, ``(N, C)``.
    """
    precisions: list[float | None] = []
    for scores, truth in zip(table.T, shown.T, strict=True):
        if not truth.any():
            precisions.append(None)
            continue
        order = np.argsort(-scores, kind="stable")
        ranked, hits = scores[order], np.cumsum(truth[order])
        last = np.flatnonzero(np.r_[ranked[1:] != ranked[:-1], True])  # images of one score have one rank: the last
        at_last = hits[last]
        precisions.append(float((np.diff(at_last, prepend=0) * at_last / (last + 1)).sum() / at_last[-1]))
    return precisions


def ranking_precisions(table: NDArray[np.floating], shown: NDArray[np.int64]) -> NDArray[np.float64]:
    """How well the labels of each image are ranked among all, ``(N,)``, from above 0 to 1; NaN without labels.

    It is the mean, over an image's labels, of the share of its labels among those that are ranked no lower: the
    precision of label ranking, as scikit-learn has it.

    Args:
        table: Scores that can be compared between classes, ``(N, C)``.
        shown: 1 for each class that an image shows, else 0, ``(N, C)``.
    """
    no_lower = table[:, None, :] >= table[:, :, None]
    shares = (no_lower * shown[:, None, :]).sum(2) / no_lower.sum(2)
    with np.errstate(invalid="ignore"):
        means: NDArray[np.float64] = (shares * shown).sum(1) / shown.sum(1)
    return means


def mean_of_known(values: Sequence[float | None]) -> float:
    """The mean of those that are there; 0 where none is."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else 0.0
