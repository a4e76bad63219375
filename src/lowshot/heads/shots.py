"""The examples that a head learns from: embeddings of the shots, and of the class prompts."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor
from torch.nn import functional


@dataclasses.dataclass(frozen=True)
class Text:
    """Embeddings of the class prompts: the classifier that no image has changed.

    Args:
        embeddings: Unit embeddings of the classes, ``(C, D)``.
        scale: The model's logit scale; 100 in OpenAI's models.
        lengths: What the tower's own embeddings of the classes measured before they were brought to length 1, ``(C,)``.
        has_words: Whether there is a text tower. If not, embeddings and lengths are zero, which favours no class.
    """

    embeddings: Tensor
    scale: float
    lengths: Tensor
    has_words: bool = True

    def to(self, device: torch.device) -> Text:
        """The same on another device."""
        return dataclasses.replace(self, embeddings=self.embeddings.to(device), lengths=self.lengths.to(device))

    def cosines(self, images: Tensor) -> Tensor:
        """Similarities ``(B, C)`` of unit embeddings ``(B, D)`` and the classes."""
        return images @ self.embeddings.T

    def logits(self, images: Tensor) -> Tensor:
        """Zero-shot class scores ``(B, C)``: the similarities times the scale."""
        return self.scale * self.cosines(images)


@dataclasses.dataclass(frozen=True)
class Shots:
    """Labelled images as a frozen vision tower sees them.

    Args:
        features: Unit embeddings of V views of each of N images, ``(V, N, D)``.
        labels: Class index of each image, ``(N,)``. Every class has an image. Where images have several labels, 1 for
            each class that an image shows, else 0, ``(N, C)``.
        text: What the class prompts say.
    """

    features: Tensor
    labels: Tensor
    text: Text

    @property
    def classes(self) -> int:
        """How many there are, C."""
        return len(self.text.embeddings)

    @property
    def per_class(self) -> int:
        """Images of the class that has most; where images have several labels, of the median class."""
        return max(1, int(self.counts.median() if self.has_several else self.counts.max()))

    @property
    def has_several(self) -> bool:
        """Whether images have several labels each, or none."""
        return self.labels.ndim == 2

    @property
    def counts(self) -> Tensor:
        """Images of each class, ``(C,)``."""
        return self.labels.sum(0) if self.has_several else torch.bincount(self.labels, minlength=self.classes)

    def subset(self, rows: Tensor) -> Shots:
        """Some of the images, by a mask ``(N,)`` or by their numbers."""
        return dataclasses.replace(self, features=self.features[:, rows], labels=self.labels[rows])

    def every_view(self) -> tuple[Tensor, Tensor]:
        """Each view as an image of its own: embeddings ``(V * N, D)`` and labels ``(V * N,)`` or ``(V * N, C)``."""
        views = len(self.features)
        return self.features.flatten(0, 1), self.labels.repeat(views, *(1 for _ in self.labels.shape[1:]))

    def mean_views(self) -> Tensor:
        """One unit embedding of each image, ``(N, D)``: the mean of its views, brought to length 1."""
        return functional.normalize(self.features.mean(0), dim=-1)

    def class_sums(self) -> Tensor:
        """Sum over each class of its images' mean views, ``(C, D)``."""
        return by_class(self.mean_views().T, self.labels, self.classes).T


def shown(labels: Tensor, classes: int) -> Tensor:
    """1 for each class that an image shows, else 0, ``(N, C)``, of labels in either form."""
    return labels if labels.ndim == 2 else functional.one_hot(labels, classes)


def by_class(columns: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Add up the columns that belong to one class: ``(B, N)`` to ``(B, C)``.

    Where images have several labels, ``(N, C)``, a column belongs to several.
    """
    if labels.ndim == 2:
        return columns @ labels.to(columns)
    return columns.new_zeros(columns.shape[0], classes).index_add(1, labels, columns)
