"""Help with labels: which of them may be wrong, and which image to label next."""

from .doubts import Doubt, Doubts, doubted_labels
from .suggestions import Suggestion, suggested_images, suits_photos

__all__ = ["Doubt", "Doubts", "Suggestion", "doubted_labels", "suggested_images", "suits_photos"]
