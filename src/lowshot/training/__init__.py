"""Training: methods bound to a backbone, their steps and costs."""

from .create import create_learner
from .learner import Learner, TrainingOutcome
from .placing import ParameterCount, adapt, count_parameters

__all__ = ["Learner", "ParameterCount", "TrainingOutcome", "adapt", "count_parameters", "create_learner"]
