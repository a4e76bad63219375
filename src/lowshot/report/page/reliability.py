"""Bins of confidence, in words and as a diagram: whether a classifier is as often right as it says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from ...markup import Markup, element
from ...records import RunRecord
from ...wording.quantities import counted, percent
from .axes import Frame, Wording, drawing, grid

BINS = 15
"""Equal-width bins of confidence, as in the metrics of a record."""
_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 440, 400, 46, 34, 52
_SMALLEST, _LARGEST = 2.5, 15.0


class Bin(NamedTuple):
    """Test images of similar confidence."""

    images: int
    confidence: float
    """Mean probability of the predicted class."""
    accuracy: float


class Reliability(NamedTuple):
    """One classifier's bins, by rising confidence."""

    label: str
    style: str
    """Its class in the style sheet."""
    bins: tuple[Bin, ...]

    @property
    def whole(self) -> Bin:
        """All bins as one: the images of every seed with their mean confidence and accuracy."""
        return _pooled(self.bins)

    @property
    def error(self) -> float:
        """Expected calibration error (arXiv 1706.04599, equation 3) of the pooled predictions."""
        return sum(one.images * abs(one.accuracy - one.confidence) for one in self.bins) / self.whole.images


def pooled_bins(records: Sequence[RunRecord]) -> tuple[Bin, ...]:
    """The bins of all runs together; none where a run does not tell its own."""
    if not records or not all(record.metrics.get("reliability") for record in records):
        return ()
    bins: dict[int, list[Bin]] = {}
    for one in (Bin(*values) for record in records for values in record.metrics["reliability"]):
        bins.setdefault(min(max(math.ceil(one.confidence * BINS), 1), BINS), []).append(one)
    return tuple(_pooled(bins[number]) for number in sorted(bins))


def _pooled(bins: Sequence[Bin]) -> Bin:
    images = sum(one.images for one in bins)
    confidence = sum(one.images * one.confidence for one in bins) / images
    return Bin(images, confidence, sum(one.images * one.accuracy for one in bins) / images)


def reliability_text(one: Reliability) -> str:
    """Sentence on mean confidence, accuracy, and the difference of the two."""
    _, confidence, accuracy = one.whole
    if abs(confidence - accuracy) < 0.005:
        direction = "as sure as it is right"
    else:
        direction = "too sure" if confidence > accuracy else "not sure enough"
    return (
        f"{one.label} is on average {direction}: {percent(confidence)} sure and {percent(accuracy)} right,"
        f" with an expected calibration error of {100 * one.error:.1f} points."
    )


def reliability_chart(drawn: Sequence[Reliability], wording: Wording) -> Markup:
    """Accuracy against confidence; the area of a dot is its share of the images, the diagonal is honesty.

    The last of the classifiers is on top.
    """
    right, bottom = _WIDTH - 12, _HEIGHT - _BOTTOM
    percents = (0, 20, 40, 60, 80, 100)
    frame = Frame(_LEFT, _TOP, right, bottom, lambda x: _LEFT + x * (right - _LEFT), percents)
    diagonal = element("path", d=f"M{_LEFT} {bottom}L{right} {_TOP}", class_="diagonal")
    names = (element("tspan", f"● {one.label}\u2003", class_=one.style) for one in drawn)
    legend = element("text", *names, x=right, y=16, text_anchor="end", class_="key-words")
    parts = [grid(frame, [(t / 100, str(t)) for t in percents], wording.x_title), diagonal, legend]
    for one in drawn:
        dots, places, total = [], [], one.whole.images
        for images, confidence, accuracy in one.bins:
            x, y = frame.x(confidence), frame.y(accuracy)
            predictions = f"{counted(images, 'prediction')} of {total:,}"
            tip = f"{one.label}\n{percent(confidence)} sure, {percent(accuracy)} right\n{predictions}"
            radius = max(_SMALLEST, _LARGEST * math.sqrt(images / total))
            dots.append(element("circle", cx=x, cy=y, r=radius, class_="marker", data_tip=tip))
            places.append(f"{x:.1f} {y:.1f}")
        line = element("path", d="M" + "L".join(places), class_="line")
        parts.append(element("g", line, *dots, class_=f"{one.style} reliability"))
    return drawing(wording, _WIDTH, _HEIGHT, *parts, style="chart small")
