"""Evaluation: predictions in batches, metrics."""

from .metrics import accuracy, confusion
from .predict import probabilities

__all__ = ["accuracy", "confusion", "probabilities"]
