"""The structure of a JPEG file, and what is not there that its headers speak of."""

from __future__ import annotations

import itertools
import struct
from typing import NamedTuple

from .decoding import load_picture
from .metadata import jpeg_segments

_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_BASELINE, _PROGRESSIVE = (0xC0, 0xC1), 0xC2
_JUNK = bytes([0x5A, 0xC3, 0x96, 0x2D] * 16)


class _Scan(NamedTuple):
    """One pass over some colours of a JPEG."""

    components: tuple[int, ...]
    first: int
    last: int
    low: int
    """Bits that are left to later scans."""
    intervals: tuple[tuple[int, int], ...]
    """Begin and end of the coded data between two markers."""


class Jpeg(NamedTuple):
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

    @classmethod
    def of(cls, content: bytes) -> Jpeg | None:
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
                components = tuple(body[1 : 1 + 2 * body[0] : 2])
                first, last, bits = body[1 + 2 * body[0] : 4 + 2 * body[0]]
                scans.append(_Scan(components, first, last, bits & 15, _intervals(content, end)))
        if frame is None or any(component not in frame[3] for scan in scans for component in scan.components):
            return None
        return cls(*frame, scans, interval)

    @property
    def is_progressive(self) -> bool:
        """Tell whether scans add detail to those before."""
        return self.kind == _PROGRESSIVE

    @property
    def is_understood(self) -> bool:
        """Tell whether it is of a kind that decoders fill up with grey where data end too early."""
        return self.kind in (*_BASELINE, _PROGRESSIVE)

    def missing_scans(self) -> str:
        """Say which colours have no scan, or which bits of a progressive JPEG have none."""
        without = set(self.sampling).difference(*(scan.components for scan in self.scans))
        if without:
            return f"lacks the scans of {len(without)} of its {len(self.sampling)} colours"
        if not self.is_progressive:
            return ""
        left = {(component, place): 14 for component in self.sampling for place in range(64)}
        for scan in self.scans:
            places = itertools.product(scan.components, range(scan.first, scan.last + 1))
            left.update(dict.fromkeys(places, scan.low))
        return "lacks scans: it is coarser than it was" if any(left.values()) else ""

    def lost_intervals(self) -> str:
        """Say how many of the intervals between restarts are not there."""
        if not self.interval or not self.height:
            return ""
        across, down = (max(each[axis] for each in self.sampling.values()) for axis in (0, 1))
        for scan in self.scans:
            if len(scan.components) > 1:
                units = -(-self.width // (8 * across)) * -(-self.height // (8 * down))
            else:
                own_across, own_down = self.sampling[scan.components[0]]
                units = -(-self.width * own_across // (8 * across)) * -(-self.height * own_down // (8 * down))
            expected = -(-units // self.interval)
            if len(scan.intervals) < expected:
                return f"lacks {expected - len(scan.intervals)} of its {expected} intervals between restarts"
        return ""

    def lacks_data(self, content: bytes) -> bool:
        """Tell whether some part of the coded data ends too early: a decoder then makes something of what is put there.

        A decoder that has all that it needs passes over anything before the next marker.

        Raises:
            ImageError: It cannot be decoded in full size.
        """
        ends = [end for scan in self.scans for _, end in scan.intervals]
        parts = [content[begin:end] for begin, end in itertools.pairwise([0, *ends, len(content)])]
        longer = _JUNK.join(parts[:-1]) + _JUNK + parts[-1]
        # One is let go before the other is decoded.
        first, second = (load_picture(each, whole=True).content() for each in (content, longer))
        return first != second


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
