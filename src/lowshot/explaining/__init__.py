"""Why a classifier says what it says: which parts of an image spoke for a class."""

from .picture import picture_of
from .relevance import Explanation, explain

__all__ = ["Explanation", "explain", "picture_of"]
