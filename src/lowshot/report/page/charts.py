"""Charts of accuracy drawn as SVG text: against images per class, large and small, and against what it costs.

Colours and strokes are the style sheet's (classes ``series-0`` to ``series-5``, ``rival``, ``other``, ``baseline``), so
one drawing serves light and dark pages. Methods differ in colour, in the shape of their markers and in their labels.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence

from .axes import (
    LINE_HEIGHT,
    Frame,
    Wording,
    compact,
    drawing,
    grid,
    label,
    leader,
    log_scale,
    log_ticks,
    percent_ticks,
    text_width,
    wrapped,
)
from .front import pareto_front
from .markup import Markup, element
from .placement import Box, beside, spread

COLOURS = 6
"""Number of ``series-N`` classes in the style sheet."""
MOST_LINES = 8
"""More methods in one chart cannot be told apart: pages show a table of shaded cells, and label the front alone."""
_MARKERS = (
    "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0-10 0",
    "M-4.6-4.6h9.2v9.2h-9.2z",
    "M0-6.2l5.8 10h-11.6z",
    "M0-6.6l6.2 6.6-6.2 6.6-6.2-6.6z",
    "M0 6.2l5.8-10h-11.6z",
    "M-2-6h4v4h4v4h-4v4h-4v-4h-4v-4h4z",
    "M-5.4-5.4h10.8l-10.8 10.8h10.8z",
)  # seven: with six colours, the first 42 methods differ in one or the other
_DOT = "M-3 0a3 3 0 1 0 6 0a3 3 0 1 0-6 0"
_LABEL_GAP = 26
_LEFT, _TOP, _BOTTOM = 46, 34, 52
_LABEL_COLUMN, _MARGIN = 178, 10
"""Room right of the plot, with labels and without."""


@dataclasses.dataclass(frozen=True)
class Point:
    """A mean with its deviation, both as fractions in [0, 1]."""

    x: float
    mean: float
    deviation: float
    """The reading error of a published figure."""
    tip: str
    """Text beside a pointer over it."""
    origins: str = ""
    """Numbers of the origins (``tips.Origins``) that are shown below the tip."""


@dataclasses.dataclass(frozen=True)
class Series:
    """One method's points, by ascending x."""

    label: str
    number: int
    """Chooses colour and marker, the same in every chart of a page."""
    is_rival: bool
    points: tuple[Point, ...]
    is_published: bool = False
    """Whether others have published it. A method that was not run here has the number -1."""

    @property
    def style(self) -> str:
        """Its class in the style sheet."""
        return "other" if self.number < 0 else series_style(self.number, self.is_rival)

    @property
    def classes(self) -> str:
        """All classes of its group."""
        return f"{self.style} published" if self.is_published else self.style

    @property
    def highlight(self) -> str:
        """A key that all drawings of one method share: pointing at one makes all of them stand out."""
        return self.label if self.number < 0 else str(self.number)


@dataclasses.dataclass(frozen=True)
class Baseline:
    """A level to compare with, drawn across the chart."""

    label: str
    level: float
    tip: str
    origins: str = ""
    """Numbers, as those of a ``Point``."""


def series_style(number: int | None, is_rival: bool) -> str:
    """Class of a method in the style sheet; one without a number is a baseline."""
    if number is None:
        return "baseline"
    return "rival" if is_rival else f"series-{number % COLOURS}"


def key_mark(number: int | None, is_rival: bool, *, is_published: bool = False) -> Markup:
    """The marker of a method as a small drawing, for legends and tables; a piece of dashed line for a baseline."""
    style = series_style(number, is_rival)
    if number is None:
        shape = element("path", d="M-7 0h14", class_="line")
    else:
        shape = element("path", d=_MARKERS[number % len(_MARKERS)], class_="marker")
    group = element("g", shape, class_=f"{style} published" if is_published else style)
    return element("svg", group, viewBox="-8 -8 16 16", class_="chart key", aria_hidden="true")


def line_chart(series: Sequence[Series], baselines: Sequence[Baseline], wording: Wording) -> Markup:
    """Accuracy against images per class (log scale), a line per method, labels beside the ends of the lines.

    Args:
        series: Methods; a shot count that one lacks is bridged by its line.
        baselines: Horizontal dashed lines.
        wording: Title and axis.
    """
    labels = [*(one.label for one in series), *(one.label for one in baselines)]
    label_lines = sum(len(wrapped(name)) for name in labels)
    width, bottom = 560, max(400 - _BOTTOM, _TOP + (LINE_HEIGHT + 2) * label_lines)
    frame, ticks = _shots_frame(series, baselines, width - _LABEL_COLUMN, bottom, _TOP)
    dodges = _dodges(series, 9)
    return drawing(
        wording,
        width,
        bottom + _BOTTOM,
        grid(frame, ticks, wording.x_title, wording.y_title),
        *_levels(frame, baselines),
        *_end_labels(frame, series, baselines, dodges),
        *_lines(frame, series, dodges),
    )


def small_chart(series: Sequence[Series], baselines: Sequence[Baseline], wording: Wording) -> Markup:
    """A ``line_chart`` in little room and without labels: one of many, which share a legend."""
    width, height = 360, 250
    frame, ticks = _shots_frame(series, baselines, width - _MARGIN, height - 30, top=10)
    parts = [grid(frame, ticks, "", ""), *_levels(frame, baselines), *_lines(frame, series, _dodges(series, 7))]
    return drawing(wording, width, height, *parts, style="chart small")


