"""Shots that are held out, and what they tell of a method: how sure it may be, and what is none of the classes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..belonging import HeldOutBelonging
from ..calibration import Calibration
from ..evaluation import calibrated, held_out_scores, presence_of
from ..progress import Track
from ..several_labels import Presence
from .belonging import evidence_of
from .lesson import Lesson


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """The results of held-out shots, as far as they were held out."""

    calibration: Calibration | None = None
    belonging: HeldOutBelonging | None = None
    """Where images of none of the classes are to be told; the folds tell it of a method that trains the towers."""
    presence: Presence | None = None
    """In place of a calibration where images have several labels."""

    @classmethod
    def by_scores(cls, scores: NDArray[np.floating], labels: NDArray[np.int64], folds: int) -> HeldOut:
        """The results that follow from scores ``(H, C)`` alone, of images that were held out in so many folds."""
        if labels.ndim == 2:
            return cls(presence=presence_of(scores, labels, folds))
        return cls(calibrated(scores, labels, folds))

    @property
    def is_told(self) -> bool:
        """Whether anything is known of how sure the method may be."""
        return self.calibration is not None or self.presence is not None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a record."""
        calibration, belonging, presence = self.calibration, self.belonging, self.presence
        return {
            "calibration": {} if calibration is None else calibration.to_dict(),
            "belonging": {} if belonging is None else belonging.to_dict(),
            "presence": {} if presence is None else presence.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> HeldOut:
        """Read what ``to_dict`` gave.

        Raises:
            InputError: It is something else.
        """
        calibration, belonging, presence = (values.get(name) for name in ("calibration", "belonging", "presence"))
        return cls(
            Calibration.from_dict(calibration) if calibration else None,
            HeldOutBelonging.from_dict(belonging) if belonging else None,
            Presence.from_dict(presence, len(presence.get("offsets", ()))) if presence else None,
        )


def hold_out(
    lesson: Lesson,
    fold_of: NDArray[np.int64] | None,
    *,
    first: int | None = None,
    track: Track,
    checkpoint: Path | None = None,
    contents: tuple[str, ...] = (),
) -> tuple[NDArray[np.float32], NDArray[np.int64], HeldOut]:
    """Scores ``(H, C)`` of shots by classifiers that have learnt from the other folds, their labels, and what follows.

    Args and errors are those of ``evaluation.held_out_scores``. Nothing follows from some of the folds.
    """
    folds = 0 if fold_of is None else int(fold_of.max()) + 1
    is_whole = first is None or first == folds
    evidence = evidence_of(lesson) if is_whole else None
    scores, labels = held_out_scores(
        *(lesson.untrained, lesson.examples, fold_of),
        first=first,
        track=track,
        checkpoint=checkpoint,
        contents=contents,
        each_fold=None if evidence is None else evidence.add_fold,
        together=lesson.recipe.engine.together,
    )
    if not is_whole:
        return scores, labels, HeldOut()
    told, reject = HeldOut.by_scores(scores, labels, folds), lesson.recipe.training.reject
    if evidence is not None and reject is not None:
        told = dataclasses.replace(told, belonging=evidence.told(reject))
    return scores, labels, told
