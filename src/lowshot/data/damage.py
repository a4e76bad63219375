"""Files of images that are damaged and decoded all the same, with pixels that are not what they were.

Pillow shows what is left of them and says nothing. Here the files themselves are looked at, as far as their formats
tell that something is missing: the checksums of a PNG, the scans and the end of the data of a JPEG, the runs of a BMP,
and what libtiff says of a TIFF. A byte that was changed within the data of a JPEG leaves no trace.
"""

from __future__ import annotations

import contextlib
import itertools
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ..progress import Track
from .ahead import computed_ahead, content_of
from .decoding import load_picture
from .images import MemoryImages
from .metadata import JPEG, PNG, jpeg_segments, png_chunks
from .opening import complaints, decoding
from .store import source_of
from .task import Examples, Images, Pixels, place_of

_CRITICAL = frozenset({b"IHDR", b"PLTE", b"IDAT", b"tRNS", b"IEND"})
_JUNK = bytes([0x5A, 0xC3, 0x96, 0x2D] * 16)
_BASELINE, _PROGRESSIVE = frozenset({0xC0, 0xC1}), frozenset({0xC2})
_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_MOST_LINES, _THREADS = 10, 4
_RUN_LENGTHS = {1: 8, 2: 4}  # compression of a BMP -> its bits a pixel


class Examined(NamedTuple):
    """An image that was looked at."""

    content: str
    """The hash of what it shows (see ``content_hash``)."""
    faults: tuple[str, ...]
    """Its damage, in sentences without their subject."""


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
        if file.startswith(JPEG):
            faults += _jpeg_damage(file, pixels)
        elif file.startswith(PNG):
            faults += _png_damage(file)
        elif file.startswith(b"BM"):
            faults += _bmp_damage(file)
    base, place = place_of(images, index)
    if isinstance(base, MemoryImages) and base.complaints:
        faults += base.complaints[place]
    return Examined(content, tuple(dict.fromkeys(faults)))


def examine(examples: Examples, track: Track) -> tuple[tuple[str, ...], list[str]]:
    """Look at every image.

    Returns:
        The hash of what each shows, and a line for each that is damaged, with its name; for more than ten a line says
        how many more there are.

    Raises:
        DataError: An image cannot be decoded.
    """
    images, rows = examples.images, range(len(examples))
    contents, lines = [], []
    results = computed_ahead(lambda row: examined(images, row), rows, _THREADS, ahead=64)
    with contextlib.closing(results):
        for row, each in enumerate(track(results, what="reading images", total=len(rows))):
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


def _png_damage(content: bytes) -> Iterator[str]:
    inflate = zlib.decompressobj()
    for kind, begin, end in png_chunks(content):
        body = content[begin + 8 : end - 4]
        if kind in _CRITICAL and zlib.crc32(kind + body) != int.from_bytes(content[end - 4 : end], "big"):
            yield f"has a {kind.decode()} chunk with another checksum than it says"
            return
        if kind == b"IDAT" and not _inflated(inflate, body):
            yield "has pixels with another checksum than they say"
            return
        if kind == b"IEND":
            if not inflate.eof:
                yield "lacks the end of its pixels"
            return
    yield "lacks its end"


def _inflated(inflate: zlib._Decompress, body: bytes) -> bool:
    """Go through compressed pixels, of which nothing is kept."""
    try:
        while body and not inflate.eof:
            inflate.decompress(body, 1 << 20)
            body = inflate.unconsumed_tail
    except zlib.error:
        return False
    return True


def _bmp_damage(content: bytes) -> Iterator[str]:
    if len(content) < 34 or struct.unpack_from("<I", content, 14)[0] < 40:
        return
    bits = _RUN_LENGTHS.get(struct.unpack_from("<I", content, 30)[0])
    if bits is None:
        return
    width, height = struct.unpack_from("<ii", content, 18)
    [begin] = struct.unpack_from("<I", content, 10)
    is_ended = False
    for column, row in _ends_of_runs(content, begin, bits):
        is_ended = row < 0
        if column > width or row >= abs(height):
            yield "has runs of pixels that leave the image"
            return
    if not is_ended:
        yield "lacks the end of its runs of pixels"


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


class _Scan(NamedTuple):
    """One pass over some colours of a JPEG."""

    components: tuple[int, ...]
    first: int
    last: int
    low: int
    """Bits that are left to later scans."""
    intervals: tuple[tuple[int, int], ...]
    """Begin and end of the coded data between two markers."""


class _Jpeg(NamedTuple):
    """The structure of a JPEG file."""

    kind: int
    """The second byte of the marker of its frame."""
    width: int
    height: int
    sampling: dict[int, tuple[int, int]]
    """Samples of each colour in a unit, across and down."""
    scans: list[_Scan]
    interval: int
    """Units between two restarts; 0 for none."""


