"""The formats of image files that are read, and what is said of those that are not."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from pathlib import PurePath
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

from ..extras import install_command
from .metadata import JPEG

SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".heic", ".heif", ".hif", ".jfif", ".jpe", ".jpeg", ".jpg", ".mpo", ".pgm", ".png"}
    | {".ppm", ".tif", ".tiff", ".webp"}
)
"""File names that end so are taken for images when a folder is listed, whatever is installed: draws depend on it."""
_OF_CAMERAS = frozenset({".avif", ".heic", ".heif", ".hif", ".jfif", ".jpe", ".jpeg", ".jpg", ".mpo", ".webp"})
"""Those of formats that lose what nobody sees, as cameras, phones and the web write them; scans and drawings rarely."""
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""The formats that Pillow may decode, whatever the file's name: its others are rare, and one runs Ghostscript."""

_HEIF = "HEIF"  # what pillow-heif registers itself as
_HEIC = "a HEIC image"
_AVIF = "an AVIF image, which this build of Pillow cannot read; save it as JPEG"
_BRANDS = {
    **dict.fromkeys((b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"), _HEIC),
    **dict.fromkeys((b"avif", b"avis"), _AVIF),
}  # of files in ISO's base format: bytes 8 to 11, behind "ftyp"


def is_image(name: str) -> bool:
    """Tell whether a file's name ends as those of images do; folders of a million files are told so in seconds."""
    return os.path.splitext(name)[1].lower() in SUFFIXES  # noqa: PTH122 - a path for each takes longer


def are_of_cameras(names: Sequence[str]) -> bool:
    """Tell whether most of the files of these names are in formats that cameras and phones write."""
    return 2 * sum(PurePath(name).suffix.lower() in _OF_CAMERAS for name in names) > len(names)


def open_image(file: BinaryIO) -> Image.Image:
    """Open an image with Pillow in one of the formats that are read; no pixel is decoded.

    Raises:
        UnidentifiedImageError: It is in none of them; the message is what to say of it behind its name.
        DecompressionBombError: It has more pixels than Pillow takes, and is no JPEG.
    """
    try:
        return Image.open(file, formats=(*FORMATS, _HEIF) if _heif_is_read() else FORMATS)
    except Image.DecompressionBombError:
        from PIL.JpegImagePlugin import jpeg_factory

        file.seek(0)
        if file.read(len(JPEG)) != JPEG:
            raise
        file.seek(0)
        return jpeg_factory(file)
    except UnidentifiedImageError:
        file.seek(0)
        head = file.read(12)
        brand = _BRANDS.get(head[8:], "") if head[4:8] == b"ftyp" else ""
        if brand and not (brand is _HEIC and _heif_is_read()):
            reader = f"; {install_command('heic')} lets lowshot read it, or save it as JPEG" if brand is _HEIC else ""
            raise UnidentifiedImageError(f"is {brand}{reader}") from None
        raise UnidentifiedImageError(f"is not an image; expected one of {', '.join(FORMATS)}") from None


@functools.cache
def _heif_is_read() -> bool:
    """Tell whether pillow-heif is installed, and have Pillow know of it."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True
