"""Opening image files: caps on size before anything is decoded, and what Pillow raises, warns of and logs."""

from __future__ import annotations

import contextlib
import io
import logging
import stat
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from PIL import Image, UnidentifiedImageError

from ..errors import ImageError
from .formats import open_image
from .metadata import without_metadata

MAXIMUM_PIXELS = 250_000_000
"""Width times height above which an image is refused from its header alone. Above 179 million, Pillow's own cap, only
JPEG is taken, which is reduced while it is decoded."""
MAXIMUM_FILE_BYTES = 1 << 29
"""Size of a file above which it is refused unread."""
MAXIMUM_ASPECT_RATIO = 50
"""Longer side over shorter side above which an image is refused: resizing the short side would explode the long one."""
logging.getLogger("PIL").addHandler(logging.NullHandler())  # else Python itself writes what it says of damaged files
_FILTER_LOCK = threading.Lock()
_thread = threading.local()
_Result = TypeVar("_Result")


@contextlib.contextmanager
def complaints() -> Iterator[list[str]]:
    """Collect what is wrong with images that are decoded all the same, by this thread in this block.

    They are sentences without their subject, which is the image.
    """
    before = getattr(_thread, "complaints", None)
    _thread.complaints = collected = list[str]()
    try:
        yield collected
    finally:
        _thread.complaints = before


def complain(sentence: str) -> None:
    """Note what is wrong with the image that this thread decodes, for whoever collects ``complaints``."""
    collected: list[str] | None = getattr(_thread, "complaints", None)
    if collected is not None:
        collected.append(sentence)


def check_size(width: int, height: int, name: str) -> None:
    """Refuse an image by its size.

    Raises:
        ImageError: It has too many pixels, or is too narrow.
    """
    if width * height > MAXIMUM_PIXELS:
        raise ImageError(f"{name} has {width} x {height} pixels; expected at most {MAXIMUM_PIXELS:,} in all")
    if max(width, height, 1) > MAXIMUM_ASPECT_RATIO * min(width, height):
        raise ImageError(f"{name} has {width} x {height} pixels; expected sides within 1:{MAXIMUM_ASPECT_RATIO}")


def with_image(source: Path | bytes, name: str, work: Callable[[Image.Image], _Result]) -> _Result:
    """Open a file of an image for some work; where that fails, once more without the file's metadata."""
    try:
        with decoding(name), _opened(source, name) as image:
            return work(image)
    except ImageError as error:
        pixels_alone = None if error.__context__ is None else without_metadata(source)
        if pixels_alone is None:  # refused by ourselves, or another kind of file
            raise
        try:
            with decoding(name), _opened(pixels_alone, name) as image:
                result = work(image)
        except ImageError:
            raise error from error.__cause__
        complain("has damaged metadata, which is passed over")
        return result


@contextlib.contextmanager
def _opened(source: Path | bytes, name: str) -> Iterator[Image.Image]:
    """Open a file of an image; only its header is read."""
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
        yield image


@contextlib.contextmanager
def decoding(name: str) -> Iterator[None]:
    """Turn whatever Pillow raises into an ImageError that names the image, and pass over what it warns of.

    It warns of many pixels, where our own cap stands in its place, and of damaged EXIF data, which harms no pixel.
    ``warnings.catch_warnings`` swaps the filters of the whole process, so two threads that decode would undo each
    other. This filter stays where it is and changes nothing for anyone else, since its category asks which thread it is
    in.
    """
    with _FILTER_LOCK:
        if not warnings.filters or warnings.filters[0][2] is not _WhileDecoding:
            warnings.filterwarnings("ignore", category=_WhileDecoding, module="PIL")
    before = getattr(_thread, "decoding", False)
    _thread.decoding = True
    try:
        yield
    except ImageError:
        raise
    except (FileNotFoundError, NotADirectoryError):
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
        _thread.decoding = before


class _InDecodingThreads(type):
    """Every category is a subclass in a thread that is decoding, and none is in any other."""

    def __subclasscheck__(cls, category: type) -> bool:
        return getattr(_thread, "decoding", False)


class _WhileDecoding(Warning, metaclass=_InDecodingThreads):
    """The category of the filter on Pillow's warnings; nothing is ever warned of under it."""
