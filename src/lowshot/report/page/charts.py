"""Charts of accuracy drawn as SVG text: against images per class, large and small, and against what it costs.

Colours and strokes are the style sheet's (classes ``series-0`` to ``series-5``, ``rival``, ``other``, ``baseline``), so
one drawing serves light and dark pages. Methods differ in colour, in the shape of their markers and in their labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ...markup import Markup, element
from .axes import (
    LINE_HEIGHT,
    Frame,
    Wording,
    compact,
    drawing,
    grid,
    label,
    log_scale,
    log_ticks,
    percent_ticks,
    wrapped,
)
from .front import front_steps, pareto_front
from .labels import end_labels, point_labels
from .series import Baseline, Series

MOST_LINES = 8
"""More methods in one chart cannot be told apart: pages show a table of shaded cells, and label the front alone."""
_LEFT, _TOP, _BOTTOM = 46, 34, 52
_LABEL_COLUMN, _MARGIN = 178, 10
"""Room right of the plot, with labels and without."""


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
        *end_labels(frame, series, baselines, dodges),
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
    steps = front_steps([(frame.x(x), frame.y(y)) for x, y in (places[i] for i in front)], right)
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
        *point_labels(frame, [series[i] for i in front] if is_crowded else series, series, baselines, steps),
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
        for point, (x, y) in zip(one.points, places, strict=True):
            top = frame.y(min(point.mean + point.deviation, 1.0))
            bottom = frame.y(max(point.mean - point.deviation, 0.0))
            bar = element("path", d=f"M{x:.1f} {top:.1f}V{bottom:.1f}", class_="whisker") if point.deviation else ""
            marker = element("path", d=one.marker, transform=f"translate({x:.1f} {y:.1f})", class_="marker")
            parts.append(element("g", bar, marker, data_tip=point.tip, data_from=point.origins or None))
        yield element("g", *parts, class_=one.classes, data_series=one.highlight)
