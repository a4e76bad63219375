"""Two charts drawn as SVG text: accuracy against images per class, and against trainable parameters.

Colours and strokes are the style sheet's (classes ``series-0`` to ``series-5``, ``rival``, ``baseline``), so one
drawing serves light and dark pages. A method is told by colour, by the shape of its marker and by its label.
"""

from __future__ import annotations

import dataclasses
import math
import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from .markup import Markup, element, join
from .placement import Box, beside, spread

COLOURS = 6
"""How many ``series-N`` classes the style sheet has."""
_MARKERS = (
    "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0-10 0",
    "M-4.6-4.6h9.2v9.2h-9.2z",
    "M0-6.2l5.8 10h-11.6z",
    "M0-6.6l6.2 6.6-6.2 6.6-6.2-6.6z",
    "M0 6.2l5.8-10h-11.6z",
)
_WIDTH, _HEIGHT = 520, 400
_LEFT, _TOP, _BOTTOM = 46, 34, 52
_LABEL_COLUMN = 136
# Phones show these charts at two thirds of their size with larger letters (style.css); room is kept for those.
_LINE_HEIGHT = 18
_LETTER_WIDTH = 9.2
_LABEL_LETTERS = 14


@dataclasses.dataclass(frozen=True)
class Point:
    """A mean with its deviation, both as fractions in [0, 1]."""

    x: float
    mean: float
    deviation: float
    tip: str
    """What a pointer over it shows."""


@dataclasses.dataclass(frozen=True)
class Series:
    """One method's points, by ascending x."""

    label: str
    number: int
    """Chooses colour and marker, the same in every chart of a page."""
    is_rival: bool
    points: tuple[Point, ...]

    @property
    def style(self) -> str:
        """Its class in the style sheet."""
        return series_style(self.number, self.is_rival)


def series_style(number: int | None, is_rival: bool) -> str:
    """Class of a method in the style sheet; one without a number is a baseline."""
    if number is None:
        return "baseline"
    return "rival" if is_rival else f"series-{number % COLOURS}"


@dataclasses.dataclass(frozen=True)
class Baseline:
    """A level to compare with, drawn across the chart."""

    label: str
    level: float
    tip: str


@dataclasses.dataclass(frozen=True)
class _Frame:
    """The plot inside a drawing, and its scales."""

    right: float
    bottom: float
    x: Callable[[float], float]
    ticks: Sequence[int]
    """Percents; the first and the last are the lower and the upper edge."""

    def y(self, fraction: float) -> float:
        low, high = self.ticks[0] / 100, self.ticks[-1] / 100
        return self.bottom - (fraction - low) / (high - low) * (self.bottom - _TOP)


@dataclasses.dataclass(frozen=True)
class Wording:
    """What a drawing says besides its labels."""

    identity: str
    """Prefix of the ids within the drawing; unique on the page."""
    title: str
    """Read out in place of the drawing."""
    x_title: str
    """What x counts."""


def line_chart(series: Sequence[Series], baselines: Sequence[Baseline], wording: Wording) -> Markup:
    """Accuracy against images per class (log scale), a line per method, labels beside the ends of the lines.

    Args:
        series: Methods; a shot count that one lacks is bridged by its line.
        baselines: Horizontal dashed lines.
        wording: Title and axis.
    """
    shots = sorted({point.x for one in series for point in one.points})
    right = _WIDTH - _LABEL_COLUMN
    labels = [*(one.label for one in series), *(one.label for one in baselines)]
    label_lines = sum(len(_wrapped(label)) for label in labels)
    bottom = max(_HEIGHT - _BOTTOM, _TOP + (_LINE_HEIGHT + 2) * label_lines)
    frame = _frame(series, baselines, right, bottom, _log_scale(shots, right))
    # Methods stand side by side at each shot count, so that equal ones do not hide each other.
    gap = min(9, 40 / len(series))
    dodges = [gap * (i - (len(series) - 1) / 2) for i in range(len(series))]
    return _drawing(
        wording,
        bottom + _BOTTOM,
        _grid(frame, [(x, f"{x:g}") for x in shots], wording.x_title),
        *(_level(frame, baseline) for baseline in baselines),
        *_end_labels(frame, [*_line_ends(frame, series, dodges), *_level_ends(frame, baselines)]),
        *(_line(frame, one, dodge) for one, dodge in zip(series, dodges, strict=True)),
    )


