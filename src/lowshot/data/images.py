"""Decoding of image files, and the sequences of images that callers pass.

Pillow decodes; what it leaves to the caller is done here: size caps before anything is decoded, EXIF orientation,
16-bit grey levels scaled instead of clipped, transparency laid on white.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import stat
import threading
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import ImageError
from .formats import open_image
from .task import Images, Pixels, whole

MAXIMUM_PIXELS = 50_000_000
"""Width times height above which an image is refused from its header alone."""
MAXIMUM_FILE_BYTES = 1 << 29
"""Size of a file above which it is refused unread: that many pixels take less in any format."""
MAXIMUM_ASPECT_RATIO = 50
"""Longer side over shorter side above which an image is refused: resizing the short side would explode the long one."""
BACKGROUND = (255, 255, 255)
"""The colour that shows through transparent pixels."""
_FILTER_LOCK, _PICTURE_LOCK = threading.Lock(), threading.Lock()
_thread = threading.local()


def decode_image(source: Path | bytes) -> Pixels:
    """Decode one image as it is meant to be seen.

    Args:
        source: A file, or the bytes of one. Of an animation the first frame is taken.

    Returns:
        RGB pixels ``(height, width, 3)``, ``uint8``.

    Raises:
        ImageError: Missing, unreadable, no plain file, truncated, not an image, too large or too narrow; the file is
            named.
    """
    name = str(source) if isinstance(source, Path) else "image"
    with _decoding(name):
        if isinstance(source, Path):
            status = source.stat()
            # Who opens a pipe waits for its writer, and a device has no end.
            if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
                raise ImageError(f"{name} is a pipe, socket or device; expected an image file")
            size = status.st_size
        else:
            size = len(source)
        if size > MAXIMUM_FILE_BYTES:
            raise ImageError(f"{name} has {size:,} bytes; expected at most {MAXIMUM_FILE_BYTES:,}")
        with source.open("rb") if isinstance(source, Path) else io.BytesIO(source) as file, open_image(file) as image:
            return _decoded(image, name)


@contextlib.contextmanager
def _decoding(name: str) -> Iterator[None]:
    """Turn whatever Pillow raises into an ImageError that names the image, and pass over what it warns of.

    It warns of many pixels, where our own, lower cap stands in its place, and of damaged EXIF data, which harms no
    pixel. ``warnings.catch_warnings`` swaps the filters of the whole process, so two threads that decode would undo
    each other. This filter stays where it is and changes nothing for anyone else, since its category asks which
    thread it is in.
    """
    with _FILTER_LOCK:
        if not warnings.filters or warnings.filters[0][2] is not _WhileDecoding:
            warnings.filterwarnings("ignore", category=_WhileDecoding, module="PIL")
    _thread.decoding = True
    try:
        yield
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError(f"{name} does not exist") from None
    except IsADirectoryError:
        raise ImageError(f"{name} is a folder; expected an image file") from None
    except UnidentifiedImageError as error:
        raise ImageError(f"{name} {error}") from None
    except PermissionError as error:
        raise ImageError(f"{name} cannot be read: {error.strerror}") from error
    except Exception as error:  # Pillow's plugins raise OSError, SyntaxError, struct.error, ... for damaged files
        raise ImageError(f"{name} cannot be decoded: {error}") from error
    finally:
        _thread.decoding = False


class _InDecodingThreads(type):
    """Every category is a subclass in a thread that is decoding, and none is in any other."""

    def __subclasscheck__(cls, category: type) -> bool:
        return getattr(_thread, "decoding", False)


class _WhileDecoding(Warning, metaclass=_InDecodingThreads):
    """The category of the filter on Pillow's warnings; nothing is ever warned of under it."""


def _decoded(image: Image.Image, name: str) -> Pixels:
    """Return the RGB pixels of an image that Pillow has opened."""
    _check_size(*image.size, name)
    image.load()
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":  # more than 8 bits of grey: convert("RGB") would clip at 255
        levels, white = np.asarray(image, dtype=np.float64), 1 if image.mode == "F" else 65535
        if not (levels.min() >= 0 and levels.max() <= white):  # NaN is neither
            raise ImageError(f"{name} has grey levels from {levels.min():g} to {levels.max():g}; expected 0 to {white}")
        image = Image.fromarray(np.round(levels * (255 / white)).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, (*BACKGROUND, 255))
        image = Image.alpha_composite(ground, image)
    return np.asarray(image.convert("RGB"))


def _check_size(width: int, height: int, name: str) -> None:
    if width * height > MAXIMUM_PIXELS:
        raise ImageError(f"{name} has {width} x {height} pixels; expected at most {MAXIMUM_PIXELS:,} in all")
    if max(width, height, 1) > MAXIMUM_ASPECT_RATIO * min(width, height):
        raise ImageError(f"{name} has {width} x {height} pixels; expected sides within 1:{MAXIMUM_ASPECT_RATIO}")


def content_hash(pixels: Pixels) -> str:
    """Return a hash of an image's size and pixels: of what it shows, whatever its file is called."""
    digest = hashlib.sha256(repr(pixels.shape).encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()[:20]


def as_pixels(image: object) -> Pixels:
    """Decode what Python callers pass as an image: a path, a PIL image, or an array.

    Arrays are ``(height, width)`` or ``(height, width, 3)``, ``uint8`` in 0..255 or floating point in [0, 1].

    Raises:
        ImageError: It is none of these, out of range, or as for ``decode_image``.
    """
    if isinstance(image, str | Path):
        return decode_image(Path(image))
    if isinstance(image, Image.Image):
        # A PIL image may be a file that nobody has read yet, and the same one may be asked for from two threads.
        with _PICTURE_LOCK, _decoding("image"):
            return _decoded(image, "image")
    if not isinstance(image, np.ndarray):
        raise ImageError(f"an image is a {type(image).__name__}; expected a path, a PIL image or a NumPy array")
    if image.ndim == 2:
        image = np.repeat(image[:, :, None], 3, axis=2)
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ImageError(f"an image array has shape {image.shape}; expected (height, width) or (height, width, 3)")
    _check_size(image.shape[1], image.shape[0], "an image array")
    if image.dtype == np.uint8:
        return image
    if np.issubdtype(image.dtype, np.floating) and image.min() >= 0 and image.max() <= 1:
        return np.round(image * 255).astype(np.uint8)
    extent = f" from {image.min()} to {image.max()}" if np.issubdtype(image.dtype, np.number) else ""
    raise ImageError(
        f"an image array has values of {image.dtype}{extent}; expected uint8 in 0..255 or floating point in [0, 1]"
    )


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
        return decode_image(self.path(index))

    def path(self, index: int) -> Path:
        """Return the path of a file."""
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

    def __getitem__(self, index: int) -> Pixels:
        source = self.sources[index]
        try:
            return as_pixels(source)
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


def is_decoded(images: Images) -> bool:
    """Tell whether to ask for an image is only to look it up: decoded images in memory, or some of them."""
    return isinstance(whole(images), MemoryImages)
