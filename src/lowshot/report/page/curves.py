"""Points and lines of charts, from rows and published figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ...methods import METHODS, ZERO_SHOT
from ...records import RunRecord
from ...wording.quantities import images_per_class
from ..published import PublishedFigure, same_method
from ..summary import Row, SeriesKey
from .series import COLOURS, Baseline, Point, Series
from .tips import Origins, RowRuns, row_tip

_OF_PAPERS = ("quoted", "readme", "digitised")
"""Kinds of figures that make up one curve, the best known first: of several for one point that one is drawn."""
_DRAWN = (*_OF_PAPERS, "withdrawn")
_OF_OTHERS = ("quoted", "digitised")
"""Kinds of figures that are drawn of methods that were not run here: those of papers under the same protocol."""
_MOST_OTHERS = 3
_FEWEST_SHOTS = 3


class Look(NamedTuple):
    """Colours and numbered origins that are the same on a whole page."""

    numbers: Mapping[SeriesKey, int]
    origins: Origins


_HOMES = {method: place for place, method in enumerate(name for name in METHODS if name != ZERO_SHOT)}
"""Method -> the number that it has on a page where no other has the same colour."""


def series_numbers(rows: Sequence[Row]) -> dict[SeriesKey, int]:
    """A number for each of lowshot's trained methods and each rival: the same method looks the same in every chart.

    It is the same on every page too, unless a method before it in the table of methods has its colour there. What is
    left over, such as the quantised and the variants of a grid, gets what is free.
    """
    keys = list(dict.fromkeys(row.series for row in rows if not row.is_zero_shot))
    ours = sorted((key for key in keys if key[0] in _HOMES), key=lambda key: (_HOMES[key[0]], key[1] != "none"))
    numbers: dict[SeriesKey, int] = {}
    for key in ours:
        if _HOMES[key[0]] % COLOURS not in _colours(numbers):
            numbers[key] = _HOMES[key[0]]
    for key in sorted((key for key in keys if key not in numbers), key=lambda key: key not in ours):  # rivals last
        unused = set(range(COLOURS)) - _colours(numbers)
        numbers[key] = min(unused or set(range(len(keys))) - set(numbers.values()))
    return {key: numbers[key] for key in keys}


def _colours(numbers: Mapping[SeriesKey, int]) -> set[int]:
    return {number % COLOURS for number in numbers.values()}


def measured(runs: RowRuns) -> RowRuns:
    """The rows that have an accuracy."""
    return {row: records for row, records in runs.items() if row.accuracy_mean is not None}


def learnt(runs: RowRuns) -> RowRuns:
    """The rows that have an accuracy and learnt from images."""
    return {row: records for row, records in measured(runs).items() if row.shots > 0 and not row.is_zero_shot}


def baselines(runs: RowRuns, look: Look) -> list[Baseline]:
    """Zero-shot accuracies, one for each backbone or wording of the prompts."""
    return [
        Baseline(row.label, row.accuracy_mean or 0.0, row_tip(row, records), look.origins.of(records))
        for row, records in measured(runs).items()
        if row.is_zero_shot
    ]


def curves(runs: RowRuns, look: Look) -> list[Series]:
    """Accuracy by images per class, a series for each method."""
    by_method: dict[SeriesKey, dict[Row, Sequence[RunRecord]]] = {}
    for row, records in learnt(runs).items():
        by_method.setdefault(row.series, {})[row] = records
    return [series(rows, look, [row.shots for row in rows]) for rows in by_method.values()]


def series(runs: RowRuns, look: Look, x: Sequence[float]) -> Series:
    """The points of one method, each of whose rows stands at its place of ``x``."""
    points = [
        Point(place, row.accuracy_mean or 0.0, row.accuracy_std, row_tip(row, records), look.origins.of(records))
        for place, (row, records) in zip(x, runs.items(), strict=True)
    ]
    row = next(iter(runs))
    return Series(row.label, look.numbers[row.series], row.is_rival, tuple(points))


def published_curves(figures: Sequence[PublishedFigure], runs: RowRuns, look: Look, *, labelled: bool) -> list[Series]:
    """Figures that others have published for one data set, or for the average, as curves.

    A method that was run here has the best known of its published curves, and a withdrawn claim beside it.
    Replications and logs are not drawn: the table of published figures has everything.

    Args:
        figures: Those of that data set alone.
        runs: Its rows, to find who else has measured the same method.
        look: Numbers of the page's methods.
        labelled: Whether the chart has labels: only then the best of the methods that were not run here, and
            withdrawn claims, are drawn.
    """
    names_backbone = len({figure.backbone for figure in figures}) > 1
    ours: dict[tuple[int, str, bool], list[PublishedFigure]] = {}
    others = []
    for line in _lines(figures, _DRAWN if labelled else _OF_PAPERS):
        same = next((row for row in learnt(runs) if same_method(line[0], row)), None)
        if same is None:
            others.append(line)
            continue
        key = look.numbers[same.series], line[0].backbone, line[0].kind in _OF_PAPERS
        if key not in ours or _standing(line) < _standing(ours[key]):
            ours[key] = line
    drawn = [_published(line, number, names_backbone) for (number, _, _), line in ours.items()]
    if labelled:
        lines = [line for line in others if len(line) >= _FEWEST_SHOTS and {f.kind for f in line} <= set(_OF_OTHERS)]
        best = sorted(lines, key=lambda line: -line[-1].accuracy)[:_MOST_OTHERS]
        drawn += [_published(line, -1, names_backbone) for line in best]
    return drawn


def counterpart(row: Row, figures: Sequence[PublishedFigure]) -> PublishedFigure | None:
    """The figure that a paper gives for a row's method with as many images, if there is one."""
    same = [f for f in figures if f.shots == row.shots and f.kind in _OF_PAPERS and same_method(f, row)]
    return min(same, key=_rank, default=None)


