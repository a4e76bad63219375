"""Training: methods bound to a backbone, their steps, what they cost."""

from .learner import Learner, TrainingOutcome, create_learner

__all__ = ["Learner", "TrainingOutcome", "create_learner"]
