"""Records to rows: one row per task, method, precision and number of shots, with mean and deviation over seeds."""

from __future__ import annotations

import dataclasses
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple

from ..errors import InputError
from ..methods import METHODS, PIXEL_REGRESSION, display_name
from ..records import RunRecord
from ..wording.quantities import aligned, share, short
from .variants import differing_settings, given_settings, settings_and_model, variant_text

ACCURACY, MEAN_AVERAGE_PRECISION = "accuracy", "mean average precision"
"""Measures that the figures of a row are of: that of images of one label, and of several."""
_SHORT = {ACCURACY: ACCURACY, MEAN_AVERAGE_PRECISION: "mAP"}
_RIVAL_LABELS = {PIXEL_REGRESSION: "pixels + logistic regression"}


SeriesKey = tuple[str, str, str]
"""Method, precision and variant."""


class RowKey(NamedTuple):
    """Facts that the runs of one row share, which no other row has."""

    task: str
    method: str
    quantize: str
    variant: str
    """Settings in which runs of one method differ, such as ``rank 4``; empty where they do not."""
    shots: int


@dataclasses.dataclass(frozen=True)
class Row:
    """Runs that differ in their seed only. Accuracies are fractions in [0, 1], and so is what stands in their place."""

    task: str
    method: str
    quantize: str
    shots: int
    seeds: int
    """Number of runs."""
    accuracy_mean: float | None
    """None unless every run was evaluated."""
    accuracy_std: float
    """Sample standard deviation over the seeds; 0 for a single one."""
    trainable_parameters: int
    total_parameters: int
    adapter_bytes: int
    train_seconds: float
    """Mean over the seeds; of ``auto`` with what it tried."""
    training_memory_bytes: int
    """On top of what was in use before training; maximum over the seeds."""
    variant: str = ""
    """Settings in which this method's runs differ, such as ``rank 4``; empty where they do not."""
    settings: tuple[tuple[str, str], ...] = ()
    """Settings that all of its runs share: names and values as text; empty for a rival."""
    evaluation_seconds: float = 0.0
    """Time of judging, decoding the images included; mean over the seeds. 0 where it is not known."""
    measure: str = ACCURACY
    """What its figures are: ``ACCURACY``, or ``MEAN_AVERAGE_PRECISION`` where images have several labels."""

    @property
    def name(self) -> str:
        """Method and precision in one word, such as ``qlora``."""
        return display_name(self.method, self.quantize)

    @property
    def label(self) -> str:
        """Name of this row's method in tables and charts: full words for rivals, and the variant."""
        name = _RIVAL_LABELS.get(self.method, self.name)
        return f"{name}, {self.variant}" if self.variant else name

    @property
    def series(self) -> SeriesKey:
        """Key of one line of a chart: rows that differ in their task and shots only."""
        return self.method, self.quantize, self.variant

    @property
    def is_zero_shot(self) -> bool:
        """Whether nothing was learnt from images."""
        return self.method == "zero-shot"

    @property
    def is_rival(self) -> bool:
        """Whether the method is none of lowshot's."""
        return self.method not in METHODS

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**dataclasses.asdict(self), "settings": dict(self.settings)}


def summarize(records: Sequence[RunRecord]) -> list[Row]:
    """One row per task, method, precision and shots: tasks and methods in order of appearance, shots ascending.

    Runs of one method with different settings (a grid over ranks, say) are never averaged: each gets its row and
    carries the difference in ``variant``.

    Raises:
        InputError: Two records tell of the same seed of the same row.
    """
    return list(runs_by_row(records))


def runs_by_row(records: Sequence[RunRecord]) -> dict[Row, list[RunRecord]]:
    """The rows of ``summarize``, each with the records behind it.

    Raises:
        InputError: Two records tell of the same seed of the same row.
    """
    differing = differing_settings(records)
    runs: dict[RowKey, list[RunRecord]] = {}
    for record in records:
        method, settings = (record.method, record.quantize), settings_and_model(record)
        named = {n: settings[n] for n, usual in differing[method].items() if settings.get(n) not in (None, usual)}
        runs.setdefault(RowKey(record.task, *method, variant_text(named), record.shots), []).append(record)
    for key, of_row in runs.items():
        seed, times = Counter(run.seed for run in of_row).most_common(1)[0]
        if times > 1:
            name = display_name(key.method, key.quantize)
            place = f"{name} on {key.task} with {key.shots} shots and seed {seed}"
            raise InputError(f"{times} records tell of {place}: report on one grid of runs at a time")
    tasks, series = list(dict.fromkeys(key.task for key in runs)), list(dict.fromkeys(key[1:4] for key in runs))
    in_order = sorted(runs, key=lambda key: (tasks.index(key.task), series.index(key[1:4]), key.shots))
    return {_row(key, runs[key]): runs[key] for key in in_order}


def _row(key: RowKey, runs: Sequence[RunRecord]) -> Row:
    """Means and deviations over the runs; a mean over the evaluated part of them would not be theirs."""
    accuracies = [run.score for run in runs if run.metrics]
    mean, deviation = mean_and_deviation(accuracies) if len(accuracies) == len(runs) else (None, 0.0)
    return Row(
        **key._asdict(),
        seeds=len(runs),
        accuracy_mean=mean,
        accuracy_std=deviation,
        train_seconds=statistics.fmean(run.learning_seconds for run in runs),
        training_memory_bytes=max(run.training_memory_bytes for run in runs),
        settings=shared_items([tuple(given_settings(run).items()) for run in runs]),
        **mean_costs(runs),
        measure=MEAN_AVERAGE_PRECISION if runs[0].has_several else ACCURACY,
    )


