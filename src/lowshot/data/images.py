"""The sequences of images that callers pass, and what stands for an image in Python."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import ImageError
from .decoding import LEAST_SIDE, Picture, check_size, content_hash, decoding, load_picture
from .task import Images, ImageSubset, Pixels, whole

_PICTURE_LOCK = threading.Lock()


def as_pixels(image: object) -> Pixels:
    """Decode what Python callers pass as an image: a path, a PIL image, or an array.

    Arrays are ``(height, width)`` or ``(height, width, 3)``, ``uint8`` in 0..255 or floating point in [0, 1].

    Raises:
        ImageError: It is none of these, out of range, or as for ``decode_image``.
    """
    rows = as_rows(image)
    return rows.pixels() if isinstance(rows, Picture) else rows


def as_rows(image: object) -> Pixels | Picture:
    """Decode the same, a file so that its rows become RGB pixels when they are asked for.

    Raises:
        ImageError: As for ``as_pixels``.
    """
    if isinstance(image, str | Path):
        return load_picture(Path(image))
    if isinstance(image, Image.Image):
        # A PIL image may be a file that nobody has read yet, and the same one may be asked for from two threads.
        with _PICTURE_LOCK, decoding("image"):
            return Picture.of(image, "image").pixels()
    if not isinstance(image, np.ndarray):
        raise ImageError(f"an image is a {type(image).__name__}; expected a path, a PIL image or a NumPy array")
    if image.ndim == 2:
        image = np.repeat(image[:, :, None], 3, axis=2)
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ImageError(f"an image array has shape {image.shape}; expected (height, width) or (height, width, 3)")
    check_size(image.shape[1], image.shape[0], "an image array")
    if image.dtype == np.uint8:
        return image
    if np.issubdtype(image.dtype, np.floating) and image.min() >= 0 and image.max() <= 1:
        return np.round(image * 255).astype(np.uint8)
    extent = f" from {image.min()} to {image.max()}" if np.issubdtype(image.dtype, np.number) else ""
    raise ImageError(
        f"an image array has values of {image.dtype}{extent}; expected uint8 in 0..255 or floating point in [0, 1]"
    )


def pixels_and_content(image: object) -> tuple[Pixels, str]:
    """Decode what stands for an image, and hash what it shows in its full size.

    Raises:
        ImageError: As for ``as_pixels``.
    """
    pixels = as_pixels(image)
    if min(pixels.shape[:2]) < LEAST_SIDE or isinstance(image, np.ndarray):  # not reduced
        return pixels, content_hash(pixels)
    if isinstance(image, Image.Image):
        with _PICTURE_LOCK, decoding("image"):
            return pixels, Picture.of(image, "image", whole=True).content()
    return pixels, load_picture(Path(str(image)), whole=True).content()


@dataclasses.dataclass(frozen=True)
class FileImages:
    """Images in files, one each, decoded whenever they are asked for and not kept.

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

    def __getitem__(self, index: int) -> Pixels:
        return self.picture(index).pixels()

    def picture(self, index: int) -> Picture:
        """Decode an image, of which rows can then be asked for (see ``rows_of``)."""
        return load_picture(self.path(index))

    def path(self, index: int) -> Path:
        """Return the path of a file."""
        return self.folder / self.paths[index]

    def source(self, index: int) -> Path:
        """Return the file of an image (see ``source_of``)."""
        return self.path(index)


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

    def source(self, index: int) -> Path | None:
        """Return the file of an image; None for one that is none (see ``source_of``)."""
        source = self.sources[index]
        return Path(source) if isinstance(source, str | Path) else None

    def __getitem__(self, index: int) -> Pixels:
        rows = self.picture(index)
        return rows.pixels() if isinstance(rows, Picture) else rows

    def picture(self, index: int) -> Pixels | Picture:
        """Decode an image, of which rows can then be asked for (see ``rows_of``)."""
        source = self.sources[index]
        try:
            return as_rows(source)
        except ImageError as error:
            if isinstance(source, str | Path):
                raise
            raise ImageError(f"images[{index}]: {error}") from error.__cause__


@dataclasses.dataclass(frozen=True)
class MemoryImages:
    """Images already decoded: an array ``(N, height, width, 3)`` or a list of images of any sizes."""

    pixels: Sequence[Pixels] | np.ndarray

    def __len__(self) -> int:
        return len(self.pixels)

    def __repr__(self) -> str:
        return f"MemoryImages({len(self):,})"

    def __getitem__(self, index: int) -> Pixels:
        return self.pixels[index]


def rows_of(images: Images, index: int) -> Pixels | Picture:
    """Return an image of which rows can be asked for, so that one that is looked at once is never all RGB pixels.

    A sequence of images that are decoded from files has a method ``picture``, which does that for its own.

    Raises:
        DataError: It cannot be decoded.
    """
    while isinstance(images, ImageSubset):
        index = images.indices[index]
        images = images.images
    picture: Callable[[int], Pixels | Picture] | None = getattr(images, "picture", None)
    return images[index] if picture is None else picture(index)


def is_decoded(images: Images) -> bool:
    """Tell whether to ask for an image is only to look it up: decoded images in memory, or some of them."""
    return isinstance(whole(images), MemoryImages)
