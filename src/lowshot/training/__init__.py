"""Training: methods bound to a backbone, their steps and costs."""

from .create import create_learner
from .learner import Learner, TrainingOutcome

__all__ = ["Learner", "TrainingOutcome", "create_learner"]
