"""Files of images that are damaged and decoded all the same, with pixels that are not what they were.

Pillow shows what is left of them and says nothing. Here the files themselves are looked at, as far as their formats
tell that something is missing: the checksums of a PNG, the scans and the end of the data of a JPEG, the runs of a BMP,
and what libtiff says of a TIFF. A byte that was changed within the data of a JPEG leaves no trace.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from ..progress import Track
from .ahead import content_of, looked_at
from .images import Examined, MemoryImages
from .jpeg import Jpeg
from .metadata import JPEG, PNG, png_chunks
from .opening import complaints, decoding
from .store import source_of
from .task import Examples, Images, Pixels, place_of

_CRITICAL = frozenset({b"IHDR", b"PLTE", b"IDAT", b"tRNS", b"IEND"})
_MOST_LINES = 10
_RUN_LENGTHS = {1: 8, 2: 4}  # compression of a BMP -> its bits a pixel


def examined(images: Images, index: int) -> Examined:
    """Decode an image, and look for damage in its file.

    Raises:
        DataError: It cannot be decoded.
    """
    with complaints() as faults:
        pixels = images[index]
        content, source = content_of(images, index, pixels), source_of(images, index)
    if source is not None:
        with decoding(str(source) if isinstance(source, Path) else "image"):
            file = source.read_bytes() if isinstance(source, Path) else source
        fault = ""
        if file.startswith(JPEG):
            fault = _fault_of_jpeg(file, pixels)
        elif file.startswith(PNG):
            fault = _fault_of_png(file)
        elif file.startswith(b"BM"):
            fault = _fault_of_bmp(file)
        faults += [fault] if fault else []
    base, place = place_of(images, index)
    if isinstance(base, MemoryImages) and base.examined:
        faults += base.examined[place].faults
    return Examined(content, tuple(dict.fromkeys(faults)))


def examine(examples: Examples, track: Track) -> tuple[tuple[str, ...], list[str]]:
    """Look at every image.

    Returns:
        The hash of what each shows, and a line for each that is damaged, with its name; for more than ten a line says
        how many more there are.

    Raises:
        DataError: An image cannot be decoded.
    """
    images, contents, lines = examples.images, [], []
    for row, each in enumerate(looked_at(images, examined, track)):
        contents.append(each.content)
        if each.faults:
            lines.append(f"{name_of(images, row, examples.identities[row])} {'; '.join(each.faults)}")
    if len(lines) > _MOST_LINES:
        more = f"{len(lines) - _MOST_LINES} more images are damaged; lowshot data check lists them all"
        lines[_MOST_LINES:] = [more]
    return tuple(contents), lines


def name_of(images: Images, index: int, identity: str) -> str:
    """Return the path of an image's file, or else the image's identity."""
    source = source_of(images, index)
    return str(source) if isinstance(source, Path) else identity


def _fault_of_png(content: bytes) -> str:
    inflate = zlib.decompressobj()
    try:
        for kind, begin, end in png_chunks(content):
            body = content[begin + 8 : end - 4]
            if kind in _CRITICAL and zlib.crc32(kind + body) != int.from_bytes(content[end - 4 : end], "big"):
                return f"has a {kind.decode()} chunk with another checksum than it says"
            while kind == b"IDAT" and body and not inflate.eof:
                inflate.decompress(body, 1 << 20)  # nothing of it is kept
                body = inflate.unconsumed_tail
            if kind == b"IEND":
                return "" if inflate.eof else "lacks the end of its pixels"
    except zlib.error:
        return "has pixels with another checksum than they say"
    return "lacks its end"


def _fault_of_bmp(content: bytes) -> str:
    if len(content) < 34 or struct.unpack_from("<I", content, 14)[0] < 40:
        return ""
    bits = _RUN_LENGTHS.get(struct.unpack_from("<I", content, 30)[0])
    if bits is None:
        return ""
    width, height = struct.unpack_from("<ii", content, 18)
    [begin] = struct.unpack_from("<I", content, 10)
    is_ended = False
    for column, row in _ends_of_runs(content, begin, bits):
        is_ended = row < 0
        if column > width or row >= abs(height):
            return "has runs of pixels that leave the image"
    return "" if is_ended else "lacks the end of its runs of pixels"


def _ends_of_runs(content: bytes, place: int, bits: int) -> Iterator[tuple[int, int]]:
    """Yield the column and row that each run of a compressed BMP leads to; row -1 is the end of them."""
    column, row = 0, 0
    while place + 2 <= len(content):
        count, value = content[place], content[place + 1]
        place += 2
        if count:
            column += count
        elif value == 0:
            column, row = 0, row + 1
            continue
        elif value == 1:
            yield 0, -1
            return
        elif value == 2:
            across, down = (*content[place : place + 2], 0, 0)[:2]
            column, row, place = column + across, row + down, place + 2
            continue
        else:
            column, place = column + value, place + 2 * -(-value * bits // 16)
        yield column, row


def _fault_of_jpeg(content: bytes, pixels: Pixels) -> str:
    jpeg = Jpeg.of(content)
    if jpeg is None:
        return ""
    if fault := jpeg.missing_scans() or jpeg.lost_intervals():
        return fault
    # A decoder that lacks data leaves grey, so the last corner of an image that is whole is seldom as flat as that.
    ends = slice(2), slice(-2, None)
    corners = [pixels[rows, columns] for rows in ends for columns in ends]
    has_flat_corner = any((corner == corner[0, 0]).all() for corner in corners)
    is_suspect = jpeg.is_progressive or jpeg.interval or has_flat_corner
    if jpeg.is_understood and is_suspect and jpeg.lacks_data(content):
        return "lacks some of its data: a part of the picture is grey or blurred"
    return ""
