"""Nearest class mean: the class whose shots' mean direction is nearest."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from ..progress import Report
from .head import Axes, Fit, OtherClasses, Schedule, as_saved
from .shots import Shots, Text


@dataclasses.dataclass(frozen=True)
class NearestMean:
    """Cosine similarity to the mean of each class's unit embeddings, times the model's logit scale.

    SimpleShot's nearest centroid with L2-normalised features (arXiv 1911.04623, section 2), both sides of unit length,
    where the nearest by Euclidean distance is the nearest by cosine. It has no hyper-parameters and does not use the
    class names.

    Args:
        means: Unit vectors ``(C, D)``.
    """

    AXES: ClassVar[Axes] = {"means": "CD"}
    TRAINED: ClassVar[tuple[str, ...]] = ()
    OTHER_CLASSES: ClassVar[OtherClasses] = "none"

    means: Tensor

    @classmethod
    def fit(cls, shots: Shots, schedule: Schedule, report: Report) -> Fit:  # noqa: ARG003
        """Average."""
        return Fit(cls.again(shots, {}))

    @classmethod
    def again(cls, shots: Shots, chosen: Mapping[str, float]) -> NearestMean:  # noqa: ARG003
        """See ``Computed``."""
        return cls(as_saved(functional.normalize(shots.class_sums(), dim=-1)))

    def scores(self, images: Tensor, text: Text) -> Tensor:
        """Scaled cosine similarities ``(B, C)``."""
        return text.scale * images @ self.means.to(images).T
