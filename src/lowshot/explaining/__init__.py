"""Why a classifier says what it says: which parts of an image spoke for a class."""

from .picture import coloured, picture_of
from .relevance import Explanation, explain

__all__ = ["Explanation", "coloured", "explain", "picture_of"]
