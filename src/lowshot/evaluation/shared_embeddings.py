"""Embeddings of judged images that several learners share, computed once."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ..data.task import Images
from ..training.embeddings import EmbeddingCache, tower_key
from ..training.learner import Learner


class SharedEmbeddings(EmbeddingCache):
    """Embeddings of images as they are judged, by vision towers that nobody trains.

    Two learners share an embedding if their towers are the same function: the same weights and settings, in the same
    precision, on the same kind of device.
    """

    def of(self, learner: Learner, images: Images, compute: Callable[[], Tensor]) -> Tensor:
        """The images' unit embeddings ``(N, D)``, on the CPU.

        Args:
            learner: One whose vision tower is frozen.
            images: A fixed sequence of N images.
            compute: Makes the embeddings where they are not known.
        """
        assert learner.frozen_images
        key = tower_key(learner.backbone, learner.recipe.model)
        return self.get(key, images, compute).values
