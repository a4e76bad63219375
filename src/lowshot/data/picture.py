"""A decoded image as pixels: EXIF orientation, grey levels of more than 8 bits, transparency, photographs reduced.

Pillow keeps a decoded image at 1 to 4 bytes a pixel. Beside it a few rows at a time are made to RGB pixels, when they
are asked for.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

import numpy as np
from PIL import ExifTags, Image

from ..errors import ImageError
from . import libtiff
from .opening import check_size, complain, decoding
from .task import Pixels

LEAST_SIDE = 1344
"""Pixels that the shorter side of a photograph keeps at least when it is reduced, which is four times the largest crop
of a CLIP, 336. An image is decoded at a half, a quarter or an eighth of its size as long as that much remains; one
whose shorter side is below twice as much stays as it is."""
BACKGROUND = (255, 255, 255)
"""The colour that shows through transparent pixels."""
_ROWS_PIXELS = 1 << 19  # converted at once: 1.5 MB of RGB
_DARK = 16  # part of the white level below which grey levels look black: 12 bits in a file of 16


class _Turned(NamedTuple):
    """How the rows of an image are found in a file that holds it turned or mirrored."""

    by: Image.Transpose
    in_columns: bool
    from_end: bool


_ORIENTATIONS = {
    2: _Turned(Image.Transpose.FLIP_LEFT_RIGHT, in_columns=False, from_end=False),
    3: _Turned(Image.Transpose.ROTATE_180, in_columns=False, from_end=True),
    4: _Turned(Image.Transpose.FLIP_TOP_BOTTOM, in_columns=False, from_end=True),
    5: _Turned(Image.Transpose.TRANSPOSE, in_columns=True, from_end=False),
    6: _Turned(Image.Transpose.ROTATE_270, in_columns=True, from_end=False),
    7: _Turned(Image.Transpose.TRANSVERSE, in_columns=True, from_end=True),
    8: _Turned(Image.Transpose.ROTATE_90, in_columns=True, from_end=True),
}
"""EXIF orientation -> how it is undone."""


class Picture:
    """An image that is decoded, of which rows are made to RGB pixels when they are asked for.

    Args:
        image: As Pillow has decoded it.
        name: For messages.
        factor: Number of its pixels, in each direction, that become one.
        transparent: Grey level or colour that is transparent, where Pillow does not know it.
        orientation: Of EXIF.
    """

    def __init__(
        self,
        image: Image.Image,
        name: str,
        *,
        factor: int = 1,
        transparent: int | tuple[int, ...] | None = None,
        orientation: int = 1,
    ) -> None:
        self._image = image
        self._name = name
        self._factor = factor
        self._turned = _ORIENTATIONS.get(orientation)
        self._transparent = transparent
        width, height = image.size
        if self._turned is not None and self._turned.in_columns:
            width, height = height, width
        self._full = width, height
        self.shape = -(-height // factor), -(-width // factor), 3
        """Height, width, and 3 for red, green and blue."""
        self._white = self._checked_levels()
        if image.mode in ("RGBA", "LA", "PA") and not any(
            part.getchannel("A").getextrema()[1] for part in self._parts()
        ):
            complain("is transparent everywhere: it comes out white")

    @classmethod
    def of(cls, image: Image.Image, name: str, *, whole: bool = False, may_change: bool = False) -> Picture:
        """Decode what Pillow has opened.

        Args:
            image: Perhaps not decoded yet.
            name: For messages.
            whole: Whether a large photograph stays as it is.
            may_change: Whether nobody else has this image, so that a JPEG can be reduced while it is decoded.

        Raises:
            ImageError: It is of a size, or has grey levels, that are refused.
        """
        width, height = image.size
        check_size(width, height, name)
        factor = 1 if whole else reduction(width, height)
        if factor > 1 and may_change:
            image.draft(None, (width // factor, height // factor))  # does nothing in other formats
            factor //= round(width / image.size[0])
        transparent = _transparent(image)
        faults = list[str]()
        with libtiff.complaints(faults) if image.format == "TIFF" else contextlib.nullcontext():
            image.load()
        if faults:
            complain(f"has {len(faults):,} fault(s) in its data, such as: {faults[0]}")
        try:
            orientation = int(image.getexif().get(ExifTags.Base.Orientation, 1))
        except Exception:  # damaged EXIF: of a JPEG Pillow warns; of any other format it raises whatever befalls it
            orientation = 1
        return cls(image, name, factor=factor, transparent=transparent, orientation=orientation)

    def __getitem__(self, rows: slice) -> Pixels:
        """Return some rows, ``(rows, width, 3)``, made a few at a time."""
        top, bottom, _ = rows.indices(self.shape[0])
        if bottom - top <= self._step:
            return self._converted(top, bottom)
        pixels = np.empty((bottom - top, *self.shape[1:]), dtype=np.uint8)
        for first in range(top, bottom, self._step):
            last = min(first + self._step, bottom)
            pixels[first - top : last - top] = self._converted(first, last)
        return pixels

    @property
    def _step(self) -> int:
        """Rows that are made at once: their pixels in the file are what takes the memory."""
        return max(1, _ROWS_PIXELS // (self.shape[1] * self._factor**2))

    def _converted(self, top: int, bottom: int) -> Pixels:
        """Return these rows, all made at once."""
        width, height = self._full
        first, last, turned = top * self._factor, min(bottom * self._factor, height), self._turned
        with decoding(self._name):
            if turned is not None:
                low, high = (height - last, height - first) if turned.from_end else (first, last)
                box = (low, 0, high, width) if turned.in_columns else (0, low, width, high)
                part = self._image.crop(box).transpose(turned.by)
            else:
                part = self._image if (first, last) == (0, height) else self._image.crop((0, first, width, last))
            part = self._rgb(part)
            return np.asarray(part.reduce(self._factor) if self._factor > 1 else part)

    def strips(self) -> Iterator[Pixels]:
        """Yield all rows, a few at a time."""
        for top in range(0, self.shape[0], self._step):
            yield self[top : top + self._step]

    def content(self) -> str:
        """Return the ``content_hash`` of the pixels."""
        digest = hashlib.sha256(repr(self.shape).encode())
        for rows in self.strips():
            digest.update(rows.data)
        return digest.hexdigest()[:20]

    def pixels(self) -> Pixels:
        """Return all rows, ``(height, width, 3)``."""
        return self[:]

    def _rgb(self, part: Image.Image) -> Image.Image:
        """Return a part in 8 bits of red, green and blue."""
        hidden = None
        if self._transparent is not None:
            levels = np.asarray(part)
            hidden = (levels == self._transparent).reshape(*levels.shape[:2], -1).all(-1)
            part = part.copy()
            part.info.pop("transparency", None)
        if self._white is not None:
            levels = np.asarray(part, dtype=np.float64)
            part = Image.fromarray(np.round(levels * (255 / self._white)).clip(0, 255).astype(np.uint8))
        elif part.has_transparency_data:
            part = part.convert("RGBA")
            ground = Image.new("RGBA", part.size, (*BACKGROUND, 255))
            part = Image.alpha_composite(ground, part)
        part = part if part.mode == "RGB" else part.convert("RGB")
        if hidden is not None and hidden.any():
            part.paste(BACKGROUND, mask=Image.fromarray(hidden))
        return part

    def _parts(self) -> Iterator[Image.Image]:
        """Yield all of the image as it lies in its file, a few rows at a time."""
        width, height = self._image.size
        step = max(1, _ROWS_PIXELS // width)
        return (self._image.crop((0, top, width, min(top + step, height))) for top in range(0, height, step))

    def _checked_levels(self) -> int | None:
        """Return the grey level that is white; None for 8 bits, which are as they should be.

        Raises:
            ImageError: Levels are not numbers, below 0, or above that one.
        """
        white = _white(self._image)
        if white is None:
            return None
        extents = [(levels.min(), levels.max()) for levels in map(np.asarray, self._parts())]
        least, most = (float(end) for end in (np.min([e[0] for e in extents]), np.max([e[1] for e in extents])))
        if not (least >= 0 and most <= white):  # NaN is neither
            raise ImageError(f"{self._name} has grey levels from {least:g} to {most:g}; expected 0 to {white}")
        if 0 < most * _DARK <= white:
            complain(f"has grey levels from {least:g} to {most:g}, of 0 to {white}: it comes out nearly black")
        return white


Rows: TypeAlias = Pixels | Picture
"""An image of which rows are RGB pixels when they are asked for: pixels already, or a decoded picture."""


def reduction(width: int, height: int) -> int:
    """Return the number of pixels that become one, in each direction, where a photograph of this size is reduced."""
    return next((factor for factor in (8, 4, 2) if min(width, height) >= factor * LEAST_SIDE), 1)


def _white(image: Image.Image) -> int | None:
    """Return the grey level that is white, where an image has more than 8 bits of grey."""
    if image.mode == "F":
        return 1
    tags = getattr(image, "tag_v2", {})  # of a TIFF; elsewhere there are 16 bits without a sign
    [bits, *_], [kind, *_] = tags.get(ExifTags.Base.BitsPerSample, (16,)), tags.get(ExifTags.Base.SampleFormat, (1,))
    bits, is_signed = int(bits), kind == 2
    if not image.mode.startswith("I"):
        if is_signed:
            complain("has signed grey levels of 8 bits, which are read as if they had no sign")
        return None
    return 2 ** (bits - is_signed) - 1 if bits <= 16 else 65535


def _transparent(image: Image.Image) -> int | tuple[int, ...] | None:
    """Return the transparent grey level or colour of a PNG as Pillow will have decoded it.

    Pillow keeps it as it stands in the file, but grey of 1, 2 or 4 bits is spread to 8, and 16 bits of colour are cut.
    """
    stored, tiles = image.info.get("transparency"), getattr(image, "tile", ())
    if image.format != "PNG" or not tiles or not isinstance(stored, int | tuple):
        return None
    kind = tiles[0].args
    if kind == "RGB;16B" and isinstance(stored, tuple):
        return tuple(level >> 8 for level in stored)
    spread = {"1": 1, "L;2": 85, "L;4": 17, "I;16B": 1}.get(kind)
    return None if spread is None or not isinstance(stored, int) else stored * spread
