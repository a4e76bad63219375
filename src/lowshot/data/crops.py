"""From images of any size to the square batches a backbone takes: random crops to train on, central ones to judge."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from .task import Pixels

_RATIOS = (3 / 4, 4 / 3)  # width over height of a random crop, as RandomResizedCrop draws it
_ATTEMPTS = 10
_CROPS, _ORDER = 1, 2  # keep the streams of one seed apart; NumPy takes [7] and [7, 0] for the same seed


def central_crops(images: Sequence[Pixels], size: int) -> Tensor:
    """Resize the shorter side to ``size`` (bicubic, antialiased) and cut out the middle, as CLIP's own processor does.

    Returns:
        ``(B, 3, size, size)``, float32 in [0, 1].
    """
    if len({image.shape for image in images}) == 1:  # alike in size: one call for all
        return _central_crop(_as_floats(np.stack(images)), size)
    return torch.cat([_central_crop(_as_floats(image[None]), size) for image in images])


def _central_crop(images: Tensor, size: int) -> Tensor:
    height, width = images.shape[-2:]
    shorter = min(height, width)
    resized = _resize(images, (size * height // shorter, size * width // shorter))
    top, left = ((side - size) // 2 for side in resized.shape[-2:])
    return resized[..., top : top + size, left : left + size]


def random_crops(
    images: Iterable[Pixels], size: int, *, crop_minimum: float, flip: bool, keys: Sequence[Sequence[int]]
) -> Tensor:
    """RandomResizedCrop (bicubic, antialiased) and mirroring, each image by a generator of its own.

    Args:
        images: B images; taken one at a time, so that no more than one need be decoded at once.
        size: Side of the crops in pixels.
        crop_minimum: Smallest share of the area that is kept.
        flip: Mirror half of them.
        keys: What seeds each image's generator, such as (seed, step, image): the same keys give the same pixels,
            whatever else is in the batch.

    Returns:
        ``(B, 3, size, size)``, float32 in [0, 1].
    """
    crops = []
    for image, key in zip(images, keys, strict=True):
        generator = np.random.default_rng([*key, _CROPS])
        top, left, height, width = crop_box(image.shape[0], image.shape[1], crop_minimum, generator)
        crop = _resize(_as_floats(image[None, top : top + height, left : left + width]), (size, size))
        crops.append(crop.flip(-1) if flip and generator.random() < 0.5 else crop)
    return torch.cat(crops)


def crop_box(height: int, width: int, crop_minimum: float, generator: np.random.Generator) -> tuple[int, int, int, int]:
    """Top, left, height and width of a crop, distributed as torchvision's RandomResizedCrop with scale (minimum, 1)."""
    area = height * width
    for _ in range(_ATTEMPTS):
        kept = area * generator.uniform(crop_minimum, 1.0)
        ratio = math.exp(generator.uniform(math.log(_RATIOS[0]), math.log(_RATIOS[1])))
        crop_width, crop_height = round(math.sqrt(kept * ratio)), round(math.sqrt(kept / ratio))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            top = int(generator.integers(0, height - crop_height + 1))
            left = int(generator.integers(0, width - crop_width + 1))
            return top, left, crop_height, crop_width
    # The image is longer than any ratio allows: the largest central crop within the ratios.
    crop_width = min(width, round(height * _RATIOS[1]))
    crop_height = min(height, round(width / _RATIOS[0]))
    return (height - crop_height) // 2, (width - crop_width) // 2, crop_height, crop_width


def batches(count: int, batch_size: int, steps: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Indices of each of ``steps`` batches: shuffled passes over ``count`` examples, the last of a pass may be small.

    The order of pass n depends on (seed, n) alone.
    """
    done = 0
    for epoch in range(steps):
        order = np.random.default_rng([seed, epoch, _ORDER]).permutation(count)
        for start in range(0, count, batch_size):
            if done == steps:
                return
            yield order[start : start + batch_size]
            done += 1


def _as_floats(images: NDArray[np.uint8]) -> Tensor:
    """``(B, H, W, 3)`` bytes to ``(B, 3, H, W)`` floats in [0, 1]."""
    return torch.from_numpy(images.astype(np.float32)).permute(0, 3, 1, 2) / 255.0


def _resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    if images.shape[-2:] == size:
        return images
    resized = functional.interpolate(images, size=size, mode="bicubic", align_corners=False, antialias=True)
    return resized.clamp(0.0, 1.0)  # a bicubic kernel overshoots at edges
