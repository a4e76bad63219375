"""Files of images without what is not pixels, for those that Pillow refuses for their metadata alone."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path

_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_PIXELS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
_END = b"\0\0\0\0IEND\xaeB`\x82"
_COLOURS = frozenset({0xE0, 0xEE})  # JFIF's and Adobe's segments, which tell what the numbers of a JPEG mean
_SEGMENT = re.compile(rb"\xff[^\x00\xff]..", re.DOTALL)  # a marker, and the length behind it
_EXIF = b"Exif\0\0"  # has the orientation; Pillow passes over one that is damaged


def without_metadata(source: Path | bytes) -> bytes | None:
    """Return a PNG or JPEG with its pixels and what they need to be seen; None for any other file."""
    try:
        content = source.read_bytes() if isinstance(source, Path) else source
    except (OSError, ValueError):  # there is none, or it has a name that none can have
        return None
    if content.startswith(_PNG):
        return _PNG + b"".join(_chunks_of_pixels(content)) + _END
    return b"\xff\xd8" + b"".join(_segments_of_pixels(content)) if content.startswith(_JPEG) else None


def _chunks_of_pixels(content: bytes) -> Iterator[bytes]:
    place = len(_PNG)
    while place + 12 <= len(content):
        size, kind = struct.unpack_from(">I4s", content, place)
        end = place + 12 + size
        if kind == b"IEND":
            return
        if kind in _PIXELS and end <= len(content):
            yield content[place:end]
        place = end


def _segments_of_pixels(content: bytes) -> Iterator[bytes]:
    place = 2
    while (marker := _SEGMENT.search(content, place)) is not None:  # whatever lies between is jumped over
        place = marker.start()
        kind, end = content[place + 1], place + 2 + int.from_bytes(content[place + 2 : place + 4], "big")
        if kind == 0xDA:  # from the first scan on there are pixels alone
            yield content[place:]
            return
        is_application = 0xE0 <= kind <= 0xEF or kind == 0xFE
        if not is_application or kind in _COLOURS or content.startswith(_EXIF, place + 4):
            yield content[place:end]
        place = end
