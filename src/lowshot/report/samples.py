"""Records as samples: for each method and number of shots, the accuracies in each column of a table, by seed."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ..errors import InputError
from ..records import RunRecord
from .averages import BASE_TO_NEW, FEW_SHOT, Averages, averages_and_gaps, protocol_of, seeds_of_all
from .published import backbone_of
from .summary import Row, SeriesKey, runs_by_row

AVERAGE = "average"
BASE, NEW, HARMONIC_MEAN = "base", "new", "harmonic mean"
MEAN_OF_OTHERS = "mean of the others"


class Column(NamedTuple):
    """What an accuracy is of."""

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
        """What no two entries of a section share."""
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
        source = "" if protocol in (FEW_SHOT, BASE_TO_NEW) else record.task
        for model in [_model(record)] if _model(record) else models:
            parted.setdefault((model, protocol, source), []).append(record)
    return [_section(model, protocol, those) for (model, protocol, _), those in parted.items()]


def _model(record: RunRecord) -> str:
    return str(record.model.get("id") or "")


def _section(model: str, protocol: str, records: Sequence[RunRecord]) -> Section:
    runs = runs_by_row(records)
    averages = averages_and_gaps(records)
    entries: dict[tuple[SeriesKey, int], Entry] = {}
    for row, those in runs.items():
        samples = _samples(those, protocol) if row.accuracy_mean is not None else {}
        entry = entries.setdefault((row.series, row.shots), Entry(row, {}))
        entries[entry.place] = Entry(entry.row, {**entry.samples, **samples})
    for cells in averages.over:
        entry = entries[cells[0].series, cells[0].shots]
        seeds = seeds_of_all([runs[row] for row in cells])
        of_all = _averaged(entry, [whole_of(row.task) for row in cells], seeds, protocol)
        entries[entry.place] = Entry(entry.row, {**entry.samples, **of_all})
    return Section(
        model=model,
        backbone=next((name for name in map(backbone_of, records) if name), None),
        protocol=protocol,
        records=tuple(records),
        entries=tuple(entries.values()),
        tasks=tuple(dict.fromkeys(whole_of(row.task) for row in runs)),
        averages=averages,
        rows=tuple(runs),
    )


def whole_of(task: str) -> str:
    """The data set that a task is a half of; other tasks are whole."""
    return task.removesuffix(" (base)")


def _samples(runs: Sequence[RunRecord], protocol: str) -> dict[Column, dict[int, float]]:
    """What these runs, which differ in their seed only, have in each column."""
    samples: dict[Column, dict[int, float]] = {}
    for run in runs:
        for column, accuracy in _accuracies(run, protocol).items():
            samples.setdefault(column, {})[run.seed] = accuracy
    return {column: values for column, values in samples.items() if len(values) == len(runs)}


def _accuracies(run: RunRecord, protocol: str) -> dict[Column, float]:
    metrics = run.metrics
    others = {name: float(other["acc1"]) for name, other in metrics.get("others", {}).items()}
    if protocol == BASE_TO_NEW:
        data = whole_of(run.task)
        found = {Column(data, BASE): float(metrics["acc1"])}
        found.update({Column(data, NEW): accuracy for accuracy in others.values()})
        if "harmonic_mean" in metrics:
            found[Column(data, HARMONIC_MEAN)] = float(metrics["harmonic_mean"])
        return found
    found = {Column(run.task): float(metrics["acc1"])}
    if protocol != FEW_SHOT:
        found.update({Column(name): accuracy for name, accuracy in others.items()})
        if "mean_of_others" in metrics:
            found[Column(MEAN_OF_OTHERS)] = float(metrics["mean_of_others"])
    return found


def _averaged(
    entry: Entry, tasks: Sequence[str], seeds: Sequence[int], protocol: str
) -> dict[Column, dict[int, float]]:
    """Means over the data sets for each seed; the harmonic mean is that of both means, as in CoCoOp's tables."""
    measures = (BASE, NEW) if protocol == BASE_TO_NEW else ("",)
    means: dict[Column, dict[int, float]] = {}
    for measure in measures:
        columns = [Column(task, measure) for task in tasks]
        if all(column in entry.samples for column in columns):
            means[Column(AVERAGE, measure)] = {
                seed: statistics.fmean(entry.samples[column][seed] for column in columns) for seed in seeds
            }
    base, new = means.get(Column(AVERAGE, BASE)), means.get(Column(AVERAGE, NEW))
    if base and new:
        both = {seed: statistics.harmonic_mean([base[seed], new[seed]]) for seed in seeds}
        means[Column(AVERAGE, HARMONIC_MEAN)] = both
    return means
