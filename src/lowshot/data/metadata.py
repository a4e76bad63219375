"""The parts of PNG and JPEG files, and such files without what is not pixels: Pillow refuses some for that alone."""

from __future__ import annotations

import itertools
import re
import struct
from collections.abc import Iterator
from pathlib import Path

PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
"""The beginnings of their files."""
_PIXELS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
_END = b"\0\0\0\0IEND\xaeB`\x82"
_COLOURS = frozenset({0xE0, 0xEE})  # JFIF's and Adobe's segments, which tell what the numbers of a JPEG mean
_SEGMENT = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]..", re.DOTALL)  # a marker that has a length behind it
_EXIF = b"Exif\0\0"  # has the orientation; Pillow passes over one that is damaged


def without_metadata(source: Path | bytes) -> bytes | None:
    """Return a PNG or JPEG with its pixels and what they need to be seen; None for any other file."""
    try:
        content = source.read_bytes() if isinstance(source, Path) else source
    except (OSError, ValueError):  # there is none, or it has a name that none can have
        return None
    if content.startswith(PNG):
        chunks = itertools.takewhile(lambda chunk: chunk[0] != b"IEND", png_chunks(content))
        whole = (content[begin:end] for kind, begin, end in chunks if kind in _PIXELS and end <= len(content))
        return PNG + b"".join(whole) + _END
    return b"\xff\xd8" + b"".join(_segments_of_pixels(content)) if content.startswith(JPEG) else None


def png_chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the kind of each chunk of a PNG, where it begins and where it should end."""
    begin = len(PNG)
    while begin + 12 <= len(content):
        size, kind = struct.unpack_from(">I4s", content, begin)
        end = begin + 12 + size
        yield kind, begin, end
        begin = end


def jpeg_segments(content: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield the kind of each segment of a JPEG, where it begins and ends; whatever lies between them is jumped over."""
    end = 2
    while (marker := _SEGMENT.search(content, end)) is not None:
        begin = marker.start()
        end = begin + 2 + int.from_bytes(content[begin + 2 : begin + 4], "big")
        yield content[begin + 1], begin, end


def _segments_of_pixels(content: bytes) -> Iterator[bytes]:
    for kind, begin, end in jpeg_segments(content):
        if kind == 0xDA:  # from the first scan on there are pixels alone
            yield content[begin:]
            return
        is_application = 0xE0 <= kind <= 0xEF or kind == 0xFE
        if not is_application or kind in _COLOURS or content.startswith(_EXIF, begin + 4):
            yield content[begin:end]
