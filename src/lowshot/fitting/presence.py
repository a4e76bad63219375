"""What a lesson's shots tell of how sure each label is, where images have several."""

from __future__ import annotations

import copy

from ..evaluation import held_out_scores, presence_of
from ..methods import method_spec
from ..progress import Track
from ..several_labels import Presence, dealt
from ..training import Learner
from .lesson import Lesson

FOLDS = 4
"""Parts that the shots of a method on frozen features are held out in, unless the recipe says otherwise."""
_UNTOLD = 0.5


def learnt_presence(
    lesson: Lesson, learner: Learner, told: Presence | None, track: Track
) -> tuple[Presence | None, tuple[str, ...]]:
    """What makes probabilities and labels of a fitted learner's scores, and what a person should know of it.

    A method on frozen features holds its shots out in ``FOLDS`` parts by itself, which takes no image through the
    tower again. One that learns nothing is asked about all of them. One that trains the towers has the offsets that it
    was trained with, and thresholds of a half, unless folds have told.

    Args:
        lesson: With the recipe that it was fitted by.
        learner: It.
        told: What the folds of the recipe's calibration told, if any.
        track: Shows progress.
    """
    examples = lesson.examples
    if not examples.has_several or told is not None:
        return told, ()
    spec = method_spec(learner.recipe.method.method)
    if learner.offsets is not None:
        offsets = tuple(learner.offsets.tolist())
        note = "no shot was held out, so that every label has the threshold 0.5; --calibration-folds 4 learns them"
        return Presence(0, 0, 1.0, offsets, (_UNTOLD,) * len(offsets)), (note,)
    fold_of = None
    if spec.learns:
        fold_of = dealt(examples.labels, FOLDS)
        if fold_of.max() < 1 or examples.has_repeats:
            scores, labels = held_out_scores(lambda: learner, examples, None, track=track)
            note = "no shot can be held out: probabilities and thresholds are those of the shots that were learnt"
            return presence_of(scores, labels, 0), (f"{note}; 2 shots or more tell better",)
    # Copies share the backbone, and the embeddings that it gave of the shots.
    scores, labels = held_out_scores(lambda: copy.copy(learner), examples, fold_of, track=track)
    return presence_of(scores, labels, 0 if fold_of is None else int(fold_of.max()) + 1), ()
