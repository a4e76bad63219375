"""Runs that may stand in one table: their accuracies by column and seed, their layout, and their tests."""

from __future__ import annotations

import dataclasses
import functools
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ..errors import InputError
from ..records import RunRecord
from ..wording.quantities import shots_text
from .averages import (
    BASE_TO_NEW,
    FEW_SHOT,
    OF_ALL_CLASSES,
    SEVERAL_LABELS,
    Averages,
    averages,
    mean_by_seed,
    protocol_of,
)
from .comparisons import Comparison, Sample, compare
from .published import PublishedFigure, backbone_of, published_beside, whole_of
from .summary import ACCURACY, MEAN_AVERAGE_PRECISION, Row, SeriesKey, runs_by_row

AVERAGE = "average"
BASE, NEW, HARMONIC_MEAN = "base", "new", "harmonic mean"
MEAN_OF_OTHERS = "mean of the others"


class Column(NamedTuple):
    """Data and classes that an accuracy is of."""

    data: str
    """A data set, ``AVERAGE`` or ``MEAN_OF_OTHERS``."""
    measure: str = ""
    """``BASE``, ``NEW`` or ``HARMONIC_MEAN`` under base-to-new; else empty: all classes."""


Place = tuple[Column, int]
"""A column, and the number of shots that its accuracies are of."""


class Layout(NamedTuple):
    """Headings and places of the table of accuracies of a section."""

    headings: tuple[str, ...]
    blocks: tuple[tuple[str, tuple[Place, ...]], ...]
    """Heading and places of each block, a place for each of the columns."""
    tested: Mapping[int, Column]
    """By number of shots, the column whose best is looked for."""


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

    @property
    def about(self) -> str:
        """Its backbone, protocol and data, as the end of a title."""
        model = "the built-in model" if self.model == "builtin" else self.model
        parts = [f"{self.backbone} ({model})" if self.backbone else model]
        if self.protocol != FEW_SHOT:
            parts.append(self.protocol)
        if self.protocol not in (*OF_ALL_CLASSES, BASE_TO_NEW):
            parts.append(f"learnt on {self.tasks[0]}")
        if self.protocol in OF_ALL_CLASSES and len(self.tasks) == 1:
            parts.append(self.tasks[0])
        return "".join(f", {part}" for part in parts if part)

    @property
    def measure(self) -> str:
        """The measure that its figures are of, in words."""
        return MEAN_AVERAGE_PRECISION if self.protocol == SEVERAL_LABELS else ACCURACY

    @functools.cached_property
    def layout(self) -> Layout:
        """The papers' layout of its accuracies.

        Data sets stand side by side, with their average where there are several, in a block for each number of shots.
        A single data set has the numbers of shots side by side. Halves of classes have a block for each data set,
        transfers their targets side by side.
        """
        several = len(self.tasks) > 1
        if self.protocol == BASE_TO_NEW:
            names, measures = (AVERAGE, *self.tasks) if several else self.tasks, (BASE, NEW, HARMONIC_MEAN)
            blocks = tuple(
                (f"{name}, {shots_text(shots)}", tuple((Column(name, measure), shots) for measure in measures))
                for name in names
                for shots in self.shots
            )
            return Layout(measures, blocks, dict.fromkeys(self.shots, Column(names[0], HARMONIC_MEAN)))
        if self.protocol not in OF_ALL_CLASSES:
            targets = dict.fromkeys(c.data for entry in self.entries for c in entry.samples if c.data != MEAN_OF_OTHERS)
            columns = [*map(Column, targets), Column(MEAN_OF_OTHERS)]
        elif several:
            columns = [*map(Column, self.tasks), Column(AVERAGE)]
        else:
            column = Column(self.tasks[0])
            places = tuple((column, shots) for shots in self.shots)
            return Layout(tuple(map(shots_text, self.shots)), (("", places),), dict.fromkeys(self.shots, column))
        blocks = tuple((shots_text(shots), tuple((column, shots) for column in columns)) for shots in self.shots)
        return Layout(tuple(column.data for column in columns), blocks, dict.fromkeys(self.shots, columns[-1]))

    @property
    def tested_samples(self) -> dict[int, dict[str, Sample]]:
        """By shots and label: the accuracies behind the tested column, of methods that have all of them.

        A mean is tested by the columns that it is a mean of, any other column by itself.
        """
        blocks: dict[int, dict[str, Sample]] = {}
        for entry in self.entries:
            tested = self.layout.tested[entry.row.shots]
            if tested not in entry.samples:
                continue
            columns = [tested]
            if tested.data == AVERAGE:
                columns = [Column(task, tested.measure) for task in self.tasks]
            elif tested.data == MEAN_OF_OTHERS:
                columns = [c for c in entry.samples if c.data not in (MEAN_OF_OTHERS, *self.tasks)]
            sample = {(c.data, seed): value for c in columns for seed, value in entry.samples[c].items()}
            blocks.setdefault(entry.row.shots, {})[entry.row.label] = sample
        return dict(sorted(blocks.items()))

    @functools.cached_property
    def comparisons(self) -> tuple[Comparison, ...]:
        """The best method of each number of shots against each of the others."""
        return compare(self.tested_samples)

    @functools.cached_property
    def published(self) -> tuple[PublishedFigure, ...]:
        """The figures that others have published on the same."""
        return published_beside(self.records) if self.protocol == FEW_SHOT else ()


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
