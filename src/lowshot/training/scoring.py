"""From embeddings of images and prompts to class scores, in training and after it."""

from __future__ import annotations

import dataclasses
from typing import Protocol

from torch import Tensor

from ..models import Backbone
from .prompts import Owners


class Scoring(Protocol):
    """A comparison of images with classes."""

    def classes(self, prompts: Tensor) -> Tensor:
        """Class embeddings ``(C, ...)`` from the unit embeddings of all classes' prompts, ``(P, D)``."""

    def scores(self, images: Tensor, classes: Tensor) -> Tensor:
        """Class scores ``(B, C)``.

        Args:
            images: Unit embeddings as ``Backbone.encode_images`` gives them.
            classes: Class embeddings as ``classes`` gives them.
        """

    @property
    def image_bytes(self) -> int:
        """Bytes of one image's scores at most, while they are computed and kept for the backward pass."""


@dataclasses.dataclass(frozen=True)
class CosineScoring:
    """Scaled cosine similarity to the direction of the mean of a class's prompts (arXiv 2103.00020, section 3.1.4).

    Args:
        backbone: Has the logit scale.
        owners: The class of each prompt; None where each class has one.
    """

    backbone: Backbone
    owners: Owners | None = None
    image_bytes: int = 0
    """A row of class scores, which is nothing beside a tower's activations."""

    def classes(self, prompts: Tensor) -> Tensor:
        """Class embeddings ``(C, D)``."""
        return prompts if self.owners is None else self.owners.averaged(prompts)

    def scores(self, images: Tensor, classes: Tensor) -> Tensor:
        """Class scores ``(B, C)`` of images ``(B, D)``."""
        return self.backbone.logits(images, classes)
