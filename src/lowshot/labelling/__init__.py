"""Help with labels: which of them may be wrong, which images are there twice, and which to label next."""

from .copies import Copy, copied_images
from .doubts import Doubt, Doubts, doubted_labels
from .suggestions import Suggestion, Unlabelled, suggested_images, suits_photos

__all__ = [
    "Copy",
    "Doubt",
    "Doubts",
    "Suggestion",
    "Unlabelled",
    "copied_images",
    "doubted_labels",
    "suggested_images",
    "suits_photos",
]
