"""Evaluation: predictions in batches, metrics, calibration, sets of classes, images of none."""

from .belonging import BelongingEvidence, accepted_share, belonging_of, roc_area
from .calibration import (
    calibrated,
    fold_checkpoints,
    fold_of_each,
    held_out_scores,
    left_out_scores,
    log_sums,
    scored,
)
from .conformal import GuaranteedSets, HeldOutSets, Sets, prediction_sets, set_measures
from .metrics import confusion, measures, several_measures
from .predict import (
    Judgement,
    belonging_scores,
    class_scores,
    embeddings_of,
    judged_as_read,
    normalised,
    probabilities,
)
from .presence import presence_of
from .protocols import learners_for, with_others
from .transduction import transduced
from .unseen import as_taught, left_to_judge
from .yardsticks import pixel_accuracy

__all__ = [
    "BelongingEvidence",
    "GuaranteedSets",
    "HeldOutSets",
    "Judgement",
    "Sets",
    "accepted_share",
    "as_taught",
    "belonging_of",
    "belonging_scores",
    "calibrated",
    "class_scores",
    "confusion",
    "embeddings_of",
    "fold_checkpoints",
    "fold_of_each",
    "held_out_scores",
    "judged_as_read",
    "learners_for",
    "left_out_scores",
    "left_to_judge",
    "log_sums",
    "measures",
    "normalised",
    "pixel_accuracy",
    "prediction_sets",
    "presence_of",
    "probabilities",
    "roc_area",
    "scored",
    "set_measures",
    "several_measures",
    "transduced",
    "with_others",
]
