"""Charts of a page, from its rows: one subject at large, its costs, every data set in small."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from ...markup import Markup, choice, element, figure, join, marked, table
from ...wording.provenance import hardware_text
from ...wording.quantities import images_per_class
from ..published import PublishedFigure
from ..summary import Row, accuracy_text, measure_heading
from .axes import Wording
from .charts import MOST_LINES, line_chart, scatter_chart, small_chart
from .curves import Look, baselines, counterpart, curves, kind_text, learnt, measured, published_curves, series
from .series import Baseline, key_mark
from .tips import RowRuns, measures_text

NOTHING = "No method was trained and evaluated, so there is no curve to draw."


class _Cost(NamedTuple):
    """The quantity along x of one of the charts of costs."""

    heading: str
    title: str
    of: Callable[[Row], float]
    units: tuple[tuple[str, float], ...]
    """Names with their size, the smallest first; the largest that the greatest cost fills is taken."""


_COSTS = (
    _Cost("Fewer parameters", "trainable parameters", lambda row: row.trainable_parameters, (("", 1),)),
    _Cost(
        "Less time", "training time", lambda row: row.train_seconds, (("seconds", 1), ("minutes", 60), ("hours", 3600))
    ),
    _Cost(
        "Less memory", "memory that training took", lambda row: row.training_memory_bytes, (("MB", 1e6), ("GB", 1e9))
    ),
)


def has_many(runs: RowRuns) -> bool:
    """Whether there are more methods than a chart of lines can hold."""
    return len({row.series for row in learnt(runs)}) > MOST_LINES


def accuracy_figure(runs: RowRuns, figures: Sequence[PublishedFigure], look: Look, identity: str) -> Markup:
    """Accuracy against images per class for one task, or for the average, beside the standings at the last shots.

    ``runs`` has at least one row that learnt; ``figures`` are the published ones for it.
    """
    published = published_curves(figures, runs, look, labelled=True)
    wording = _wording(next(iter(runs)), "images per class", f"{identity}-shots")
    chart = line_chart([*curves(runs, look), *published], baselines(runs, look), wording)
    bars = any(row.seeds > 1 for row in learnt(runs))
    caption = "Mean over seeds; bars span ± one standard deviation." if bars else "One run each: no deviation is known."
    if published:
        caption += (
            " Dashed, with open marks: what others have published, and how it is known; bars of digitised figures"
            " are their reading error."
        )
    return element("div", figure("More images", chart, caption), _standings(runs, figures, look), class_="pair")


def cost_figures(runs: RowRuns, look: Look, identity: str) -> Markup:
    """Accuracy against its costs, for each number of shots; the largest comes first to sight.

    ``runs`` are of one task, with at least one row that learnt.
    """
    levels, parts = baselines(runs, look), {}
    for shots in sorted({row.shots for row in learnt(runs)}):
        drawn = {row: records for row, records in learnt(runs).items() if row.shots == shots}
        charts = [_cost(cost, drawn, levels, look, f"{identity}-{shots}-{i}") for i, cost in enumerate(_COSTS)]
        notes = [
            f"With {images_per_class(shots)}; costs on a log scale.",
            "Steps mark the Pareto front: what is not on it is matched by something that costs no more and does no"
            " worse.",
        ]
        if len(drawn) > MOST_LINES:
            notes.append("Only methods on the front are named; point at the others.")
        present = {row.series for row in drawn}
        absent = dict.fromkeys(row.label for row in learnt(runs) if row.series not in present)
        if absent:
            notes.append(f"Not run with so many images: {', '.join(absent)}.")
        machines = {hardware_text(record.provenance) for records in drawn.values() for record in records}
        if len(machines) > 1:
            notes.append(f"The runs come from {len(machines)} machines: their times and memory do not compare.")
        note = element("p", " ".join(notes), class_="note")
        parts[str(shots)] = join([note, element("div", *charts, class_="costs")])
    return choice("Images per class", parts, list(parts)[-1], identity)


def small_multiples(
    tasks: Mapping[str, RowRuns], published: Mapping[str, Sequence[PublishedFigure]], look: Look, identity: str
) -> Markup:
    """A small chart for each task, under one legend; pointing at a method there makes it stand out in all of them."""
    drawn = {task: runs for task, runs in tasks.items() if learnt(runs)}
    charts, has_published = [], False
    for i, (task, runs) in enumerate(drawn.items()):
        theirs = published_curves(published.get(task, ()), runs, look, labelled=False)
        has_published |= bool(theirs)
        wording = _wording(next(iter(runs)), "images per class", f"{identity}-{i}")
        chart = small_chart([*curves(runs, look), *theirs], baselines(runs, look), wording)
        charts.append(figure(task, chart))
    drawn_rows = [row for runs in drawn.values() for row in runs]
    note = (
        f"{measures_text(drawn_rows)} in percent against images per class. Each chart spans its own figures, so that"
        " methods can be told apart: compare heights within a chart, not between charts."
    )
    left_out = [task for task in tasks if task not in drawn]
    if left_out:
        note += f" Not drawn, for want of a method that learnt and was judged: {', '.join(left_out)}."
    methods = {row.series: row for runs in drawn.values() for row in measured(runs)}
    numbers = {row: look.numbers.get(key) for key, row in methods.items()}
    keys = [
        element("li", key_mark(number, row.is_rival), row.label, data_series=number) for row, number in numbers.items()
    ]
    if has_published:
        keys.append(element("li", key_mark(0, is_rival=True, is_published=True), "open marks: published by others"))
    legend, grid = element("ul", *keys, class_="legend"), element("div", *charts, class_="multiples")
    return join([element("p", note, class_="note"), legend, grid])


def _cost(cost: _Cost, drawn: RowRuns, levels: Sequence[Baseline], look: Look, identity: str) -> Markup:
    """One chart; a sentence where no method has that cost."""
    costly = {row: records for row, records in drawn.items() if cost.of(row) > 0}
    free = dict.fromkeys(row.label for row in drawn if row not in costly)
    left_out = f"Not drawn, for want of this figure: {', '.join(free)}." if free else ""
    if not costly:
        return element("figure", element("h3", cost.heading), element("figcaption", left_out))
    largest = max(map(cost.of, costly))
    unit, unit_size = next((unit for unit in reversed(cost.units) if largest >= 2 * unit[1]), cost.units[0])
    x_title = f"{cost.title}, {unit}" if unit else cost.title
    chart = scatter_chart(
        [series({row: records}, look, [cost.of(row) / unit_size]) for row, records in costly.items()],
        levels,
        _wording(next(iter(drawn)), x_title, identity),
    )
    return figure(cost.heading, chart, left_out)


def _standings(runs: RowRuns, figures: Sequence[PublishedFigure], look: Look) -> Markup:
    """The methods at the largest number of shots, the best first: the gain of each, and what was published of it."""
    shots = max(row.shots for row in learnt(runs))
    rows = sorted((row for row in learnt(runs) if row.shots == shots), key=lambda row: -(row.accuracy_mean or 0.0))
    levels = [row for row in measured(runs) if row.is_zero_shot]
    zero_shot = levels[0].accuracy_mean if len(levels) == 1 else None
    published = {row: theirs for row in [*rows, *levels] if (theirs := counterpart(row, figures))}
    headings = [
        "method",
        measure_heading(rows),
        *([] if zero_shot is None else ["gain"]),
        *(["published"] if published else []),
    ]
    header = [element("th", text, scope="col", class_="number" if i else None) for i, text in enumerate(headings)]
    body = []
    for row in [*rows, *levels]:
        accuracy, number = row.accuracy_mean or 0.0, look.numbers.get(row.series)
        cells: list[Sequence[object]] = [[accuracy_text(row)]]
        if zero_shot is not None:
            gain = f"{round(100 * (accuracy - zero_shot), 1):+.1f}".replace("-", "\u2212")
            cells.append(["" if row.is_zero_shot else gain])
        if row in published:
            kind = element("span", kind_text(published[row]), class_="quiet kind")
            cells.append([f"{100 * published[row].accuracy:.1f} ", kind])
        elif published:
            cells.append(["-"])
        name = element("th", marked(key_mark(number, row.is_rival), row.label), scope="row")
        columns = (element("td", *cell, class_="number") for cell in cells)
        body.append(element("tr", name, *columns, data_series=number))
    explained = "" if zero_shot is None else " Gain: points above zero-shot."
    caption = element("p", f"Mean over seeds ± standard deviation.{explained}", class_="note below")
    return element(
        "div",
        element("h3", f"With {images_per_class(shots)}"),
        table(header, body, "standings"),
        caption,
        class_="beside",
    )


def _wording(row: Row, x_title: str, identity: str) -> Wording:
    """Words of a chart of one task's rows, of which ``row`` is one."""
    title = f"{row.measure.capitalize()} on {row.task} against {x_title}; the tables of results have the numbers."
    return Wording(identity, title, x_title, f"{row.measure}, %")
