"""The error of an estimator that was not fitted."""

from __future__ import annotations

import sys

from ..errors import NotFittedError


def not_fitted(message: str) -> NotFittedError:
    """The error to raise: scikit-learn's own too where scikit-learn is loaded, for only there somebody catches it."""
    if "sklearn.exceptions" not in sys.modules:
        return NotFittedError(message)
    from .sklearn_unfitted import UnfittedError

    return UnfittedError(message)
