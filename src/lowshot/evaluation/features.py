"""Embeddings of images that several learners share, computed once."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TypeAlias

from torch import Tensor

from ..data.task import Images
from ..training.learner import Learner

_Key: TypeAlias = tuple[str, ...]


class ImageFeatures:
    """Keeps what vision towers that nobody trains have made of images, in memory.

    Two learners share an embedding if their towers are the same function: the same weights and settings, in the same
    precision, on the same kind of device. The images must be the same object, since to compare them would be to decode
    them; it is not kept alive, and when it goes its embeddings go.

    Threads may share one; at worst two of them compute the same embeddings.

    Args:
        capacity_bytes: Kept at most; those that were used longest ago go first.
    """

    def __init__(self, capacity_bytes: int = 1 << 30) -> None:
        self.capacity_bytes = capacity_bytes
        # Least recently used first. The address is only where to look: the reference tells whether the images live.
        self._kept: dict[tuple[_Key, int], tuple[weakref.ref[Images], Tensor]] = {}

    @property
    def kept_bytes(self) -> int:
        """Size of all embeddings that are kept now."""
        return sum(embeddings.nbytes for _, embeddings in list(self._kept.values()))

    def of(self, learner: Learner, images: Images, compute: Callable[[], Tensor]) -> Tensor:
        """The images' unit embeddings ``(N, D)``, on the CPU.

        Args:
            learner: One whose vision tower is frozen.
            images: A fixed sequence of N images.
            compute: Makes the embeddings where they are not known.
        """
        assert learner.frozen_images
        key = _tower(learner), id(images)
        reference, embeddings = self._kept.pop(key, (None, None))
        if reference is None or embeddings is None or reference() is not images:
            reference, embeddings = self._reference(images, key), compute().cpu()
        if reference is not None and embeddings.nbytes <= self.capacity_bytes:
            self._kept[key] = reference, embeddings
            self._make_room()
        return embeddings

    def _reference(self, images: Images, key: tuple[_Key, int]) -> weakref.ref[Images] | None:
        """What forgets the embeddings when the images go; None for a list or another object that cannot be watched."""
        try:
            return weakref.ref(images, lambda _: self._kept.pop(key, None))
        except TypeError:
            return None

    def _make_room(self) -> None:
        for key in list(self._kept):
            if self.kept_bytes <= self.capacity_bytes:
                return
            self._kept.pop(key, None)


def _tower(learner: Learner) -> _Key:
    """What decides the function from pixels to embeddings, of a vision tower as it was loaded."""
    backbone, quantize = learner.backbone, learner.recipe.model.quantize
    identity = backbone.identity
    return identity.weights_sha256, identity.settings_sha256, quantize, str(backbone.dtype), backbone.device.type
