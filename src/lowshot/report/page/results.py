"""The tables of a page, sortable by every column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...markup import Markup, choice, element, marked, scrollable, table
from ..published import PublishedFigure
from ..summary import (
    MEAN_AVERAGE_PRECISION,
    Row,
    accuracy_text,
    mean_and_deviation,
    measures_of,
    spread_text,
    table_columns,
)
from .charts import MOST_LINES
from .curves import Look, kind_text
from .gallery import SHADES
from .headline import AVERAGE_OF
from .series import key_mark
from .tips import RowRuns, measures_text, row_tip

_LONG = 60
_OF_LABELS = {"mAP": "map", "F1": "micro_f1", "F1, mean of classes": "macro_f1", "exact": "exact_match"}
"""Heading -> measure of a record of images of several labels."""


def results_table(rows: Sequence[Row], look: Look, identity: str = "results") -> Markup:
    """All rows in their first order. ``page.js`` makes the buttons in the headings sort by the cells' ``data-value``.

    ``look`` gives each name the mark of its charts; ``identity`` is a prefix of ids, unique on the page.
    """
    columns = table_columns(rows)
    body = []
    for row in rows:
        cells = [
            _named(row, look) if one.heading == "method" else _cell(one.text(row), one.value(row)) for one in columns
        ]
        body.append(element("tr", *cells))
    headings = [(column.heading, column.is_number) for column in columns]
    of_several = MEAN_AVERAGE_PRECISION in measures_of(rows)
    means = f"{measures_text(rows)} is the mean" if of_several else "Mean"
    note = f"{means} over seeds ± standard deviation; a KB has 1000 bytes. Press a heading to sort."
    whole = scrollable(_sortable(headings, body), note, f"{identity}-note")
    if len(rows) <= _LONG:
        return whole
    return element("details", element("summary", f"Every figure, {len(rows):,} rows"), whole)


def shots_table(runs: RowRuns, look: Look, identity: str) -> Markup:
    """One task or average, its methods by images per class, in place of a chart that would have too many lines."""
    shots = sorted({row.shots for row in runs if not row.is_zero_shot})
    columns = [(f"{count} per class", {row.series: row for row in runs if row.shots == count}) for count in shots]
    return _by_method(columns, runs, look, identity)


def data_sets_table(tasks: Sequence[RowRuns], look: Look, identity: str) -> Markup:
    """Methods by data set, one number of images per class at a time; zero-shot stands in each.

    ``tasks`` are the rows of each; the average, if there is one, comes first.
    """
    everything = {row: records for runs in tasks for row, records in runs.items()}
    shots = sorted({row.shots for row in everything if not row.is_zero_shot}) or [0]
    parts = {}
    for count in shots:
        here = [row for row in everything if row.shots == count or row.is_zero_shot]
        columns = []
        for title in dict.fromkeys(row.task for runs in tasks for row in runs):
            # The average of so many data sets stands beside them: their number goes without saying.
            is_average = title.startswith(AVERAGE_OF) and "(" not in title
            heading = "average" if is_average else title
            columns.append((heading, {row.series: row for row in here if row.task == title}))
        parts[str(count)] = _by_method(columns, everything, look, f"{identity}-{count}")
    return choice("Images per class", parts, str(shots[-1]), identity)


def protocols_table(runs: RowRuns, look: Look) -> Markup:
    """Accuracies on classes that were not learnt; empty where no run was judged on any."""
    judged = {row: others for row, records in runs.items() if (others := _others([r.metrics for r in records]))}
    if not judged:
        return Markup()
    names = list(dict.fromkeys(name for others in judged.values() for name in others))
    figures = {
        row: [(row.accuracy_mean, row.accuracy_std), *(others.get(name, (None, 0.0)) for name in names)]
        for row, others in judged.items()
    }
    note = "Accuracy in percent on the classes learnt from and on others, never seen in training; mean over seeds."
    return _judged_by(["learnt classes", *names], figures, look, note, "protocols-note")


def labels_table(runs: RowRuns, look: Look) -> Markup:
    """The measures of runs of several labels an image; empty where there are none."""
    judged = {row: records for row, records in runs.items() if row.measure == MEAN_AVERAGE_PRECISION}
    judged = {row: records for row, records in judged.items() if row.accuracy_mean is not None}
    if not judged:
        return Markup()
    figures = {
        row: [mean_and_deviation([float(record.metrics[key]) for record in records]) for key in _OF_LABELS.values()]
        for row, records in judged.items()
    }
    note = (
        "In percent, mean over seeds. mAP: mean average precision, how well images that show a class are ranked before"
        " the others. F1 of all labels together, and as the mean of the classes. Exact: images whose labels are all"
        " right, and none is missing."
    )
    return _judged_by(list(_OF_LABELS), figures, look, note, "labels-note")


def published_table(figures: Sequence[PublishedFigure]) -> Markup:
    """Every published figure that stands beside these runs, with its source."""
    headings = [("method", False), ("backbone", False), ("data set", False), ("shots", True)]
    headings += [("accuracy %", True), ("known from", False), ("source", False)]
    body = [
        element(
            "tr",
            element("th", figure.method, scope="row", data_value=figure.method),
            _cell(figure.backbone, figure.backbone),
            _cell(figure.dataset, figure.dataset),
            _cell(str(figure.shots), figure.shots),
            _cell(f"{100 * figure.accuracy:.1f}", figure.accuracy),
            _cell(kind_text(figure), kind_text(figure)),
            element("td", figure.source, data_value=figure.source, class_="long"),
        )
        for figure in figures
    ]
    note = "As their authors or others give them; how each is known is part of the figure. Press a heading to sort."
    whole = scrollable(_sortable(headings, body), note, "published-note")
    return element("details", element("summary", f"{len(figures):,} published figures"), whole)


def _by_method(columns: Sequence[tuple[str, Mapping[Any, Row]]], runs: RowRuns, look: Look, identity: str) -> Markup:
    """A row per method, columns of accuracies: shaded where there are so many that nobody reads them one by one."""
    is_shaded = len(look.numbers) > MOST_LINES
    present = {series for _, by_series in columns for series in by_series}
    methods = {row.series: row for row in runs if row.series in present or row.is_zero_shot}
    zero_shot = {row.series: row for row in runs if row.is_zero_shot} if len({r.task for r in runs}) == 1 else {}
    with_deviation = any(row.seeds > 1 for _, by_series in columns for row in by_series.values())
    cells = {series: [_named(method, look)] for series, method in methods.items()}
    for _, by_series in columns:
        levels = [
            row.accuracy_mean for row in by_series.values() if row.accuracy_mean is not None and not row.is_zero_shot
        ]
        within = (min(levels, default=0.0), max(levels, default=1.0)) if is_shaded else None
        for series in methods:
            row = by_series.get(series) or zero_shot.get(series)
            cells[series].append(_heat(row, runs, within, look, with_deviation=with_deviation))
    body = [element("tr", *of_method) for of_method in cells.values()]
    headings = [("method", False), *((heading, True) for heading, _ in columns)]
    shading = " The stronger the colour, the higher within its column." if is_shaded else ""
    means = ", mean over seeds ± standard deviation" if with_deviation else ""
    shown = [row for _, by_series in columns for row in by_series.values()]
    note = f"{measures_text(shown)} in percent{means}.{shading} Press a heading to sort."
    return scrollable(_sortable(headings, body, is_dense=is_shaded), note, f"{identity}-note")


def _judged_by(
    measures: Sequence[str],
    figures: Mapping[Row, Sequence[tuple[float | None, float]]],
    look: Look,
    note: str,
    identity: str,
) -> Markup:
    """A line for each row, with mean and deviation by each of the measures; None is what was not judged."""
    body = []
    for row, of_row in figures.items():
        cells = [_named(row, look), _cell(row.task, row.task), _cell(str(row.shots), row.shots)]
        for mean, deviation in of_row:
            cells.append(_cell("-" if mean is None else spread_text(mean, deviation, row.seeds), mean))
        body.append(element("tr", *cells))
    headings = [("method", False), ("data set", False), ("shots", True), *((name, True) for name in measures)]
    return scrollable(_sortable(headings, body), note, identity)


def _heat(
    row: Row | None, runs: RowRuns, within: tuple[float, float] | None, look: Look, *, with_deviation: bool
) -> Markup:
    """A cell with the tip of its row, shaded by its place between the lowest and the highest of its column."""
    if row is None or row.accuracy_mean is None:
        return _cell("-", None)
    style = "number"
    if within and not row.is_zero_shot:
        low, high = within
        share = (row.accuracy_mean - low) / (high - low) if high > low else 0.0
        style += f" shade-{round((SHADES - 1) * min(max(share, 0.0), 1.0))}"
    text = accuracy_text(row) if with_deviation else f"{100 * row.accuracy_mean:.1f}"
    tip = {"data_tip": row_tip(row, runs[row]), "data_from": look.origins.of(runs[row]) or None}
    return element("td", text, class_=style, data_value=_value(row.accuracy_mean), **tip)


def _others(metrics: Sequence[Mapping[str, Any]]) -> dict[str, tuple[float, float]]:
    """Mean and deviation over runs of each other label space, and of their mean; those that all runs have."""
    values: dict[str, list[float]] = {}
    for one in metrics:
        for name, other in one.get("others", {}).items():
            values.setdefault(name, []).append(float(other["acc1"]))
        for key in ("harmonic_mean", "mean_of_others"):
            if key in one:
                values.setdefault(key.replace("_", " "), []).append(float(one[key]))
    return {name: mean_and_deviation(of_runs) for name, of_runs in values.items() if len(of_runs) == len(metrics)}


def _sortable(headings: Sequence[tuple[str, bool]], body: Sequence[Markup], *, is_dense: bool = False) -> Markup:
    """A table whose headings, each with whether numbers stand below it, are buttons that sort."""
    header = [
        element(
            "th",
            element("button", text, type="button"),
            scope="col",
            class_="number" if is_number else None,
            aria_sort="none",
        )
        for text, is_number in headings
    ]
    return table(header, body, "results dense" if is_dense else "results")


def _named(row: Row, look: Look) -> Markup:
    # Where there are too many methods for lines, no chart has all of these marks.
    mark = key_mark(look.numbers.get(row.series), row.is_rival) if len(look.numbers) <= MOST_LINES else Markup()
    return element("th", marked(mark, row.label), scope="row", data_value=row.label)


def _cell(text: str, value: str | float | None) -> Markup:
    return element("td", text, class_=None if isinstance(value, str) else "number", data_value=_value(value))


def _value(value: str | float | None) -> str:
    """The text that a cell is sorted by: seven digits tell apart whatever a table shows."""
    if value is None:
        return ""
    return value if isinstance(value, str) else f"{value:.7g}"
