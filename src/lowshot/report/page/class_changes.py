"""Recall of each class, or its average precision, before and after learning: in numbers, in words, as a chart."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from ...markup import Markup, element
from ...records import RunRecord
from ...wording.quantities import percent
from .axes import Wording, drawing, text

MOST_CLASSES = 20
"""Most classes in a chart: of more it shows those that gain and those that lose most."""
_WIDTH, _NAMES, _PLOT_RIGHT = 440, 160, 384
_ROW, _TOP, _GAP = 23, 42, 16
_NAME_LETTERS = 18


class ClassChange(NamedTuple):
    """The recall of one class before and after learning: the share of its test images that are recognised.

    Where images have several labels it is its average precision. Both are fractions in [0, 1].
    """

    name: str
    before: float
    """Zero-shot."""
    after: float
    """Mean over the runs."""

    @property
    def gain(self) -> float:
        """Positive where the class is recognised more often than before; rounding is no change."""
        gain = self.after - self.before
        return gain if abs(gain) > 1e-9 else 0.0


def class_changes(result: Sequence[RunRecord], zero_shot: Sequence[RunRecord]) -> list[ClassChange]:
    """Every class that occurs among the test images, the greatest gain of ``result`` over ``zero_shot`` first.

    Nothing where a run lacks its classes' figures, or where runs were not judged on the same classes.
    """
    records = [*result, *zero_shot]
    measure = "class_ap" if any(record.has_several for record in records) else "class_recall"
    are_known = all(len(record.metrics.get(measure, ())) == len(record.classes) for record in records)
    if not result or not zero_shot or not are_known or len({record.classes for record in records}) > 1:
        return []
    changes = [
        ClassChange(name, before, after)
        for name, before, after in zip(
            records[0].classes, _of_classes(zero_shot, measure), _of_classes(result, measure), strict=True
        )
        if before is not None and after is not None
    ]
    return sorted(changes, key=lambda change: (-change.gain, -change.after))


def changes_text(changes: Sequence[ClassChange], runs: int, *, are_precisions: bool = False) -> str:
    """Sentences on the numbers of classes that gained and lost, and on the choice that the chart shows.

    Args:
        changes: At least one.
        runs: How many the figures after learning are the mean of.
        are_precisions: Whether they are average precisions, as where images have several labels.
    """
    gained, lost = (sum(sign * change.gain > 0 for change in changes) for sign in (1, -1))
    same = len(changes) - gained - lost
    words = f"Of {len(changes):,} classes {gained:,} improved, {same:,} stayed as they were and {lost:,} fell."
    measure = (
        "Average precision of each class" if are_precisions else "Share of each class's test images that are recognised"
    )
    means = f" {measure}{f', mean over {runs} runs' if runs > 1 else ''}."
    half = MOST_CLASSES // 2
    cut = f" Shown are the {half} that gain most and the {half} that gain least." if len(changes) > MOST_CLASSES else ""
    return words + means + cut


def changes_chart(changes: Sequence[ClassChange], method: str, wording: Wording) -> Markup:
    """A line for each class from its recall before (ring) to that after (dot), with the difference in points.

    ``changes`` has at least one, the greatest gain first; ``method`` is what was learnt with.
    """
    half = MOST_CLASSES // 2
    shown = list(changes) if len(changes) <= MOST_CLASSES else [*changes[:half], *changes[-half:]]
    cut = half if len(shown) < len(changes) else len(shown)
    places = [_TOP + _ROW * (i + 0.5) + (_GAP if i >= cut else 0) for i in range(len(shown))]
    bottom = places[-1] + _ROW / 2
    ticks = [0, 50, 100]
    scale = "".join(f"M{_x(t / 100):.1f} {_TOP}V{bottom:g}" for t in ticks)
    parts = [element("path", d=scale, class_="grid")]
    parts += [text(f"{t} %", _x(t / 100), _TOP - 8, "tick", "middle") for t in ticks]
    parts.append(text("zero-shot ○ → ● " + method, _NAMES, 14, "axis"))
    if cut < len(shown):
        between = _TOP + _ROW * cut + _GAP / 2
        parts.append(element("path", d=f"M0 {between:g}H{_WIDTH}", class_="cut"))
    names = shortened([change.name for change in shown], _NAME_LETTERS)
    parts += [_class(change, names[change.name], y, method) for change, y in zip(shown, places, strict=True)]
    return drawing(wording, _WIDTH, bottom + 6, *parts, style="chart small")


def shortened(names: Sequence[str], letters: int) -> dict[str, str]:
    """Names of at most so many letters, by the whole ones: cut at the end, or where several would look the same inside.

    Of ``latin small letter o with grave`` and its like the end is what tells them apart.
    """
    short: dict[str, str] = {}
    for end in range(letters - 1):
        left = [name for name in names if name not in short]
        cut = {name: name if len(name) <= letters else _cut(name, letters, end) for name in left}
        times = Counter([*cut.values(), *short.values()])
        short.update({name: text for name, text in cut.items() if times[text] == 1})
    left = [name for name in names if name not in short]
    return short | {name: f"{i} {_cut(name, letters - 4, 0)}" for i, name in enumerate(left, 1)}


def _cut(name: str, letters: int, end: int) -> str:
    """The beginning of a name, an ellipsis, and so many letters of its end."""
    return name[: letters - 1 - end].rstrip() + "…" + (name[-end:].lstrip() if end else "")


def _of_classes(records: Sequence[RunRecord], measure: str) -> list[float | None]:
    """Mean over the runs for each class; None for one without test images."""
    columns = zip(*(record.metrics[measure] for record in records), strict=True)
    return [None if None in column else statistics.fmean(column) for column in columns]


def _x(figure: float) -> float:
    return _NAMES + 8 + figure * (_PLOT_RIGHT - _NAMES - 16)


def _class(change: ClassChange, short: str, y: float, method: str) -> Markup:
    """The name of a class, its ring and its dot, joined where they do not touch, and its difference."""
    before, after = _x(change.before), _x(change.after)
    style, sign = ("gain", "+") if change.gain > 0 else ("loss", "\u2212") if change.gain < 0 else ("same", "±")
    parts = [
        text(short, _NAMES - 8, y + 5, "name", "end"),
        element("circle", cx=before, cy=y, r=4, class_="before"),
        element("circle", cx=after, cy=y, r=5, class_="after"),
        text(f"{sign}{100 * abs(change.gain):.1f}", _WIDTH, y + 5, "difference", "end"),
    ]
    if abs(after - before) > 4:
        side = 4 if after > before else -4
        parts.insert(1, element("path", d=f"M{before + side:.1f} {y:g}H{after:.1f}", class_="line"))
    tip = f"{change.name}\n{percent(change.before)} zero-shot\n{percent(change.after)} with {method}"
    return element("g", *parts, class_=style, data_tip=tip)