def _jpeg_damage(content: bytes, pixels: Pixels) -> list[str]:
    jpeg = _jpeg_of(content)
    if jpeg is None:
        return []
    if fault := _missing_scans(jpeg) or _lost_intervals(jpeg):
        return [fault]
    # A decoder that lacks data leaves grey, so the last corner of an image that is whole is seldom as flat as that.
    ends = slice(2), slice(-2, None)
    corners = [pixels[rows, columns] for rows in ends for columns in ends]
    has_flat_corner = any((corner == corner[0, 0]).all() for corner in corners)
    is_suspect = jpeg.kind in _PROGRESSIVE or jpeg.interval or has_flat_corner
    if jpeg.kind in _BASELINE | _PROGRESSIVE and is_suspect and _lacks_data(content, jpeg):
        return ["lacks some of its data: a part of the picture is grey or blurred"]
    return []


def _missing_scans(jpeg: _Jpeg) -> str:
    """Say which colours have no scan, or which bits of a progressive JPEG have none."""
    without = set(jpeg.sampling).difference(*(scan.components for scan in jpeg.scans))
    if without:
        return f"lacks the scans of {len(without)} of its {len(jpeg.sampling)} colours"
    if jpeg.kind not in _PROGRESSIVE:
        return ""
    left = {(component, place): 14 for component in jpeg.sampling for place in range(64)}
    for scan in jpeg.scans:
        places = itertools.product(scan.components, range(scan.first, scan.last + 1))
        left.update(dict.fromkeys(places, scan.low))
    return "lacks scans: it is coarser than it was" if any(left.values()) else ""


def _lost_intervals(jpeg: _Jpeg) -> str:
    if not jpeg.interval or not jpeg.height:
        return ""
    across, down = (max(each[axis] for each in jpeg.sampling.values()) for axis in (0, 1))
    for scan in jpeg.scans:
        if len(scan.components) > 1:
            units = -(-jpeg.width // (8 * across)) * -(-jpeg.height // (8 * down))
        else:
            own_across, own_down = jpeg.sampling[scan.components[0]]
            units = -(-jpeg.width * own_across // (8 * across)) * -(-jpeg.height * own_down // (8 * down))
        expected = -(-units // jpeg.interval)
        if len(scan.intervals) < expected:
            return f"lacks {expected - len(scan.intervals)} of its {expected} intervals between restarts"
    return ""


def _lacks_data(content: bytes, jpeg: _Jpeg) -> bool:
    """Tell whether some part of the coded data ends too early: a decoder then makes something of what is put there.

    A decoder that has all that it needs passes over anything before the next marker.

    Raises:
        ImageError: It cannot be decoded in full size.
    """
    ends = [end for scan in jpeg.scans for _, end in scan.intervals]
    parts = [content[begin:end] for begin, end in itertools.pairwise([0, *ends, len(content)])]
    longer = _JUNK.join(parts[:-1]) + _JUNK + parts[-1]
    first, second = (load_picture(each, whole=True).content() for each in (content, longer))  # one decoded at a time
    return first != second


def _jpeg_of(content: bytes) -> _Jpeg | None:
    """Return the structure of a JPEG file; None where it has no frame, or one that is not understood."""
    frame: tuple[int, int, int, dict[int, tuple[int, int]]] | None = None
    scans: list[_Scan] = []
    interval = 0
    for kind, begin, end in jpeg_segments(content):
        if kind == 0xD9:
            break
        body = content[begin + 4 : end]
        if kind in _FRAMES and frame is None and len(body) >= 6:
            height, width, count = struct.unpack_from(">HHB", body, 1)
            parts = [body[6 + 3 * number : 9 + 3 * number] for number in range(count)]
            if any(len(part) < 3 or not part[1] >> 4 or not part[1] & 15 for part in parts):
                return None
            frame = kind, width, height, {part[0]: (part[1] >> 4, part[1] & 15) for part in parts}
        elif kind == 0xDD and len(body) >= 2:
            interval = int.from_bytes(body[:2], "big")
        elif kind == 0xDA and body and body[0] and len(body) >= 4 + 2 * body[0]:
            count = body[0]
            first, last, bits = body[1 + 2 * count : 4 + 2 * count]
            scans.append(_Scan(tuple(body[1 : 1 + 2 * count : 2]), first, last, bits & 15, _intervals(content, end)))
    if frame is None or any(component not in frame[3] for scan in scans for component in scan.components):
        return None
    return _Jpeg(*frame, scans, interval)


def _intervals(content: bytes, place: int) -> tuple[tuple[int, int], ...]:
    """Return where the coded data of a scan begin and end between its restarts."""
    begin = place
    intervals: list[tuple[int, int]] = []
    while True:
        place = content.find(b"\xff", place)
        if place < 0 or place + 1 >= len(content):
            return (*intervals, (begin, len(content)))
        kind = content[place + 1]
        if 0xD0 <= kind <= 0xD7:
            intervals.append((begin, place))
            begin = place + 2
        elif kind not in (0x00, 0xFF):
            return (*intervals, (begin, place))
        place += 1 if kind == 0xFF else 2
