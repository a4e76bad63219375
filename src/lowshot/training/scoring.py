"""From embeddings of images and prompts to class scores, in training and after it, and from scores to the loss."""

from __future__ import annotations

import dataclasses
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

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


IGNORED = -100
"""A label that the loss leaves out; where images have several, all of a row's are."""


class Loss(Protocol):
    """The quantity that is minimised, of some of a batch's images."""

    def __call__(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Return the sum over the images, without those whose labels are ``IGNORED``.

        Args:
            scores: ``(B, C)``.
            labels: Of each image its class ``(B,)``, or 1 for each class that it shows, else 0, ``(B, C)``.
        """


def cross_entropy(scores: Tensor, labels: Tensor) -> Tensor:
    """The loss where an image has one label: softmax cross-entropy."""
    return functional.cross_entropy(scores, labels, reduction="sum", ignore_index=IGNORED)


@dataclasses.dataclass(frozen=True)
class SigmoidLoss:
    """The loss where images have several labels: of image i and class c ``-log sigmoid(z_ic (s_ic + b_c))``.

    z is 1 where the image shows the class, else -1, and the loss is summed over the classes: SigLIP's (arXiv
    2303.15343, equation 1), of images and classes in place of images and texts. SigLIP learns one b for all pairs. Here
    each class has one that is solved for before training, and stays: with it the class is as frequent among the shots
    by the backbone's own scores as it is (``several_labels.solved_offsets``). So training begins without a step that
    only lowers all scores.

    Args:
        offsets: b, ``(C,)``, on the device of the scores.
    """

    offsets: Tensor

    def __call__(self, scores: Tensor, labels: Tensor) -> Tensor:
        """See ``Loss``."""
        margins = scores.to(torch.promote_types(scores.dtype, torch.float32)) + self.offsets
        counted = (labels >= 0).to(margins)
        truth = labels.clamp(min=0).to(margins)
        return functional.binary_cross_entropy_with_logits(margins, truth, weight=counted, reduction="sum")
