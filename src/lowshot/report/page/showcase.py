"""Predictions of one classifier on test images: the part of a page that records cannot tell."""

from __future__ import annotations

import dataclasses

from ...errors import InputError


@dataclasses.dataclass(frozen=True)
class Prediction:
    """One test image and its prediction. Classes are indices."""

    image_png: bytes
    truth: int
    predicted: int
    probability: float
    """Probability of the predicted class, in [0, 1]."""


@dataclasses.dataclass(frozen=True)
class Showcase:
    """A few test images and the confusions over all of them, for one classifier.

    Raises:
        InputError: The confusion matrix or a prediction does not fit the classes.
    """

    method: str
    """Its display name."""
    shots: int
    classes: tuple[str, ...]
    predictions: tuple[Prediction, ...]
    confusion: tuple[tuple[int, ...], ...]
    """Numbers of test images, ``(C, C)``: a row per true class, a column per predicted class."""
    note: str = ""
    """A sentence on how the images were chosen."""

    def __post_init__(self) -> None:
        count = len(self.classes)
        if len(self.confusion) != count or any(len(row) != count for row in self.confusion):
            raise InputError(f"confusion matrix does not fit {count} classes; expected {count} x {count} numbers")
        for prediction in self.predictions:
            if not (0 <= prediction.truth < count and 0 <= prediction.predicted < count):
                indices = f"truth {prediction.truth}, predicted {prediction.predicted}"
                raise InputError(f"prediction has {indices}; expected indices of {count} classes")
