"""Scales, grid and words that all charts of a page share, as SVG text."""

from __future__ import annotations

import dataclasses
import math
import textwrap
from collections.abc import Callable, Sequence

from ...markup import Markup, element, join

LINE_HEIGHT = 20
"""Height of a line of a label: phones show the large chart at two thirds of its size with larger letters."""
LETTER_WIDTH = 9.2
LABEL_LETTERS = 14
"""Letters at most in a line of a label."""
_EDGE = 22
_TICK_GAP = 6


@dataclasses.dataclass(frozen=True)
class Wording:
    """Words of a drawing besides its labels."""

    identity: str
    """Prefix of the ids within the drawing; unique on the page."""
    title: str
    """Read out in place of the drawing."""
    x_title: str
    """Quantity along x; empty where the chart's surroundings say it."""
    y_title: str = "accuracy, %"
    """Quantity along y."""


@dataclasses.dataclass(frozen=True)
class Frame:
    """The plot inside a drawing, and its scales."""

    left: float
    top: float
    right: float
    bottom: float
    x: Callable[[float], float]
    ticks: Sequence[int]
    """Percents; the first and the last are the lower and the upper edge."""

    def y(self, fraction: float) -> float:
        """Height of a fraction in [0, 1]; y grows downwards."""
        low, high = self.ticks[0] / 100, self.ticks[-1] / 100
        return self.bottom - (fraction - low) / (high - low) * (self.bottom - self.top)


def percent_ticks(low: float, high: float) -> list[int]:
    """Whole percents at even steps, at most seven, that enclose two fractions in [0, 1]."""
    step = next(step for step in (1, 2, 5, 10, 20) if 100 * (high - low) <= 5 * step)
    first, last = math.floor(100 * low / step), math.ceil(100 * high / step)
    if first == last:
        first, last = (first - 1, last) if first * step >= 100 else (first, last + 1)
    return [step * i for i in range(first, last + 1)]


def log_ticks(values: Sequence[float]) -> list[float]:
    """Powers of ten that enclose positive values; within less than a power of ten, also their doubles and halves."""
    low, high = min(values), max(values)
    factors = (1, 10) if high > 8 * low else (1, 2, 5, 10)
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    steps = sorted({factor * 10.0**exponent for exponent in range(first, last + 1) for factor in factors})
    below = max(i for i, step in enumerate(steps) if step <= low * (1 + 1e-9))
    above = min(i for i, step in enumerate(steps) if step >= high * (1 - 1e-9))
    return steps[below : max(above, below + 1) + 1]


def log_scale(ticks: Sequence[float], left: float, right: float) -> Callable[[float], float]:
    """From the first tick to the last, with a margin at both sides; a single tick stands in the middle."""
    low, high = math.log(ticks[0]), math.log(ticks[-1])
    left, right = left + _EDGE, right - _EDGE
    if low == high:
        return lambda _: (left + right) / 2
    return lambda value: left + (math.log(value) - low) / (high - low) * (right - left)


def compact(number: float) -> str:
    """A number in little room: ``10K``, ``1M``, ``0.5``."""
    for factor, letter in ((1_000_000_000, "G"), (1_000_000, "M"), (1_000, "K")):
        if number >= factor:
            return f"{number / factor:g}{letter}"
    return f"{number:g}"


def drawing(wording: Wording, width: float, height: float, *parts: Markup, style: str = "chart") -> Markup:
    """An SVG whose name is read out in its place."""
    identity = f"{wording.identity}-title"
    heading = element("title", wording.title, id=identity)
    box = f"0 0 {width:g} {height:g}"
    return element("svg", heading, *parts, viewBox=box, role="img", aria_labelledby=identity, class_=style)


def grid(frame: Frame, x_ticks: Sequence[tuple[float, str]], x_title: str, y_title: str = "accuracy, %") -> Markup:
    """Horizontal lines with their percents, and the ticks and the title below the plot.

    Ticks of x are labelled from the last one back, without those that would touch the one after them.
    """
    path = "".join(f"M{frame.left:g} {frame.y(t / 100):.1f}H{frame.right:g}" for t in frame.ticks)
    parts = [element("path", d=path, class_="grid")]
    parts += [text(str(t), frame.left - 8, frame.y(t / 100) + 5, "tick", "end") for t in frame.ticks]
    free = math.inf
    for value, words in reversed(x_ticks):
        half = LETTER_WIDTH * len(words) / 2
        if frame.x(value) + half + _TICK_GAP <= free:
            parts.append(text(words, frame.x(value), frame.bottom + 22, "tick", "middle"))
            free = frame.x(value) - half
    if y_title:
        parts.append(text(y_title, 4, frame.top - 18, "axis"))
    if x_title:
        parts.append(text(x_title, (frame.left + frame.right) / 2, frame.bottom + 44, "axis", "middle"))
    return join(parts)


def text(words: str, x: float, y: float, style: str, anchor: str = "start") -> Markup:
    """One line of text; its baseline is at y."""
    return element("text", words, x=x, y=y, text_anchor=None if anchor == "start" else anchor, class_=style)


def wrapped(label: str) -> list[str]:
    """A label in at most three short lines."""
    lines = textwrap.wrap(label, LABEL_LETTERS) or [""]
    return lines if len(lines) <= 3 else [*lines[:2], lines[2][: LABEL_LETTERS - 1] + "…"]


def text_width(lines: Sequence[str]) -> float:
    """Room that lines of text may take."""
    return LETTER_WIDTH * max(map(len, lines))


def label(lines: Sequence[str], x: float, centre: float, style: str, anchor: str = "start") -> Markup:
    """Lines of text around a vertical centre; 5 units are half the height of small letters."""
    first = centre - LINE_HEIGHT * (len(lines) - 1) / 2 + 5
    spans = [element("tspan", line, x=x, y=first + LINE_HEIGHT * i) for i, line in enumerate(lines)]
    return element("text", *spans, text_anchor=anchor, class_=f"label {style}")


def leader(x: float, y: float, label_x: float, label_y: float) -> Markup:
    """A thin line from a point to its label."""
    return element("path", d=f"M{x:.1f} {y:.1f}L{label_x:.1f} {label_y:.1f}", class_="leader")
