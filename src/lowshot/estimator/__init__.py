"""The classifier as scikit-learn's estimator. Nothing of scikit-learn is loaded until it asks."""

from .parameters import Estimator
from .unfitted import not_fitted

__all__ = ["Estimator", "not_fitted"]
