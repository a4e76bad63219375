"""Probabilities and thresholds of labels by a lesson's shots, where images have several."""

from __future__ import annotations

from collections.abc import Mapping

from ..evaluation import held_out_scores, left_out_scores, presence_of
from ..methods import method_spec
from ..progress import Track
from ..several_labels import Presence, dealt
from ..training import Learner
from .lesson import Lesson

_UNTOLD = 0.5


def learnt_presence(
    lesson: Lesson, learner: Learner, chosen: Mapping[str, float], told: Presence | None, track: Track
) -> tuple[Presence | None, tuple[str, ...]]:
    """The rule that makes probabilities and labels of a fitted learner's scores, and notes on it for a person.

    A method that is computed from its shots is asked about each by what it would have learnt without it, with its
    hyper-parameters as they are. That takes no image through the tower again and chooses nothing again. One that learns
    nothing is asked about all of them. One that trains the towers has the offsets that it was trained with, and
    thresholds of a half, unless folds have told.

    Args:
        lesson: With the recipe that it was fitted by.
        learner: It.
        chosen: The hyper-parameters that its outcome has.
        told: What the folds of the recipe's calibration told, if any.
        track: Shows progress.
    """
    examples = lesson.examples
    if not examples.has_several or (told is not None and not learner.is_computed):
        return told, ()
    if learner.offsets is not None:
        offsets = tuple(learner.offsets.tolist())
        note = "no shot was held out, so that every label has the threshold 0.5; --calibration-folds 4 learns them"
        return Presence(0, 0, 1.0, offsets, (_UNTOLD,) * len(offsets)), (note,)
    if learner.is_computed and dealt(examples.labels, 2).max() > 0 and not examples.has_repeats:
        return presence_of(*left_out_scores(learner, examples, chosen, track)), ()
    presence = presence_of(*held_out_scores(lambda: learner, examples, None, track=track), 0)
    if not method_spec(learner.recipe.method.method).learns:
        return presence, ()
    note = "no shot can be held out: probabilities and thresholds are those of the shots that were learnt"
    return presence, (f"{note}; 2 shots or more tell better",)