def kind_text(figure: PublishedFigure) -> str:
    """Kind and reading error of a figure: ``quoted``, ``digitised, ± 0.5``, ``withdrawn``."""
    error = "" if figure.uncertainty is None else f", ±\u00a0{100 * figure.uncertainty:.1f}"
    return figure.kind + error


def published_tip(figure: PublishedFigure) -> str:
    """Text beside a pointer over a published point."""
    shots = f", {images_per_class(figure.shots)}" if figure.shots else ""
    accuracy = f"published: {100 * figure.accuracy:.1f} % ({kind_text(figure)})"
    return "\n".join([f"{figure.method}, {figure.backbone}{shots}", accuracy, figure.source])


def _published(line: Sequence[PublishedFigure], number: int, names_backbone: bool) -> Series:
    points = [Point(f.shots, f.accuracy, f.uncertainty or 0.0, published_tip(f)) for f in line]
    name = f"{line[0].method} {line[0].backbone}" if names_backbone else line[0].method
    kinds = ", ".join(sorted({figure.kind for figure in line}, key=_DRAWN.index))
    return Series(f"{name} ({kinds})", number, False, tuple(points), is_published=True)


def _lines(figures: Sequence[PublishedFigure], kinds: Sequence[str]) -> list[list[PublishedFigure]]:
    """The best known figure of each method and backbone by ascending shots; withdrawn ones apart from the others."""
    groups: dict[tuple[str, str, bool], dict[int, PublishedFigure]] = {}
    for figure in (one for one in figures if one.shots > 0 and one.kind in kinds):
        group = groups.setdefault((figure.method, figure.backbone, figure.kind in _OF_PAPERS), {})
        group[figure.shots] = min(group.get(figure.shots, figure), figure, key=_rank)
    return [[group[shots] for shots in sorted(group)] for group in groups.values()]


def _standing(line: Sequence[PublishedFigure]) -> tuple[int, int]:
    """Less is better known: the best kind of its figures, then how many there are."""
    return min(_rank(figure)[0] for figure in line), -len(line)


def _rank(figure: PublishedFigure) -> tuple[int, float]:
    """Less is better known: the kind of a figure, then its reading error."""
    return _DRAWN.index(figure.kind), figure.uncertainty or 0.0
