"""Embeddings of images that several learners share, computed once."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from ..data.crops import central_crops, random_crops
from ..data.task import Images
from ..models import Backbone
from ..progress import Track
from ..settings import ModelConfig, TrainingConfig

IMAGES_AT_ONCE = 256
"""Views in one pass through the vision tower. The last bits of an embedding depend on it."""

Key: TypeAlias = tuple[object, ...]
"""Decides, beside the images, what their embeddings are."""


class Embeddings(NamedTuple):
    """Embeddings, and what they cost whoever computed them."""

    values: Tensor
    """On the CPU."""
    seconds: float


class EmbeddingCache:
    """Keeps embeddings that untrained vision towers computed, in memory.

    The images must be the same object, since to compare them would be to decode them. The cache does not keep images
    alive, and when they go their embeddings go.

    Threads may share one; at worst two of them compute the same embeddings.

    Args:
        capacity_bytes: Kept at most; those that were used longest ago go first.
    """

    def __init__(self, capacity_bytes: int = 1 << 30) -> None:
        self.capacity_bytes = capacity_bytes
        # Least recently used first. The address is only where to look: the reference tells whether the images live.
        self._cached: dict[tuple[Key, int], tuple[weakref.ref[Images], Embeddings]] = {}

    @property
    def cached_bytes(self) -> int:
        """Size of all embeddings that are kept now."""
        return sum(embeddings.values.nbytes for _, embeddings in list(self._cached.values()))

    def get(self, key: Key, images: Images, compute: Callable[[], Tensor]) -> Embeddings:
        """The embeddings of these images under this key.

        Args:
            key: See ``Key``; ``tower_key`` is a part of it.
            images: A fixed sequence of images.
            compute: Makes the embeddings where they are not known.
        """
        place = key, id(images)
        reference, embeddings = self._cached.pop(place, (None, None))
        if reference is None or embeddings is None or reference() is not images:
            started = time.perf_counter()
            embeddings = Embeddings(compute().cpu(), time.perf_counter() - started)
            try:
                reference = weakref.ref(images, lambda _: self._cached.pop(place, None))
            except TypeError:  # a list, or another object that cannot be watched
                return embeddings
        if embeddings.values.nbytes <= self.capacity_bytes:
            self._cached[place] = reference, embeddings
            for oldest in list(self._cached):
                if self.cached_bytes <= self.capacity_bytes:
                    break
                self._cached.pop(oldest, None)
        return embeddings


@torch.no_grad()
def encoded_views(
    backbone: Backbone,
    images: Images,
    config: TrainingConfig,
    views: int | None,
    track: Track,
    what: str,
    first: int = 0,
) -> Tensor:
    """Unit embeddings ``(V, N, D)`` of V views of each image, on the backbone's device.

    They are computed view after view: number n is view n // N of image n % N.

    Args:
        backbone: Encodes them.
        images: N images.
        config: How random crops are cut, and by which seed.
        views: How many random crops of each; None for the central one alone.
        track: Shows progress.
        what: What to call it.
        first: Number of the first image among all shots, by which its random crops are drawn.
    """
    count, size, device, resizing = len(images), backbone.image_size, backbone.device, backbone.resizing
    every, embeddings = range((views or 1) * count), []
    starts = every[::IMAGES_AT_ONCE]
    for start in track(starts, what=what, total=len(starts)):
        numbers = every[start : start + IMAGES_AT_ONCE]
        pixels = (images[number % count] for number in numbers)
        if views is None:
            crops = torch.cat([central_crops([each], size, resizing) for each in pixels])
        else:
            keys = [(config.seed, number // count, first + number % count) for number in numbers]
            crops = random_crops(
                pixels, size, crop_minimum=config.crop_minimum, flip=config.flip, keys=keys, device=device
            )
        embeddings.append(backbone.encode_images(crops))
    return torch.cat(embeddings).view(views or 1, count, -1)


def tower_key(backbone: Backbone, model: ModelConfig) -> Key:
    """Identify the function from pixels to embeddings of a vision tower as it was loaded."""
    weights = backbone.identity.weights_sha256, backbone.identity.settings_sha256
    pixels = "".join(backbone.resizing)
    return *weights, pixels, model.quantize, model.quantize_projection, str(backbone.dtype), backbone.device.type
