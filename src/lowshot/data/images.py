"""The sequences of images that callers pass, and what stands for an image in Python."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import ImageError
from .decoding import content_hash, load_picture
from .opening import check_size, complaints, decoding
from .picture import LEAST_SIDE, Picture, Rows
from .task import Images, Pixels, place_of, whole

_PICTURE_LOCK = threading.Lock()


def as_pixels(image: object) -> Pixels:
    """Decode what Python callers pass as an image: a path, the bytes of a file, a PIL image, an array or a tensor.

    Arrays are ``(height, width)`` or ``(height, width, 3)``, ``uint8`` in 0..255 or floating point in [0, 1]. Tensors
    of torch may also be ``(3, height, width)`` or ``(1, height, width)``, as is usual there.

    Raises:
        ImageError: It is none of these, out of range, or as for ``decode_image``.
    """
    rows = as_rows(image)
    return rows.pixels() if isinstance(rows, Picture) else rows


def as_rows(image: Any) -> Rows:
    """Decode the same, a file so that its rows become RGB pixels when they are asked for.

    Raises:
        ImageError: As for ``as_pixels``.
    """
    if (file := _file_of(image)) is not None:
        return load_picture(file)
    if isinstance(image, Image.Image):
        # A PIL image may be a file that nobody has read yet, and the same one may be asked for from two threads.
        with _PICTURE_LOCK, decoding("image"):
            return Picture.of(image, "image").pixels()
    if hasattr(image, "detach") and hasattr(image, "cpu"):  # a tensor of torch
        values = image.detach().cpu()
        image = (values.float() if values.is_floating_point() else values).numpy()
        if image.ndim == 3 and image.shape[0] in (1, 3):
            image = image[0] if image.shape[0] == 1 else image.transpose(1, 2, 0)
    if not isinstance(image, np.ndarray):
        raise ImageError(f"an image is a {type(image).__name__}; expected a path, a PIL image or a NumPy array")
    array: NDArray[Any] = np.repeat(image[:, :, None], 3, axis=2) if image.ndim == 2 else image
    if array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise ImageError(f"an image array has shape {array.shape}; expected (height, width) or (height, width, 3)")
    check_size(array.shape[1], array.shape[0], "an image array")
    if array.dtype == np.uint8:
        return array
    if np.issubdtype(array.dtype, np.floating) and array.min() >= 0 and array.max() <= 1:
        return np.round(array * 255).astype(np.uint8)
    extent = f" from {array.min()} to {array.max()}" if np.issubdtype(array.dtype, np.number) else ""
    raise ImageError(
        f"an image array has values of {array.dtype}{extent}; expected uint8 in 0..255 or floating point in [0, 1]"
    )


def _file_of(image: object) -> Path | bytes | None:
    """Return the file that stands for an image, or the bytes of one; None for what is decoded already."""
    if isinstance(image, str | os.PathLike):
        return Path(os.fsdecode(image))
    return bytes(image) if isinstance(image, bytes | bytearray | memoryview) else None


class Examined(NamedTuple):
    """An image that was looked at."""

    content: str
    """The hash of what it shows in its full size (see ``content_hash``)."""
    faults: tuple[str, ...]
    """Its damage, in sentences without their subject."""


class EncodedImages:
    """Images that are decoded whenever they are asked for and not kept; a derived class knows where each is.

    An ImageError names the file or, where an image is bytes, the image by ``name``.
    """

    def source(self, index: int) -> Path | bytes:
        """Return the file of an image, or its bytes (see ``source_of``)."""
        raise NotImplementedError

    def name(self, index: int) -> str:
        """Return what messages call an image that is bytes."""
        raise NotImplementedError

    def __getitem__(self, index: int) -> Pixels:
        return self.picture(index).pixels()

    def picture(self, index: int) -> Picture:
        """Decode an image, of which rows can then be asked for (see ``rows_of``)."""
        source = self.source(index)
        try:
            return load_picture(source)
        except ImageError as error:
            if isinstance(source, Path):
                raise
            raise ImageError(f"{self.name(index)}: {error}") from error.__cause__


@dataclasses.dataclass(frozen=True)
class FileImages(EncodedImages):
    """Images in files, one each.

    Args:
        paths: Path of each file, best as a text: a million objects of ``Path`` would take half a gigabyte.
        folder: The folder that the paths start from.
    """

    paths: Sequence[str | Path]
    folder: Path = Path()

    def __len__(self) -> int:
        return len(self.paths)

    def __repr__(self) -> str:
        return f"FileImages({len(self):,})"

    def source(self, index: int) -> Path:
        return self.folder / self.paths[index]


@dataclasses.dataclass(frozen=True)
class ImagesOnDemand:
    """Images as Python callers pass them (see ``as_pixels``), decoded when asked for and not kept.

    An ImageError names the file or, where there is none, the image's index.
    """

    sources: Sequence[object] | Images

    def __len__(self) -> int:
        return len(self.sources)

    def __repr__(self) -> str:
        return f"ImagesOnDemand({len(self):,})"

    def source(self, index: int) -> Path | bytes | None:
        """Return the file of an image, or its bytes; None for one that is neither (see ``source_of``)."""
        return _file_of(self.sources[index])

    def __getitem__(self, index: int) -> Pixels:
        rows = self.picture(index)
        return rows.pixels() if isinstance(rows, Picture) else rows

    def picture(self, index: int) -> Rows:
        """Decode an image, of which rows can then be asked for (see ``rows_of``)."""
        with self._named(index) as source:
            return as_rows(source)

    def decoded(self, index: int) -> tuple[Pixels, Examined]:
        """Decode an image, and look at it."""
        with self._named(index) as image, complaints() as faults:
            pixels, file = as_pixels(image), _file_of(image)
            may_be_reduced = min(pixels.shape[:2]) >= LEAST_SIDE
            if may_be_reduced and file is not None:
                content = load_picture(file, whole=True).content()
            elif may_be_reduced and isinstance(image, Image.Image):
                with _PICTURE_LOCK, decoding("image"):
                    content = Picture.of(image, "image", whole=True).content()
            else:
                content = content_hash(pixels)
        return pixels, Examined(content, tuple(dict.fromkeys(faults)))

    @contextlib.contextmanager
    def _named(self, index: int) -> Iterator[object]:
        """Yield the image as it was passed; whatever is wrong with it, its index is said where it has no name."""
        source = self.sources[index]
        try:
            yield source
        except ImageError as error:
            if isinstance(source, str | os.PathLike):
                raise
            raise ImageError(f"images[{index}]: {error}") from error.__cause__


@dataclasses.dataclass(frozen=True)
class MemoryImages:
    """Images already decoded: an array ``(N, height, width, 3)`` or a list of images of any sizes."""

    pixels: Sequence[Pixels] | np.ndarray
    sources: Sequence[object] | Images = ()
    """The source of each, where that is known."""
    examined: Sequence[Examined] = ()
    """The content and the faults of each, where they are known from when it was decoded."""

    def __len__(self) -> int:
        return len(self.pixels)

    def source(self, index: int) -> Path | bytes | None:
        """Return the file of an image, or its bytes; None for one that is neither, or not known (see ``source_of``)."""
        return _file_of(self.sources[index]) if len(self.sources) else None

    def __repr__(self) -> str:
        return f"MemoryImages({len(self):,})"

    def __getitem__(self, index: int) -> Pixels:
        return self.pixels[index]


def rows_of(images: Images, index: int) -> Rows:
    """Return an image of which rows can be asked for, so that one that is looked at once is never all RGB pixels.

    A sequence of images that are decoded from files has a method ``picture``, which does that for its own.

    Raises:
        DataError: It cannot be decoded.
    """
    images, index = place_of(images, index)
    picture: Callable[[int], Rows] | None = getattr(images, "picture", None)
    return images[index] if picture is None else picture(index)


def is_decoded(images: Images) -> bool:
    """Tell whether to ask for an image is only to look it up: decoded images in memory, or some of them."""
    return isinstance(whole(images), MemoryImages)
