"""Names of methods in charts: in a column beside the ends of lines, or beside points."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

from ...markup import Markup, element
from .axes import LINE_HEIGHT, Frame, label, leader, text_width, wrapped
from .placement import Box, beside, spread
from .series import Baseline, Series

_LABEL_GAP = 26


def end_labels(
    frame: Frame, series: Sequence[Series], baselines: Sequence[Baseline], dodges: Sequence[float]
) -> Iterator[Markup]:
    """A column of labels right of the plot, each with a thin line from its end where the two do not touch."""
    ends = [
        (frame.x(one.points[-1].x) + dodge + 8, frame.y(one.points[-1].mean))
        for one, dodge in zip(series, dodges, strict=True)
    ]
    ends += [(frame.right + 2, frame.y(one.level)) for one in baselines]
    labels: list[tuple[list[str], str, str | None]]
    labels = [(wrapped(one.label), one.classes, one.highlight) for one in series]
    labels += [(wrapped(one.label), "baseline", None) for one in baselines]
    heights = [LINE_HEIGHT * len(lines) + 2.0 for lines, _, _ in labels]
    centres = spread([y for _, y in ends], heights, frame.top - 8, frame.bottom + 8)
    for (x, y), (lines, style, highlight), centre in zip(ends, labels, centres, strict=True):
        parts = [label(lines, frame.right + _LABEL_GAP + 4, centre, style)]
        if frame.right - x > 16 or abs(centre - y) > 4:
            parts.insert(0, leader(x, y, frame.right + _LABEL_GAP, centre))
        yield element("g", *parts, data_series=highlight)


def point_labels(
    frame: Frame,
    labelled: Sequence[Series],
    series: Sequence[Series],
    baselines: Sequence[Baseline],
    steps: Sequence[tuple[float, float]],
) -> Iterator[Markup]:
    """Names beside points: each begins or ends at the side of its box nearest to the point, or is centred.

    Args:
        frame: The plot.
        labelled: Methods to name.
        series: All methods of the plot.
        baselines: Lines across it, with their own labels.
        steps: Corners of the front.
    """
    points = [(frame.x(one.points[0].x), frame.y(one.points[0].mean)) for one in labelled]
    labels = [wrapped(one.label) for one in labelled]
    sizes = [(text_width(lines), float(LINE_HEIGHT * len(lines))) for lines in labels]
    area = Box(frame.left, frame.top - 10, frame.right + 8, frame.bottom - 2)
    boxes = beside(points, sizes, _occupied(frame, series, baselines, steps), area)
    for one, (x, y), box, lines in zip(labelled, points, boxes, labels, strict=True):
        if not box:
            continue
        text_x = min(max(x, box.left), box.right)
        anchor = "start" if box.left > x else "end" if box.right < x else "middle"
        edge_y = min(max(y, box.top), box.bottom)
        parts = [label(lines, text_x, (box.top + box.bottom) / 2, one.style, anchor)]
        if math.hypot(text_x - x, edge_y - y) > 14:
            parts.insert(0, leader(x, y, text_x, edge_y))
        yield element("g", *parts, data_series=one.highlight)


def _occupied(
    frame: Frame, series: Sequence[Series], baselines: Sequence[Baseline], steps: Sequence[tuple[float, float]]
) -> Iterator[Box]:
    """Places that no label may cover: baselines with their labels, markers with their bars, steps of the front."""
    for one in baselines:
        y, label_right = frame.y(one.level), frame.left + 6 + text_width([one.label])
        yield Box(frame.left, y - 3, frame.right, y + 3)
        yield Box(frame.left, y - 10 - LINE_HEIGHT / 2, label_right, y)
    for point in (one.points[0] for one in series):
        x, y = frame.x(point.x), frame.y(point.mean)
        top, bottom = frame.y(point.mean + point.deviation), frame.y(point.mean - point.deviation)
        yield Box(x - 7, min(top, y - 7), x + 7, max(bottom, y + 7))
    for (x, y), (next_x, next_y) in itertools.pairwise(steps):
        yield Box(x - 2, min(y, next_y) - 2, next_x + 2, max(y, next_y) + 2)
