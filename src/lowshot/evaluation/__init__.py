"""Evaluation: predictions in batches, metrics, calibration, sets of classes."""

from .calibration import calibrate, calibrated, fold_checkpoints, fold_of_each, held_out_scores
from .conformal import prediction_sets, set_measures
from .metrics import confusion, measures
from .predict import embeddings_of, log_probabilities, probabilities, probabilities_as_read
from .protocols import learners_for, with_others
from .unseen import as_taught, left_to_judge
from .yardsticks import pixel_accuracy

__all__ = [
    "as_taught",
    "calibrate",
    "calibrated",
    "confusion",
    "embeddings_of",
    "fold_checkpoints",
    "fold_of_each",
    "held_out_scores",
    "learners_for",
    "left_to_judge",
    "log_probabilities",
    "measures",
    "pixel_accuracy",
    "prediction_sets",
    "probabilities",
    "probabilities_as_read",
    "set_measures",
    "with_others",
]
