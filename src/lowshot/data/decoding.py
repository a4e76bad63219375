"""Decoding of image files: what Pillow leaves to its callers.

A file is opened by ``opening``, and what Pillow has decoded becomes pixels in ``picture``.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from PIL import Image

from .opening import check_size, with_image
from .picture import Picture, reduction
from .task import Pixels


def decode_image(source: Path | bytes) -> Pixels:
    """Decode one image as it is meant to be seen, a large photograph reduced (see ``LEAST_SIDE``).

    Args:
        source: A file, or the bytes of one. Of an animation the first frame is taken.

    Returns:
        RGB pixels ``(height, width, 3)``, ``uint8``.

    Raises:
        ImageError: Missing, unreadable, no plain file, truncated, not an image, too large or too narrow; the file is
            named.
    """
    return load_picture(source).pixels()


def load_picture(source: Path | bytes, *, whole: bool = False) -> Picture:
    """Decode one image, of which rows can then be asked for.

    Args:
        source: As for ``decode_image``.
        whole: Whether a large photograph stays as it is.

    Raises:
        ImageError: As for ``decode_image``.
    """
    name = _name(source)
    return with_image(source, name, lambda image: Picture.of(image, name, whole=whole, may_change=True))


def content_hash(pixels: Pixels) -> str:
    """Return a hash of an image's size and pixels: of what it shows, whatever its file is called."""
    digest = hashlib.sha256(repr(pixels.shape).encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()[:20]


def decoded_size(source: Path | bytes) -> tuple[int, int]:
    """Return the pixels of an image by its header, and the bytes that it takes while it is decoded.

    Raises:
        ImageError: It is none, or of a size that is refused.
    """
    name = _name(source)

    def measured(image: Image.Image) -> tuple[int, int]:
        width, height = image.size
        check_size(width, height, name)
        factor = reduction(width, height)
        stored = width * height // (factor**2 if image.format in ("JPEG", "MPO") else 1)
        of_a_pixel = {"1": 1, "L": 1, "P": 1}.get(image.mode, 2 if image.mode.startswith("I;16") else 4)  # in Pillow
        size = stored * of_a_pixel + 3 * width * height // factor**2
        if image.info.get("progressive"):  # libjpeg keeps all coefficients, two bytes each, of up to three colours
            size += 6 * width * height
        elif image.format in ("AVIF", "HEIF", "WEBP"):  # their libraries keep two frames, and hand over a third
            size += 12 * width * height
        return width * height, size

    return with_image(source, name, measured)


def _name(source: Path | bytes) -> str:
    return str(source) if isinstance(source, Path) else "image"
