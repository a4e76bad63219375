"""Training: methods bound to a backbone, their steps, what they cost."""

from .learner import Learner, TrainingOutcome, create_learner
from .placing import ParameterCount, adapt, count_parameters

__all__ = ["Learner", "ParameterCount", "TrainingOutcome", "adapt", "count_parameters", "create_learner"]