def measures_of(rows: Iterable[Row]) -> list[str]:
    """The measures that figures of these rows are of, accuracy first."""
    there = {row.measure for row in rows} or {ACCURACY}
    return [measure for measure in _SHORT if measure in there]


def measure_heading(rows: Iterable[Row]) -> str:
    """``accuracy %``: the heading of the figures of these rows; ``accuracy or mAP %`` where they are of both kinds."""
    return f"{' or '.join(_SHORT[measure] for measure in measures_of(rows))} %"


def mean_costs(costly: Sequence[Row] | Sequence[RunRecord]) -> dict[str, Any]:
    """The costs of a row that are means, over its runs or over other rows alike, by name."""
    return {
        "trainable_parameters": rounded_mean(each.trainable_parameters for each in costly),
        "total_parameters": rounded_mean(each.total_parameters for each in costly),
        "adapter_bytes": rounded_mean(each.adapter_bytes for each in costly),
        "evaluation_seconds": statistics.fmean(each.evaluation_seconds for each in costly),
    }


def shared_items(settings: Sequence[tuple[tuple[str, str], ...]]) -> tuple[tuple[str, str], ...]:
    """The names with the values that all of these settings have, in the order of the first."""
    shared = set(settings[0]).intersection(*settings)
    return tuple(item for item in settings[0] if item in shared)


def rounded_mean(counts: Iterable[int]) -> int:
    """Mean of counts or sizes. Those of one method's seeds are equal, but for ``auto``, which may choose otherwise."""
    return round(statistics.fmean(counts))


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation, which is 0 for a single value."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def accuracy_text(row: Row) -> str:
    """``97.1 ± 0.4`` in percent, of a single run the accuracy alone; ``-`` stands for what was not measured."""
    return "-" if row.accuracy_mean is None else spread_text(row.accuracy_mean, row.accuracy_std, row.seeds)


def spread_text(mean: float, deviation: float, runs: int) -> str:
    """A mean in percent with the deviation over runs; of a single run, which has none, the figure alone."""
    return f"{100 * mean:.1f} ± {100 * deviation:.1f}" if runs > 1 else f"{100 * mean:.1f}"


def _in_line(row: Row) -> str:
    """As ``accuracy_text``, so wide that the points of all rows stand below each other."""
    return accuracy_text(row) + (" " * len(" ± 0.0") if row.accuracy_mean is not None and row.seeds == 1 else "")


def adapter_text(row: Row) -> str:
    """Size of the saved tensors in KB; ``-`` where none are saved."""
    return short(row.adapter_bytes / 1000) if row.adapter_bytes else "-"


class TableColumn(NamedTuple):
    """One column of the results table."""

    heading: str
    text: Callable[[Row], str]
    """Text of a row in it."""
    value: Callable[[Row], str | float | None]
    """Value that rows are sorted by; None comes last."""
    is_number: bool = True


_TASK = TableColumn("task", lambda row: row.task, lambda row: row.task, is_number=False)
_METHOD = TableColumn("method", lambda row: row.label, lambda row: row.label, is_number=False)
_FIGURES = TableColumn("accuracy %", _in_line, lambda row: row.accuracy_mean)
_SIZES = (
    TableColumn("shots", lambda row: str(row.shots), lambda row: row.shots),
    TableColumn("trainable", lambda row: f"{row.trainable_parameters:,}", lambda row: row.trainable_parameters),
    TableColumn(
        "% of total",
        lambda row: share(row.trainable_parameters, row.total_parameters),
        lambda row: row.trainable_parameters / max(row.total_parameters, 1),
    ),
    TableColumn("adapter KB", adapter_text, lambda row: row.adapter_bytes),
)
_TRAINING = (
    TableColumn("seconds", lambda row: short(row.train_seconds), lambda row: row.train_seconds),
    TableColumn(
        "memory MB", lambda row: short(row.training_memory_bytes / 1_000_000), lambda row: row.training_memory_bytes
    ),
)
COSTS = (*_SIZES, *_TRAINING)
"""The columns of shots and of what learning from them costs."""


def table_columns(rows: Sequence[Row]) -> list[TableColumn]:
    """The columns of the results table; one for the task only where there is more than one."""
    columns = [_METHOD, *_SIZES, _FIGURES._replace(heading=measure_heading(rows)), *_TRAINING]
    return [_TASK, *columns] if len({row.task for row in rows}) > 1 else columns


def format_table(rows: Sequence[Row], style: Literal["text", "markdown"] = "text") -> str:
    """The rows as an aligned table for a terminal, or as a Markdown table. A KB has 1000 bytes, an MB a million."""
    columns = table_columns(rows)
    header, body = [column.heading for column in columns], [[column.text(row) for column in columns] for row in rows]
    if style == "text":
        return aligned([header, *body], [column.is_number for column in columns])
    rule = ["--:" if column.is_number else ":--" for column in columns]
    escaped = [[text.replace("|", "\\|").replace("\n", " ") for text in line] for line in body]
    return "".join(f"| {' | '.join(line)} |\n" for line in (header, rule, *escaped))