def scatter_chart(series: Sequence[Series], baselines: Sequence[Baseline], wording: Wording) -> Markup:
    """Accuracy against a cost on a log scale, one labelled point per method.

    Args:
        series: Methods with one point each, x above 0.
        baselines: Horizontal dashed lines, for methods without that cost.
        wording: Title and axis.
    """
    right, bottom = _WIDTH - 12, _HEIGHT - _BOTTOM
    decades = _decades([point.x for one in series for point in one.points])
    frame = _frame(series, baselines, right, bottom, _log_scale(decades, right))
    return _drawing(
        wording,
        _HEIGHT,
        _grid(frame, [(x, compact(x)) for x in decades], wording.x_title),
        *(_level(frame, baseline) for baseline in baselines),
        *(_label([one.label], _LEFT + 6, frame.y(one.level) - 10, "baseline") for one in baselines),
        *_point_labels(frame, series, baselines),
        *(_line(frame, one, 0) for one in series),
    )


def percent_ticks(low: float, high: float) -> list[int]:
    """Whole percents at even steps, at most seven, that enclose two fractions in [0, 1]."""
    step = next(step for step in (1, 2, 5, 10, 20) if 100 * (high - low) <= 5 * step)
    first, last = math.floor(100 * low / step), math.ceil(100 * high / step)
    if first == last:
        first, last = (first - 1, last) if first * step >= 100 else (first, last + 1)
    return [step * i for i in range(first, last + 1)]


def compact(number: float) -> str:
    """A whole number in little room: ``10K``, ``1M``."""
    for factor, letter in ((1_000_000_000, "G"), (1_000_000, "M"), (1_000, "K")):
        if number >= factor:
            return f"{number / factor:g}{letter}"
    return f"{number:g}"


def _decades(values: Sequence[float]) -> list[float]:
    first, last = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return [10.0**exponent for exponent in range(first, max(last, first + 1) + 1)]


def _log_scale(ticks: Sequence[float], right: float) -> Callable[[float], float]:
    """From the first tick to the last, with a margin at both sides; a single tick stands in the middle."""
    low, high = math.log(ticks[0]), math.log(ticks[-1])
    left, right = _LEFT + 22, right - 22
    if low == high:
        return lambda _: (left + right) / 2
    return lambda value: left + (math.log(value) - low) / (high - low) * (right - left)


def _frame(
    series: Sequence[Series], baselines: Sequence[Baseline], right: float, bottom: float, x: Callable[[float], float]
) -> _Frame:
    points = [point for one in series for point in one.points]
    levels = [baseline.level for baseline in baselines]
    low = min([point.mean - point.deviation for point in points] + levels)
    high = max([point.mean + point.deviation for point in points] + levels)
    return _Frame(right, bottom, x, percent_ticks(max(low, 0.0), min(high, 1.0)))


def _wrapped(label: str) -> list[str]:
    lines = textwrap.wrap(label, _LABEL_LETTERS)
    return lines if len(lines) <= 3 else [*lines[:2], lines[2][: _LABEL_LETTERS - 1] + "…"]


def _text_width(lines: Sequence[str]) -> float:
    return _LETTER_WIDTH * max(map(len, lines))


def _drawing(wording: Wording, height: float, *parts: Markup) -> Markup:
    identity = f"{wording.identity}-title"
    heading = element("title", wording.title, id=identity)
    box = f"0 0 {_WIDTH} {height:g}"
    return element("svg", heading, *parts, viewBox=box, role="img", aria_labelledby=identity, class_="chart")


def _grid(frame: _Frame, x_ticks: Sequence[tuple[float, str]], x_title: str) -> Markup:
    middle = (_LEFT + frame.right) / 2
    return join(
        [
            *(
                element("path", d=f"M{_LEFT} {frame.y(t / 100):.1f}H{frame.right:g}", class_="grid")
                for t in frame.ticks
            ),
            *(_text(str(t), _LEFT - 8, frame.y(t / 100) + 5, "tick", "end") for t in frame.ticks),
            *(_text(text, frame.x(value), frame.bottom + 22, "tick", "middle") for value, text in x_ticks),
            _text("accuracy, %", 4, 16, "axis", "start"),
            _text(x_title, middle, frame.bottom + 44, "axis", "middle"),
        ]
    )


def _text(text: str, x: float, y: float, style: str, anchor: str) -> Markup:
    return element("text", text, x=x, y=y, text_anchor=anchor, class_=style)


def _level(frame: _Frame, baseline: Baseline) -> Markup:
    path = f"M{_LEFT} {frame.y(baseline.level):.1f}H{frame.right:g}"
    # The wide transparent line below the thin one is what a pointer can hit.
    lines = (element("path", d=path, class_=style) for style in ("hit", "line"))
    return element("g", *lines, class_="baseline", data_tip=baseline.tip)


def _line(frame: _Frame, series: Series, dodge: float) -> Markup:
    places = [(frame.x(point.x) + dodge, frame.y(point.mean)) for point in series.points]
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    parts = [element("path", d=path, class_="line")] if len(places) > 1 else []
    parts += [_dot(frame, point, x, series.number) for (x, _), point in zip(places, series.points, strict=True)]
    return element("g", *parts, class_=series.style)


