"""Published figures in tables: those of our methods below ours, those of others in a table of their own."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from ...wording.quantities import ends
from ..published import KINDS, PublishedFigure, published_average, same_method
from ..sections import AVERAGE, Column, Entry, Place, Section
from .table import Block, Line, Table, TableCell

_ROUNDING = 0.0005  # printed accuracies have one digit after the point, in percent


def is_outside(figure: PublishedFigure, accuracies: Sequence[float]) -> bool:
    """Whether a published figure differs from ours by more than the seeds' spread.

    That is two standard deviations of ours, and on top of it the reading error of a digitised figure, and half of the
    last printed digit. Of one run no spread is known: then never.
    """
    if len(accuracies) < 2:
        return False
    allowed = 2 * statistics.stdev(accuracies) + (figure.uncertainty or 0.0) + _ROUNDING
    return abs(statistics.fmean(accuracies) - figure.accuracy) > allowed


def published_lines(section: Section, ours: Mapping[int, Entry], places: Sequence[Place]) -> list[Line]:
    """The figures published on one of our methods, with how far ours are from them."""
    row = next(iter(ours.values())).row
    same = [figure for figure in section.published if same_method(figure, row)]
    lines = []
    for label, figures in _groups(same).items():
        cells = []
        for column, shots in places:
            figure = _figure_for(figures, column, shots, section)
            text = f"{100 * figure.accuracy:.1f}" if figure else ""
            sample = ours[shots].samples.get(column) if shots in ours else None
            if figure and sample:
                difference = 100 * (statistics.fmean(sample.values()) - figure.accuracy)
                mark = "!" if is_outside(figure, list(sample.values())) else ""
                text += f" ({round(difference, 1) + 0.0:+.1f}{mark})"  # no negative zero
            cells.append(TableCell(text))
        if any(cell.text for cell in cells):
            lines.append(Line(label, tuple(cells), is_published=True))
    return lines


def _groups(figures: Sequence[PublishedFigure]) -> dict[str, list[PublishedFigure]]:
    """By method and kind: a line each."""
    groups: dict[str, list[PublishedFigure]] = {}
    for figure in sorted(figures, key=lambda figure: list(KINDS).index(figure.kind)):
        groups.setdefault(f"{figure.method}, {figure.kind}", []).append(figure)
    return groups


def _figure_for(
    figures: Sequence[PublishedFigure], column: Column, shots: int, section: Section
) -> PublishedFigure | None:
    """The one of these figures that is of a column at a number of shots, if there is one."""
    dataset = published_average(section.tasks) if column.data == AVERAGE else column.data
    return next((figure for figure in figures if (figure.dataset, figure.shots) == (dataset, shots)), None)


def others_table(section: Section) -> Table | None:
    """Published methods that are none of ours, on the same backbone, data sets and numbers of shots."""
    layout = section.layout
    rows = [entry.row for entry in section.entries]
    others = [figure for figure in section.published if not any(same_method(figure, row) for row in rows)]
    blocks, shown = [], []
    for heading, places in layout.blocks:
        lines = []
        for label, group in _groups(others).items():
            figures = [_figure_for(group, column, shots, section) for column, shots in places]
            if any(figures):
                cells = tuple(TableCell(f"{100 * figure.accuracy:.1f}" if figure else "") for figure in figures)
                lines.append(Line(label, cells))
                shown += [figure for figure in figures if figure]
        if lines:
            blocks.append(Block(heading, tuple(lines)))
    if not blocks:
        return None
    title = f"Published accuracies of other methods in percent{section.about}"
    return Table(title, layout.headings, tuple(blocks), tuple(_origins(shown)))


def published_notes(section: Section) -> list[str]:
    """Sentences on reading the figures beside ours, and on their sources."""
    rows = [entry.row for entry in section.entries]
    shown = [
        figure
        for figure in section.published
        if any(same_method(figure, row) and figure.shots == row.shots for row in rows)
    ]
    if not shown:
        return []
    notes = [
        "Below a method of ours: what was published on it, in brackets ours minus that, in points; ! where that is "
        "more than two standard deviations of ours and the error of the published figure. Of one run no spread is "
        "known, and nothing is marked."
    ]
    if any(row.is_zero_shot and dict(row.settings).get("template") not in (None, "coop") for row in rows):
        notes.append("Published zero-shot figures use each data set's own template (--template coop); ours do not.")
    return [*notes, *_origins(shown)]


def _origins(figures: Sequence[PublishedFigure]) -> list[str]:
    """Sentences on the kinds of some figures and on each of their sources."""
    kinds = {figure.kind for figure in figures}
    explained = "; ".join(f"{kind}: {meaning}" for kind, meaning in KINDS.items() if kind in kinds)
    errors = sorted({figure.uncertainty for figure in figures if figure.uncertainty is not None})
    reading = f" The reading error is {ends([f'{100 * error:.1f}' for error in errors])} points." if errors else ""
    by_source: dict[str, dict[str, None]] = {}
    for figure in figures:
        for source in figure.source.split("; "):
            by_source.setdefault(source, {})[figure.method] = None
    sources = [f"Source of {'; '.join(methods)}: {source}." for source, methods in by_source.items()]
    return [f"How a published figure is known: {explained}.{reading}", *sources]
