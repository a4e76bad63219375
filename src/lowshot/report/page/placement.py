"""Places for the words of a chart, so that none covers another."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple


class Box(NamedTuple):
    """A rectangle in chart units; y grows downwards."""

    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: Box) -> bool:
        """Whether the two share any area."""
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )

    def inside(self, other: Box) -> bool:
        """Whether ``other`` holds all of this one."""
        return (
            self.left >= other.left
            and self.top >= other.top
            and self.right <= other.right
            and self.bottom <= other.bottom
        )


def spread(wanted: Sequence[float], heights: Sequence[float], low: float, high: float) -> list[float]:
    """Centres for a column of boxes: as near to the wanted ones as possible (least squares) without overlap.

    Without the gaps that the boxes need between them, the centres must merely not decrease: that is isotonic
    regression.

    Args:
        wanted: Centre that each box would like.
        heights: Height of each box.
        low: No box reaches above this.
        high: No box reaches below this, as long as all fit.
    """
    if not wanted:
        return []
    from scipy.optimize import isotonic_regression

    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    gaps = [(heights[i] + heights[j]) / 2 for i, j in itertools.pairwise(order)]
    offsets = [0.0, *itertools.accumulate(gaps)]
    fitted = isotonic_regression([wanted[i] - offset for i, offset in zip(order, offsets, strict=True)]).x.tolist()
    first = low + heights[order[0]] / 2
    last = max(first, high - heights[order[-1]] / 2 - offsets[-1])
    centres = [0.0] * len(wanted)
    for i, value, offset in zip(order, fitted, offsets, strict=True):
        centres[i] = min(max(value, first), last) + offset
    return centres


def beside(
    points: Sequence[tuple[float, float]], sizes: Sequence[tuple[float, float]], occupied: Iterable[Box], area: Box
) -> list[Box | None]:
    """A box for the label of each point: the first free place around it, tried from near to far.

    Args:
        points: The points, which no label may cover.
        sizes: Width and height of each label.
        occupied: Further places that no label may cover.
        area: No label reaches out of this.

    Returns:
        A box per point; None where nothing is free: a label that covers another tells less than none.
    """
    occupied = [*occupied, *(Box(x - 7, y - 7, x + 7, y + 7) for x, y in points)]
    boxes: list[Box | None] = []
    for (x, y), (width, height) in zip(points, sizes, strict=True):
        around = (box for box in _around(x, y, width, height) if box.inside(area))
        box = next((box for box in around if not any(map(box.overlaps, occupied))), None)
        boxes.append(box)
        occupied += [box] if box else []
    return boxes


def _around(x: float, y: float, width: float, height: float) -> Iterator[Box]:
    """Boxes of a size around a point, from near to far: right, left, and above or below it."""
    gap = 10
    for shift in (0, *range(8, 200, 8)):
        for dy in (-shift, shift) if shift else (0,):
            top = y + dy - height / 2
            yield Box(x + gap, top, x + gap + width, top + height)
            yield Box(x - gap - width, top, x - gap, top + height)
            if abs(dy) > height / 2 + gap / 2:
                yield Box(x - width / 2, top, x + width / 2, top + height)
