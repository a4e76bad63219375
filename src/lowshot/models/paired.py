"""Two encoders side by side: what one does not see the other may."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import math

import torch
from torch import Tensor
from torch.nn import functional

from .backbone import Backbone, copied

BESIDE = " + "
"""Between the names of two models that are loaded as one."""


@dataclasses.dataclass
class PairedBackbone(Backbone):
    """A backbone, and an image encoder whose embeddings stand behind its own.

    An embedding is (a, b) / sqrt(2) with the unit embeddings a and b of the two, ``(B, D + E)``: again of length 1, and
    cosines are the mean of both cosines. Class embeddings are (sqrt(2) t, 0), so that their products with an image's
    are what they are without the second encoder, which reads no names (AMU-Tuning, arXiv 2404.08958, and CaFo, arXiv
    2303.02151, add such features to CLIP's too, each in its own way).

    Images are cut or squashed once, as the first one wants them, and both see the same square.

    Args:
        second: The image encoder, on the same device; whatever else it can do is left aside.
    """

    second: Backbone = dataclasses.field(kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.parameters += self.second.parameters

    @classmethod
    def of(cls, first: Backbone, second: Backbone) -> PairedBackbone:
        """Put them together. Identity and name are the first one's; the hashes are of both."""
        one, other = first.identity, second.identity
        spellings = [(each.settings_sha256, *each.equal_settings_sha256) for each in (one, other)]
        settings, *equal = itertools.starmap(_joined, itertools.product(*spellings))
        identity = dataclasses.replace(
            one,
            weights_sha256=_joined(one.weights_sha256, other.weights_sha256),
            settings_sha256=settings,
            rounded_sha256={name: _joined(own, other.rounded_sha256[name]) for name, own in one.rounded_sha256.items()},
            equal_settings_sha256=equal,
        )
        before = first.resizing_before
        return cls(first.model, first.tokenizer, first.mean, first.std, identity, before, second=second)

    @property
    def image_size(self) -> int:
        """Side of the images that are asked for: the larger one. For the other encoder they are resized."""
        return max(super().image_size, self.second.image_size)

    @property
    def embedding_size(self) -> int:
        """Numbers of both embeddings."""
        return super().embedding_size + self.second.embedding_size

    @property
    def beside(self) -> tuple[Backbone, ...]:
        """The second encoder."""
        return (self.second,)

    def copied(self, device: torch.device) -> PairedBackbone:
        """Both models copied."""
        return dataclasses.replace(self, model=copied(self.model, device), second=self.second.copied(device))

    def encode_images(self, images: Tensor) -> Tensor:
        """Unit embeddings ``(B, D + E)`` of images ``(B, 3, S, S)`` in [0, 1]; S is ``image_size``."""
        first = super().encode_images(_resized(images, super().image_size))
        second = self.second.encode_images(_resized(images, self.second.image_size))
        return torch.cat([first, second.to(first)], dim=-1) / math.sqrt(2)

    def among_images(self, classes: Tensor) -> Tensor:
        """Class embeddings ``(C, D)`` as (sqrt(2) t, 0), ``(C, D + E)``."""
        return functional.pad(math.sqrt(2) * classes, (0, self.second.embedding_size))


def _resized(images: Tensor, side: int) -> Tensor:
    if images.shape[-1] == side:
        return images
    return functional.interpolate(images, (side, side), mode="bicubic", antialias=True).clamp(0, 1)


def _joined(one: str, other: str) -> str:
    return hashlib.sha256(f"{one} {other}".encode()).hexdigest()
