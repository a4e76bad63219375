"""Rows to the two charts of each task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..records import RunRecord
from .charts import Baseline, Point, Series, Wording, line_chart, scatter_chart
from .markup import Markup, element
from .provenance import commit_text
from .quantities import duration, images_per_class, size
from .summary import Row, SeriesKey, accuracy_text

Runs = Mapping[Row, Sequence[RunRecord]]
"""Every row with the records behind it, in the order of ``summarize``."""


def series_numbers(rows: Sequence[Row]) -> dict[SeriesKey, int]:
    """A number for each of lowshot's trained methods and each rival: the same method looks the same in every chart."""
    return {key: i for i, key in enumerate(dict.fromkeys(row.series for row in rows if not row.is_zero_shot))}


def task_figures(runs: Runs, numbers: Mapping[SeriesKey, int], identity: str) -> Markup:
    """The charts of one task side by side; a sentence in their place where there is nothing to compare.

    Args:
        runs: Rows of one task.
        numbers: ``series_numbers`` of the whole page.
        identity: Prefix of ids, unique on the page.
    """
    measured = {row: records for row, records in runs.items() if row.accuracy_mean is not None}
    learnt = {row: records for row, records in measured.items() if row.shots > 0 and not row.is_zero_shot}
    if not learnt:
        return element("p", "No method was trained and evaluated, so there is no curve to draw.", class_="note")
    baselines = [
        Baseline(row.label, row.accuracy_mean or 0.0, _tip(row, records))
        for row, records in measured.items()
        if row.is_zero_shot
    ]
    charts = [_by_shots(learnt, baselines, numbers, identity), _by_parameters(learnt, baselines, numbers, identity)]
    return element("div", *filter(None, charts), class_="charts")


def _by_shots(learnt: Runs, baselines: Sequence[Baseline], numbers: Mapping[SeriesKey, int], identity: str) -> Markup:
    chart = line_chart(
        [
            _series({row: learnt[row] for row in learnt if row.series == key}, numbers[key], "shots")
            for key in dict.fromkeys(row.series for row in learnt)
        ],
        baselines,
        _wording(next(iter(learnt)).task, "images per class", f"{identity}-shots"),
    )
    bars = any(row.seeds > 1 for row in learnt)
    caption = "Mean over seeds; bars span ± one standard deviation." if bars else "One run each: no deviation is known."
    return _figure("More images", chart, caption)


def _by_parameters(
    learnt: Runs, baselines: Sequence[Baseline], numbers: Mapping[SeriesKey, int], identity: str
) -> Markup:
    shots = max(row.shots for row in learnt)
    drawn = {row: records for row, records in learnt.items() if row.shots == shots and row.trainable_parameters > 0}
    if not drawn:
        return Markup()
    chart = scatter_chart(
        [_series({row: records}, numbers[row.series], "trainable_parameters") for row, records in drawn.items()],
        baselines,
        _wording(next(iter(drawn)).task, "trainable parameters", f"{identity}-parameters"),
    )
    present = {row.series for row in drawn}
    left_out = list(dict.fromkeys(row.label for row in learnt if row.series not in present))
    missing = f" Not drawn, for want of parameters or of such a run: {', '.join(left_out)}." if left_out else ""
    return _figure("Fewer parameters", chart, f"With {images_per_class(shots)}.{missing}")


def _wording(task: str, x_title: str, identity: str) -> Wording:
    return Wording(identity, f"Accuracy on {task} against {x_title}; the table of results has the numbers.", x_title)


def _figure(heading: str, chart: Markup, caption: str) -> Markup:
    return element("figure", element("h3", heading), chart, element("figcaption", caption))


def _series(runs: Runs, number: int, x: str) -> Series:
    points = [Point(getattr(row, x), row.accuracy_mean or 0.0, row.accuracy_std, _tip(row, runs[row])) for row in runs]
    row = next(iter(runs))
    return Series(row.label, number, row.is_rival, tuple(points))


def _tip(row: Row, records: Sequence[RunRecord]) -> str:
    """The numbers of a point and where they come from, in a few lines."""
    seeds = ", ".join(str(record.seed) for record in records)
    shots = f", {images_per_class(row.shots)}" if row.shots else ""
    accuracy = accuracy_text(row) if row.seeds > 1 else f"{100 * (row.accuracy_mean or 0.0):.1f}"
    lines = [f"{row.label}{shots}", f"accuracy {accuracy} %", f"seed{'s' if row.seeds > 1 else ''} {seeds}"]
    if row.trainable_parameters:
        lines.append(f"{row.trainable_parameters:,} trainable parameters, {size(row.adapter_bytes)}")
        lines.append(f"{duration(row.train_seconds)}, at most {size(row.training_memory_bytes)} of memory for it")
    lines.extend(dict.fromkeys(filter(None, (commit_text(record.provenance) for record in records))))
    return "\n".join(lines)
