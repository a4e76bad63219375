"""Records as samples: for each method and number of shots, the accuracies in each column of a table, by seed."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ..errors import InputError
from ..records import RunRecord
from .averages import BASE_TO_NEW, OF_ALL_CLASSES, Averages, averages, mean_by_seed, protocol_of
from .published import backbone_of
from .summary import Row, SeriesKey, runs_by_row

AVERAGE = "average"
BASE, NEW, HARMONIC_MEAN = "base", "new", "harmonic mean"
MEAN_OF_OTHERS = "mean of the others"


class Column(NamedTuple):
    """Data and classes that an accuracy is of."""

    data: str
    """A data set, ``AVERAGE`` or ``MEAN_OF_OTHERS``."""
    measure: str = ""
    """``BASE``, ``NEW`` or ``HARMONIC_MEAN`` under base-to-new; else empty: all classes."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """One method at one number of shots."""

    row: Row
    """That of its first data set; its label and settings are those of the entry."""
    samples: Mapping[Column, Mapping[int, float]]
    """Accuracies by seed, fractions; without what was not judged."""

    @property
    def place(self) -> tuple[SeriesKey, int]:
        """Method and shots, which no two entries of a section share."""
        return self.row.series, self.row.shots


@dataclasses.dataclass(frozen=True)
class Section:
    """Runs that may stand in one table: one backbone, one protocol, and for transfers one source."""

    model: str
    """The backbone's id; empty where only rivals ran."""
    backbone: str | None
    """Its name in papers, where it is one of theirs."""
    protocol: str
    records: tuple[RunRecord, ...]
    entries: tuple[Entry, ...]
    tasks: tuple[str, ...]
    """Data sets that were learnt; halves of classes by the name of the whole."""
    averages: Averages
    rows: tuple[Row, ...]
    """One for each data set, method and number of shots, as ``summarize`` has them."""

    @property
    def shots(self) -> tuple[int, ...]:
        """Numbers of shots, ascending; 0 is what learnt nothing."""
        return tuple(sorted({entry.row.shots for entry in self.entries}))


def sections(records: Sequence[RunRecord]) -> list[Section]:
    """Records parted so that no table mixes backbones or protocols; rivals, which have no backbone, join each.

    Raises:
        InputError: Two records tell of the same run, or a data set has the name of a mean.
    """
    for name in (AVERAGE, MEAN_OF_OTHERS):
        if any(record.task == name for record in records):
            raise InputError(f"a data set is called {name!r}, which is a column of the report; expected another name")
    parted: dict[tuple[str, str, str], list[RunRecord]] = {}
    models = list(dict.fromkeys(_model(record) for record in records if _model(record))) or [""]
    for record in records:
        protocol = protocol_of(record)
        source = "" if protocol in (*OF_ALL_CLASSES, BASE_TO_NEW) else record.task
        for model in [_model(record)] if _model(record) else models:
            parted.setdefault((model, protocol, source), []).append(record)
    return [_section(model, protocol, part) for (model, protocol, _), part in parted.items()]


def _model(record: RunRecord) -> str:
    return str(record.model.get("id") or "")


def _section(model: str, protocol: str, records: Sequence[RunRecord]) -> Section:
    runs = runs_by_row(records)
    averaged = averages(records)
    rows: dict[tuple[SeriesKey, int], Row] = {}
    samples: dict[tuple[SeriesKey, int], dict[Column, dict[int, float]]] = {}
    for row, of_row in runs.items():
        place = row.series, row.shots
        rows.setdefault(place, row)
        samples.setdefault(place, {})
        if row.accuracy_mean is None:
            continue
        accuracies = {run.seed: _accuracies(run, protocol) for run in of_row}
        first, *others = accuracies.values()
        shared = [column for column in first if all(column in other for other in others)]
        for column in shared:
            samples[place][column] = {seed: float(of_run[column]) for seed, of_run in accuracies.items()}
    for over in averaged.over:
        place = over[0].series, over[0].shots
        samples[place].update(_averages(samples[place], [whole_of(row.task) for row in over], protocol))
    return Section(
        model=model,
        backbone=next((name for name in map(backbone_of, records) if name), None),
        protocol=protocol,
        records=tuple(records),
        entries=tuple(Entry(row, samples[place]) for place, row in rows.items()),
        tasks=tuple(dict.fromkeys(whole_of(row.task) for row in runs)),
        averages=averaged,
        rows=tuple(runs),
    )


def whole_of(task: str) -> str:
    """The data set that a task is a half of; other tasks are whole."""
    return task.removesuffix(" (base)")


def _accuracies(run: RunRecord, protocol: str) -> dict[Column, Any]:
    """Accuracy of one run in each column."""
    metrics, task = run.metrics, whole_of(run.task)
    if protocol in OF_ALL_CLASSES:
        return {Column(run.task): run.score}
    halves = protocol == BASE_TO_NEW
    accuracies = {Column(task, BASE) if halves else Column(run.task): metrics["acc1"]}
    for name, other in metrics.get("others", {}).items():
        accuracies[Column(task, NEW) if halves else Column(name)] = other["acc1"]
    mean, column = (
        ("harmonic_mean", Column(task, HARMONIC_MEAN)) if halves else ("mean_of_others", Column(MEAN_OF_OTHERS))
    )
    return {**accuracies, column: metrics[mean]} if mean in metrics else accuracies


def _averages(
    samples: Mapping[Column, Mapping[int, float]], tasks: Sequence[str], protocol: str
) -> dict[Column, dict[int, float]]:
    """Means over the data sets for each seed; the harmonic mean is that of both means, as in CoCoOp's tables."""
    means: dict[Column, dict[int, float]] = {}
    for measure in (BASE, NEW) if protocol == BASE_TO_NEW else ("",):
        columns = [Column(task, measure) for task in tasks]
        if all(column in samples for column in columns):
            means[Column(AVERAGE, measure)] = mean_by_seed([samples[column] for column in columns])
    base, new = means.get(Column(AVERAGE, BASE)), means.get(Column(AVERAGE, NEW))
    if base and new:
        both = {seed: statistics.harmonic_mean([base[seed], new[seed]]) for seed in base}
        means[Column(AVERAGE, HARMONIC_MEAN)] = both
    return means
