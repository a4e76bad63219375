"""Help with labels: which of them may be wrong."""

from .doubts import Doubt, Doubts, doubted_labels

__all__ = ["Doubt", "Doubts", "doubted_labels"]
