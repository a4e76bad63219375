"""The same error for programs that catch scikit-learn's; only imported where scikit-learn is loaded."""

from __future__ import annotations

import sklearn.exceptions

from ..errors import NotFittedError

_PARENTS = (NotFittedError, sklearn.exceptions.NotFittedError)
UnfittedError: type[NotFittedError] = type("UnfittedError", _PARENTS, {"__module__": __name__})
"""A classifier was asked to predict before it was fitted."""
