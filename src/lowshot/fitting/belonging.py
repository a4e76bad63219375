"""Images that are of none of a lesson's classes, told by its shots, where the recipe asks for it."""

from __future__ import annotations

import numpy as np

from ..belonging import Belonging, HeldOutBelonging, refuse_share
from ..errors import DataError, InputError
from ..evaluation import BelongingEvidence, belonging_of
from ..methods import method_spec
from ..settings import Recipe
from ..training import Learner
from .lesson import Lesson


def refuse_reject(lesson: Lesson) -> None:
    """Refuse early what cannot be learnt of images of none of the classes.

    Raises:
        DataError: No shot can be held out.
        InputError: Too few can be, or the method has no folds to do it in.
    """
    reject, training = lesson.recipe.training.reject, lesson.recipe.training
    if reject is None:
        return
    examples = lesson.examples
    counts = np.bincount(examples.labels, minlength=1)
    if counts.max() < 2 or examples.has_repeats:
        why = "the draw has some images several times" if examples.has_repeats else "no class has more than one image"
        raise DataError(
            f"reject is {reject}: images of none of the classes are told by shots that are held out, but {why}; "
            "expected 2 shots or more, each once; or leave reject out"
        )
    refuse_share(reject, int(counts[counts > 1].sum()))
    if _needs_folds(lesson.recipe) and not training.calibration_folds:
        raise InputError(
            f"reject is {reject}, but method {lesson.recipe.method.method} trains the towers, and calibration-folds is "
            "0: no shot would be held out; add calibration-folds 4, or leave reject out"
        )


def evidence_of(lesson: Lesson) -> BelongingEvidence | None:
    """Gather what the folds of a method that trains the towers tell; None where nobody asked, or no fold is needed."""
    if lesson.recipe.training.reject is None or not _needs_folds(lesson.recipe):
        return None
    return BelongingEvidence(len(lesson.task.class_names))


def learnt_belonging(
    lesson: Lesson, learner: Learner, held_out: HeldOutBelonging | None
) -> tuple[Belonging | None, tuple[str, ...]]:
    """The rule that tells images of none of a fitted learner's classes, and notes for a person where there is none.

    Args:
        lesson: With the recipe that it was fitted by.
        learner: It.
        held_out: What the folds told, for a method that needs them.

    Raises:
        InputError: Too few images can be held out.
    """
    reject = lesson.recipe.training.reject
    if reject is None:
        return None, ()
    if held_out is None and _needs_folds(lesson.recipe):
        note = "images of none of the classes are not told: there was no time to hold every shot out once"
        return None, (f"{note}; give it more (--time-budget), or name a method and calibration-folds",)
    return belonging_of(learner, lesson.examples, held_out, reject), ()


def _needs_folds(recipe: Recipe) -> bool:
    return method_spec(recipe.method.method).kind == "weights"
