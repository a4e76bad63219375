"""From images of any size to the square batches a backbone takes: random crops to train on, central ones to judge."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ..resizing import Interpolation, Resizing
from .picture import Rows
from .task import Pixels

_RATIOS = (3 / 4, 4 / 3)  # width over height of a random crop, as RandomResizedCrop draws it
_ATTEMPTS = 10
_FLOAT_PIXELS = 1 << 19  # of an image that are floats at once: 6 MB
_PADDED_PIXELS = 1 << 20  # resized at once on a device: 3 MB of bytes, there 13 MB of floats
_USUAL = Resizing()
_CROPS, _ORDER = 1, 2  # keep the streams of one seed apart; NumPy takes [7] and [7, 0] for the same seed


def central_crops(images: Sequence[Rows], size: int, resizing: Resizing = _USUAL) -> Tensor:
    """Resize the shorter side to ``size`` (bicubic, antialiased) and cut out the middle, as CLIP's own processor does.

    Of a large image no more than a few rows are floats at once. Resizing is separable, so the crop is the same to the
    last bit.

    Args:
        images: Of any sizes.
        size: Side of the crops, pixels.
        resizing: How a model wants them resized, if otherwise: bilinear, or both sides whatever their ratio.

    Returns:
        ``(B, 3, size, size)``, float32 in [0, 1].
    """
    shapes = {image.shape for image in images}
    if len(shapes) == 1 and not _is_large(images[0]):  # alike in size: one call for all
        return _cropped(_resized(_as_floats(np.stack([image[:] for image in images])), size, resizing), size)
    return torch.cat([_cropped(_resized_by_rows(image, size, resizing), size) for image in images])


def _is_large(image: Rows) -> bool:
    return bool(image.shape[0] * image.shape[1] > _FLOAT_PIXELS)


def _resized_by_rows(image: Rows, size: int, resizing: Resizing) -> Tensor:
    """Resize an image, ``(1, 3, h, w)``, first along its rows, a few of which are floats at once."""
    height, width, _ = image.shape
    if not _is_large(image):
        return _resized(_as_floats(image[:][None]), size, resizing)
    new_height, new_width = _resized_sides(height, width, size, resizing)
    narrow = torch.empty(1, 3, height, new_width).contiguous(memory_format=torch.channels_last)
    step = max(1, _FLOAT_PIXELS // width)
    for top in range(0, height, step):
        rows = _as_floats(image[top : top + step][None])
        narrow[:, :, top : top + step] = _interpolated(rows, (rows.shape[-2], new_width), resizing.interpolation)
    return _interpolated(narrow, (new_height, new_width), resizing.interpolation).clamp(0.0, 1.0)


def _resized_sides(height: int, width: int, size: int, resizing: Resizing) -> tuple[int, int]:
    if resizing.mode == "squash":
        return size, size
    shorter = min(height, width)
    return size * height // shorter, size * width // shorter


def _resized(images: Tensor, size: int, resizing: Resizing) -> Tensor:
    height, width = images.shape[-2:]
    return _resize(images, _resized_sides(height, width, size, resizing), resizing.interpolation)


def _cropped(resized: Tensor, size: int) -> Tensor:
    top, left = ((side - size) // 2 for side in resized.shape[-2:])
    return resized[..., top : top + size, left : left + size]


def random_crops(
    images: Iterable[Pixels],
    size: int,
    *,
    crop_minimum: float,
    flip: bool,
    keys: Sequence[Sequence[int]],
    device: torch.device | None = None,
) -> Tensor:
    """RandomResizedCrop (bicubic, antialiased) and mirroring, each image by a generator of its own.

    A CPU resizes crop by crop, any other device many at once from their bytes; the two agree to 2e-6, unless matrix
    products on the device are allowed less than float32 (TF32). One thread of an EPYC resizes 32 crops of 500 x 375
    photographs to 224 pixels in 93 ms one by one and in 590 ms at once; of 28 x 28 images to 32 in 1.5 and 1.0 ms,
    which is too little to gain for a second way on one device (benchmarks/decoding.py).

    Args:
        images: B images; taken one at a time, and nothing but the crop is kept of one when the next is asked for.
        size: Side of the crops in pixels.
        crop_minimum: Smallest share of the area that is kept.
        flip: Mirror half of them.
        keys: What seeds each image's generator, such as (seed, step, image): the same keys give the same pixels,
            whatever else is in the batch (on a CPU to the last bit).
        device: Where the crops are computed and returned; the CPU if not given.

    Returns:
        ``(B, 3, size, size)``, float32 in [0, 1].

    Raises:
        ValueError: There are more or fewer images than keys.
    """
    if device is not None and device.type != "cpu":
        return prepare_crops(images, size, crop_minimum=crop_minimum, flip=flip, keys=keys, device=device).resized(
            device
        )
    crops = []
    for cut in _cuts(images, crop_minimum, flip, keys):
        resized = _resize(_as_floats(cut.pixels[None]), (size, size))
        crops.append(resized.flip(-1) if cut.mirrored else resized)
    return torch.cat(crops)


class PreparedCrops(NamedTuple):
    """Crops as far as the processor prepares them for a device."""

    portions: Sequence[Portion]
    """Resized one after the other."""
    size: int
    """Side of the crops in pixels."""

    def resized(self, device: torch.device) -> Tensor:
        """Return the crops as ``random_crops`` does, on the device; the processor does not wait for them."""
        return torch.cat([portion.resized(self.size, device) for portion in self.portions])


def prepare_crops(
    images: Iterable[Pixels],
    size: int,
    *,
    crop_minimum: float,
    flip: bool,
    keys: Sequence[Sequence[int]],
    device: torch.device,
) -> PreparedCrops:
    """Draw and cut out what ``random_crops`` resizes on a device; any thread may do so ahead of time.

    Raises:
        ValueError: There are more or fewer images than keys.
    """
    cuts = _cuts(images, crop_minimum, flip, keys)
    pinned = device.type == "cuda"
    return PreparedCrops([Portion.of(portion, size, pinned=pinned) for portion in _portions(cuts)], size)


def crop_box(height: int, width: int, crop_minimum: float, generator: np.random.Generator) -> tuple[int, int, int, int]:
    """Draw a crop's top, left, height and width as torchvision's RandomResizedCrop with scale (minimum, 1) does."""
    area = height * width
    for _ in range(_ATTEMPTS):
        crop_area = area * generator.uniform(crop_minimum, 1.0)
        ratio = math.exp(generator.uniform(math.log(_RATIOS[0]), math.log(_RATIOS[1])))
        crop_width, crop_height = round(math.sqrt(crop_area * ratio)), round(math.sqrt(crop_area / ratio))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            top = int(generator.integers(0, height - crop_height + 1))
            left = int(generator.integers(0, width - crop_width + 1))
            return top, left, crop_height, crop_width
    # The image is longer than any ratio allows: the largest central crop within the ratios.
    crop_width = min(width, round(height * _RATIOS[1]))
    crop_height = min(height, round(width / _RATIOS[0]))
    return (height - crop_height) // 2, (width - crop_width) // 2, crop_height, crop_width


def batches(count: int, batch_size: int, steps: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Yield the indices of each batch: shuffled passes over ``count`` examples, the last of a pass may be small.

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


class _Cut(NamedTuple):
    """A part of an image, and whether it is to be mirrored."""

    pixels: Pixels
    mirrored: bool


def _cuts(images: Iterable[Pixels], crop_minimum: float, flip: bool, keys: Sequence[Sequence[int]]) -> Iterator[_Cut]:
    """Yield a random part of each image, copied so that nothing holds on to the whole."""
    waiting = iter(keys)
    for image in images:  # not zip, which would hold on to an image while the next one is decoded
        key = next(waiting, None)
        if key is None:
            raise ValueError(f"there are more images than keys; expected {len(keys)}")
        generator = np.random.default_rng([*key, _CROPS])
        top, left, height, width = crop_box(image.shape[0], image.shape[1], crop_minimum, generator)
        crop = image[top : top + height, left : left + width].copy()
        del image
        yield _Cut(crop, mirrored=flip and generator.random() < 0.5)
    if next(waiting, None) is not None:
        raise ValueError(f"there are fewer images than keys; expected {len(keys)}")


def _portions(cuts: Iterable[_Cut]) -> Iterator[list[_Cut]]:
    """Yield as many at once, one at least, as have ``_PADDED_PIXELS`` when all are padded to the largest."""
    portion: list[_Cut] = []
    for cut in cuts:
        height, width = (max(each.pixels.shape[axis] for each in [*portion, cut]) for axis in (0, 1))
        if portion and (len(portion) + 1) * height * width > _PADDED_PIXELS:
            yield portion
            portion = []
        portion.append(cut)
    if portion:
        yield portion


class Portion(NamedTuple):
    """Cuts that are resized together, on the host, in memory that a device can copy from by itself."""

    padded: Tensor
    """``(B, H, W, 3)``, bytes; the rest beyond a cut is whatever was there."""
    vertical: Tensor
    """See ``_lines``, of the columns."""
    horizontal: Tensor
    """The same for the rows, see ``_lines``."""

    @classmethod
    def of(cls, cuts: Sequence[_Cut], size: int, *, pinned: bool) -> Portion:
        """Lay cuts out side by side, in memory that is pinned for a CUDA device."""
        heights, widths = (np.array([cut.pixels.shape[axis] for cut in cuts]) for axis in (0, 1))
        # The rest beyond a crop is left as it is: bytes are finite, and their weights are zero.
        shape = len(cuts), int(heights.max()), int(widths.max()), 3
        padded = torch.empty(shape, dtype=torch.uint8, pin_memory=pinned)
        for place, cut in zip(padded.numpy(), cuts, strict=True):
            place[: cut.pixels.shape[0], : cut.pixels.shape[1]] = cut.pixels
        lines = (
            _lines(heights, size, np.zeros(len(cuts), dtype=bool)),
            _lines(widths, size, np.array([cut.mirrored for cut in cuts])),
        )
        vertical, horizontal = (each.pin_memory() if pinned else each for each in lines)
        return cls(padded, vertical, horizontal)

    def resized(self, size: int, device: torch.device) -> Tensor:
        """Resize by two matrix products on a device, ``(B, 3, size, size)``, as ``interpolate`` would each cut alone.

        Resizing is linear and its two directions are independent: a crop ``X`` becomes ``V X H^T``, where the rows of V
        and H are the weights of the pixels above and beside each other (see ``_bicubic_weights``).
        """
        _, height, width, _ = self.padded.shape
        # Only CUDA copies in order with what comes after; a Mac's GPU may read memory that is another tensor's by then.
        at_once = device.type != "mps"
        vertical = _bicubic_weights(self.vertical.to(device, non_blocking=at_once), height)
        horizontal = _bicubic_weights(self.horizontal.to(device, non_blocking=at_once), width)
        rows = vertical @ self.padded.to(device, non_blocking=at_once).flatten(2).float()
        rows = rows.view(-1, size, width, 3).permute(0, 3, 1, 2).reshape(-1, 3 * size, width)
        resized = (rows @ horizontal.transpose(1, 2)).view(-1, 3, size, size)
        return (resized / 255.0).clamp(0.0, 1.0)


def _lines(lengths: NDArray[np.int64], size: int, mirrored: NDArray[np.bool_]) -> Tensor:
    """Return what decides how B lines are resized, ``(B, size + 2)``, float32: their centres, factors and lengths.

    A centre is where a pixel of the resized line lies among the line's own. It is far from 0 and so known to few digits
    in float32, which shows in the fifth digit of a weight: centres are rounded here where torch rounds them. Distances
    are multiplied by the factor where a line shrinks.

    Args:
        lengths: Pixels of each line, ``(B,)``.
        size: Pixels of a resized line.
        mirrored: Which lines come out the other way round, ``(B,)``.
    """
    scales = lengths.astype(np.float32) / np.float32(size)
    centres = (scales[:, None].astype(np.float64) * (np.arange(size) + 0.5)).astype(np.float32)
    centres[mirrored] = centres[mirrored, ::-1]
    each = [centres, np.minimum(1 / scales, 1)[:, None], lengths[:, None].astype(np.float32)]
    return torch.from_numpy(np.concatenate(each, axis=1))


def _bicubic_weights(lines: Tensor, longest: int) -> Tensor:
    """Return the weight of each pixel of B lines in each pixel of the same lines resized, ``(B, size, longest)``.

    As ``interpolate`` computes them: Keys' cubic kernel with a = -1/2, widened by the scale where a line shrinks, and
    normalised.

    Args:
        lines: Those of ``_lines``, on the device where the weights are computed.
        longest: Pixels that the lines are padded to.
    """
    centres, factors, lengths = lines[:, :-2, None], lines[:, -2, None, None], lines[:, -1, None, None]
    pixels = torch.arange(longest, device=lines.device)
    distances = ((pixels - centres + 0.5) * factors).abs()
    near = (1.5 * distances - 2.5) * distances**2 + 1
    far = ((2.5 - 0.5 * distances) * distances - 4) * distances + 2
    weights = torch.where(distances < 1, near, far)
    weights = weights.masked_fill((distances >= 2) | (pixels >= lengths), 0.0)
    return weights / weights.sum(-1, keepdim=True)


def _as_floats(images: NDArray[np.uint8]) -> Tensor:
    """Turn ``(B, H, W, 3)`` bytes into ``(B, 3, H, W)`` floats in [0, 1]."""
    return torch.from_numpy(images.astype(np.float32)).div_(255.0).permute(0, 3, 1, 2)


def _resize(images: Tensor, size: tuple[int, int], interpolation: Interpolation = "bicubic") -> Tensor:
    if images.shape[-2:] == size:
        return images
    return _interpolated(images, size, interpolation).clamp(0.0, 1.0)  # a bicubic kernel overshoots at edges


def _interpolated(images: Tensor, size: tuple[int, int], interpolation: Interpolation) -> Tensor:
    return functional.interpolate(images, size=size, mode=interpolation, align_corners=False, antialias=True)
