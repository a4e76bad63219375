"""A fixed number of views of each training image, so that what is not trained is computed once for each.

In the papers' protocol every step crops anew, and nothing about an image can be kept. With ``--views`` each image has
N crops of its own, and a step shows one of them. What enters the first trained block of the vision tower is then the
same whenever a view is shown again; where that tower is not trained at all, its embedding is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from ..models import Backbone, TowerState

CAPACITY = 1 << 30
"""Bytes of hidden states that are kept at most."""
SLAB = 1 << 25
"""Bytes that are taken at once for what is kept. So much glibc maps by itself; single views, which stay among tensors
that do not, would leave gaps: 1.6 times as much was resident here (ViT-B/16)."""
_CHOICE = 4  # keeps the choice of views apart from a seed's other streams
View = tuple[int, int]
"""An image and the number of one of its views."""


class Views:
    """Some rows of a step to their images, as far as they need not be computed again.

    Args:
        backbone: With its adapter.
        crops_of: Views to their pixels ``(N, 3, S, S)``: the same for a view each time.
        views: Views of each image.
        seed: With step and row it decides which view is shown.
        capacity: Bytes that are kept at most; views beyond them are computed each time they are shown.
    """

    def __init__(
        self,
        backbone: Backbone,
        crops_of: Callable[[Sequence[View]], Tensor],
        views: int,
        seed: int,
        capacity: int = CAPACITY,
    ) -> None:
        self._backbone = backbone
        self._crops_of = crops_of
        self._views = views
        self._seed = seed
        self._capacity = capacity
        self._cached: dict[View, TowerState] = {}
        self._free: Iterator[Tensor] = iter(())
        self._stage = backbone.first_trained_stage("vision")
        self.cached_bytes = 0
        """Bytes that are kept now."""

    def __call__(self, step: int, rows: Sequence[int]) -> Tensor | TowerState:
        """The images of some rows: where all blocks are trained pixels, else what enters the first that is."""
        shown = [(row, self.number(step, row)) for row in rows]
        if self._stage == 0:
            return self._crops_of(shown)
        computed = {}
        with torch.no_grad():
            for view in dict.fromkeys(shown):
                if view not in self._cached:
                    # By itself: in a batch its last bits would depend on the others, and on where a run was taken up.
                    pixels = self._crops_of([view])
                    computed[view] = self._backbone.advance(self._backbone.embed_images(pixels), self._stage)
        images = TowerState.joined([computed[view] if view in computed else self._cached[view] for view in shown])
        for view, image in computed.items():
            self._keep(view, image)
        return images

    def number(self, step: int, row: int) -> int:
        """Which view of an image a step shows, from 0."""
        return int(np.random.default_rng([self._seed, step, row, _CHOICE]).integers(self._views))

    def _keep(self, view: View, image: TowerState) -> None:
        """Copy what was computed of a view to where it is kept, if there is room."""
        left = (self._capacity - self.cached_bytes) // image.nbytes
        if left == 0:
            return
        place = next(self._free, None)
        if place is None:
            slab = image.hidden.new_empty(min(left, max(1, SLAB // image.nbytes)), *image.hidden.shape[1:])
            self._free = (slab[row : row + 1] for row in range(len(slab)))  # of a tiny model it has 70,000 places
            place = next(self._free)
        self._cached[view] = dataclasses.replace(image, hidden=place.copy_(image.hidden))
        self.cached_bytes += image.nbytes


def views_bytes(backbone: Backbone, images: int, views: int, capacity: int = CAPACITY) -> int:
    """Bytes that ``Views`` will keep once it has shown every view of so many images."""
    stage = backbone.first_trained_stage("vision")
    if stage == 0:
        return 0
    side = backbone.image_size
    with torch.no_grad():
        one = backbone.advance(backbone.embed_images(torch.zeros(1, 3, side, side)), stage).nbytes
    return min(images * views, capacity // one) * one