def scatter_chart(series: Sequence[Series], baselines: Sequence[Baseline], wording: Wording) -> Markup:
    """Accuracy against a cost on a log scale, one labelled point per method, and their Pareto front.

    Args:
        series: Methods with one point each, x above 0. Of more than ``MOST_LINES`` the front alone is labelled; a
            label that finds no room is left out.
        baselines: Horizontal dashed lines, for methods without that cost.
        wording: Title and axis.
    """
    width, height = 400, 340
    right, bottom = width - _MARGIN, height - _BOTTOM
    ticks = log_ticks([one.points[0].x for one in series])
    frame = Frame(_LEFT, _TOP, right, bottom, log_scale(ticks, _LEFT, right), _percents(series, baselines))
    places = [(one.points[0].x, one.points[0].mean) for one in series]
    front = pareto_front(places, max((one.level for one in baselines), default=0.0))
    steps = _front_steps(frame, [places[i] for i in front])
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in steps)
    is_crowded = len(series) > MOST_LINES
    return drawing(
        wording,
        width,
        height,
        grid(frame, [(x, compact(x)) for x in ticks], wording.x_title, wording.y_title),
        *_levels(frame, baselines),
        *(label([one.label], _LEFT + 6, frame.y(one.level) - 10, "baseline") for one in baselines),
        *([element("path", d=path, class_="front")] if steps else []),
        *_point_labels(
            frame, [series[i] for i in front] if is_crowded else series, _occupied(frame, series, baselines, steps)
        ),
        *_lines(frame, series, [0.0] * len(series)),
        style="chart small crowded" if is_crowded else "chart small",
    )


def _shots_frame(
    series: Sequence[Series], baselines: Sequence[Baseline], right: float, bottom: float, top: float
) -> tuple[Frame, list[tuple[float, str]]]:
    """A plot over the numbers of shots that there are, and a tick for each of them."""
    shots = sorted({point.x for one in series for point in one.points})
    frame = Frame(_LEFT, top, right, bottom, log_scale(shots, _LEFT, right), _percents(series, baselines))
    return frame, [(x, f"{x:g}") for x in shots]


def _percents(series: Sequence[Series], baselines: Sequence[Baseline]) -> list[int]:
    """Ticks that enclose all levels, and all points with their deviations."""
    points = [point for one in series for point in one.points]
    levels = [baseline.level for baseline in baselines]
    low = min([point.mean - point.deviation for point in points] + levels)
    high = max([point.mean + point.deviation for point in points] + levels)
    return percent_ticks(max(low, 0.0), min(high, 1.0))


def _dodges(series: Sequence[Series], gap: float) -> list[float]:
    """Methods stand side by side at each shot count, so that equal ones do not hide each other."""
    own = [one.label for one in series if not one.is_published]
    gap = min(gap, 40 / max(len(own), 1))
    steps = {name: gap * (i - (len(own) - 1) / 2) for i, name in enumerate(own)}
    return [0.0 if one.is_published else steps[one.label] for one in series]


def _levels(frame: Frame, baselines: Sequence[Baseline]) -> Iterator[Markup]:
    """A dashed line across the plot for each baseline."""
    for one in baselines:
        path = f"M{frame.left:g} {frame.y(one.level):.1f}H{frame.right:g}"
        # The wide transparent line below the thin one is what a pointer can hit.
        lines = (element("path", d=path, class_=style) for style in ("hit", "line"))
        yield element("g", *lines, class_="baseline", data_tip=one.tip, data_from=one.origins or None)


def _lines(frame: Frame, series: Sequence[Series], dodges: Sequence[float]) -> Iterator[Markup]:
    """A line through the markers of each method, which stand on bars that span the deviation on both sides.

    What others have published lies below what was measured here.
    """
    for one, dodge in sorted(zip(series, dodges, strict=True), key=lambda pair: not pair[0].is_published):
        places = [(frame.x(point.x) + dodge, frame.y(point.mean)) for point in one.points]
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        parts = [element("path", d=path, class_="line")] if len(places) > 1 else []
        shape = _DOT if one.number < 0 else _MARKERS[one.number % len(_MARKERS)]
        for point, (x, y) in zip(one.points, places, strict=True):
            top = frame.y(min(point.mean + point.deviation, 1.0))
            bottom = frame.y(max(point.mean - point.deviation, 0.0))
            bar = element("path", d=f"M{x:.1f} {top:.1f}V{bottom:.1f}", class_="whisker") if point.deviation else ""
            marker = element("path", d=shape, transform=f"translate({x:.1f} {y:.1f})", class_="marker")
            parts.append(element("g", bar, marker, data_tip=point.tip, data_from=point.origins or None))
        yield element("g", *parts, class_=one.classes, data_series=one.highlight)


def _end_labels(
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


def _front_steps(frame: Frame, front: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Corners of the steps from each point of the front to the next and on to the edge. One point makes no steps."""
    if len(front) < 2:
        return []
    places = [(frame.x(cost), frame.y(accuracy)) for cost, accuracy in front]
    corners = [places[0]]
    for x, y in places[1:]:
        corners += [(x, corners[-1][1]), (x, y)]
    return [*corners, (frame.right, corners[-1][1])]


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


def _point_labels(frame: Frame, labelled: Sequence[Series], occupied: Iterable[Box]) -> Iterator[Markup]:
    """Names beside points: each begins or ends at the side of its box nearest to the point, or is centred."""
    points = [(frame.x(one.points[0].x), frame.y(one.points[0].mean)) for one in labelled]
    labels = [wrapped(one.label) for one in labelled]
    sizes = [(text_width(lines), float(LINE_HEIGHT * len(lines))) for lines in labels]
    boxes = beside(points, sizes, occupied, Box(frame.left, frame.top - 10, frame.right + 8, frame.bottom - 2))
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