def _dot(frame: _Frame, point: Point, x: float, number: int) -> Markup:
    """A marker on a bar that spans the deviation on both sides."""
    top, bottom = frame.y(min(point.mean + point.deviation, 1.0)), frame.y(max(point.mean - point.deviation, 0.0))
    bar = element("path", d=f"M{x:.1f} {top:.1f}V{bottom:.1f}", class_="whisker")
    place = f"translate({x:.1f} {frame.y(point.mean):.1f})"
    marker = element("path", d=_MARKERS[number % len(_MARKERS)], transform=place, class_="marker")
    return element("g", *([bar] if point.deviation else []), marker, data_tip=point.tip)


class _End(NamedTuple):
    """Where a line ends and what it is called."""

    x: float
    y: float
    label: list[str]
    style: str


def _line_ends(frame: _Frame, series: Sequence[Series], dodges: Sequence[float]) -> list[_End]:
    return [
        _End(frame.x(one.points[-1].x) + dodge + 8, frame.y(one.points[-1].mean), _wrapped(one.label), one.style)
        for one, dodge in zip(series, dodges, strict=True)
    ]


def _level_ends(frame: _Frame, baselines: Sequence[Baseline]) -> list[_End]:
    return [_End(frame.right, frame.y(one.level), _wrapped(one.label), "baseline") for one in baselines]


def _end_labels(frame: _Frame, ends: Sequence[_End]) -> Iterator[Markup]:
    """A column of labels right of the plot, each with a thin line from its end where the two do not touch."""
    heights = [_LINE_HEIGHT * len(end.label) + 2.0 for end in ends]
    centres = spread([end.y for end in ends], heights, _TOP - 8, frame.bottom + 8)
    for end, centre in zip(ends, centres, strict=True):
        if frame.right - end.x > 16 or abs(centre - end.y) > 4:
            yield _leader(end.x, end.y, frame.right + 8, centre)
        yield _label(end.label, frame.right + 12, centre, end.style)


def _point_labels(frame: _Frame, series: Sequence[Series], baselines: Sequence[Baseline]) -> Iterator[Markup]:
    points = [(frame.x(one.points[0].x), frame.y(one.points[0].mean)) for one in series]
    labels = [_wrapped(one.label) for one in series]
    sizes = [(_text_width(lines), float(_LINE_HEIGHT * len(lines))) for lines in labels]
    taken = [box for one in baselines for box in _level_boxes(frame, one)]
    taken += [_bar_box(frame, one.points[0]) for one in series]
    boxes = beside(points, sizes, taken, Box(_LEFT, _TOP - 10, frame.right + 8, frame.bottom - 2))
    for one, point, box, lines in zip(series, points, boxes, labels, strict=True):
        yield from _point_label(point, box, lines, one.style)


def _level_boxes(frame: _Frame, baseline: Baseline) -> tuple[Box, Box]:
    """The places of a baseline and of its label, which stands on it at the left."""
    y, label_right = frame.y(baseline.level), _LEFT + 6 + _text_width([baseline.label])
    return Box(_LEFT, y - 3, frame.right, y + 3), Box(_LEFT, y - 10 - _LINE_HEIGHT / 2, label_right, y)


def _bar_box(frame: _Frame, point: Point) -> Box:
    x = frame.x(point.x)
    return Box(x - 3, frame.y(point.mean + point.deviation), x + 3, frame.y(point.mean - point.deviation))


def _point_label(point: tuple[float, float], box: Box, lines: Sequence[str], style: str) -> Iterator[Markup]:
    """Text that begins or ends at the side of its box nearest to the point, or is centred above or below it."""
    x, y = point
    if box.left > x:
        anchor, text_x = "start", box.left
    elif box.right < x:
        anchor, text_x = "end", box.right
    else:
        anchor, text_x = "middle", x
    edge_y = min(max(y, box.top), box.bottom)
    if math.hypot(text_x - x, edge_y - y) > 14:
        yield _leader(x, y, text_x, edge_y)
    yield _label(lines, text_x, (box.top + box.bottom) / 2, style, anchor)


def _label(lines: Sequence[str], x: float, centre: float, style: str, anchor: str = "start") -> Markup:
    """Lines of text around a vertical centre; 5 units are half the height of small letters."""
    first = centre - _LINE_HEIGHT * (len(lines) - 1) / 2 + 5
    spans = [element("tspan", line, x=x, y=first + _LINE_HEIGHT * i) for i, line in enumerate(lines)]
    return element("text", *spans, text_anchor=anchor, class_=f"label {style}")


def _leader(x: float, y: float, label_x: float, label_y: float) -> Markup:
    return element("path", d=f"M{x:.1f} {y:.1f}L{label_x:.1f} {label_y:.1f}", class_="leader")
