"""Averages over data sets, as the papers print them: over the data sets for each seed, then over the seeds."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence

from ..records import RunRecord
from ..settings import SETTINGS
from .summary import Row, SeriesKey, rounded_mean, runs_by_row

FEW_SHOT = "few-shot"
BASE_TO_NEW = "base-to-new"


@dataclasses.dataclass(frozen=True)
class Averages:
    """Rows over all data sets, and what there is no such row of."""

    rows: tuple[Row, ...]
    over: tuple[tuple[Row, ...], ...]
    """For each of them the rows of ``summarize`` that it is the average of."""
    left_out: tuple[str, ...]
    """A sentence for each series, or number of shots of it, that is no average, and why."""


def averages(records: Sequence[RunRecord]) -> list[Row]:
    """The rows of ``averages_and_gaps``.

    Raises:
        InputError: Two records tell of the same run.
    """
    return list(averages_and_gaps(records).rows)


def averages_and_gaps(records: Sequence[RunRecord]) -> Averages:
    """A row for each series and number of shots that every data set has, its task ``average of N data sets``.

    The mean is over the data sets, each counting alike, for each seed that all of them have; mean and deviation are
    those of these means over the seeds. Costs are means over the data sets. A method that learns nothing, with a run
    for each data set, is a row of its own at 0 shots, without a deviation. Runs under another protocol are other
    figures: they are averaged among themselves. One data set is no average.

    Raises:
        InputError: Two records tell of the same run.
    """
    runs = runs_by_row(records)
    found: dict[Row, tuple[Row, ...]] = {}
    left_out: list[str] = []
    for protocol in dict.fromkeys(map(protocol_of, records)):
        under = {row: those for row, those in runs.items() if any(protocol_of(run) == protocol for run in those)}
        tasks = list(dict.fromkeys(row.task for row in under))
        if len(tasks) < 2:
            continue
        for cells in _by_series_and_shots(under).values():
            missing = _missing(cells, tasks, under)
            if missing:
                left_out.append(f"{_named(cells[0])}: {missing}")
            else:
                found[_average(cells, under, _title(len(tasks), protocol))] = tuple(cells)
    return Averages(tuple(found), tuple(found.values()), tuple(left_out))


def protocol_of(record: RunRecord) -> str:
    """What was learnt and judged, as in the setting ``protocol``; rivals know few-shot alone."""
    return str(record.recipe.get("data", {}).get("protocol", FEW_SHOT))


def seeds_of_all(runs: Sequence[Sequence[RunRecord]]) -> list[int]:
    """The seeds that each of these lists of runs has, ascending."""
    return sorted(set.intersection(*({run.seed for run in those} for those in runs)))


def _title(tasks: int, protocol: str) -> str:
    return f"average of {tasks} data sets" + ("" if protocol == FEW_SHOT else f" ({protocol})")


def _by_series_and_shots(runs: Mapping[Row, Sequence[RunRecord]]) -> dict[tuple[SeriesKey, int], list[Row]]:
    cells: dict[tuple[SeriesKey, int], list[Row]] = {}
    for row in runs:
        cells.setdefault((row.series, row.shots), []).append(row)
    order = list(dict.fromkeys(series for series, _ in cells))
    return {key: cells[key] for key in sorted(cells, key=lambda key: (order.index(key[0]), key[1]))}


def _named(row: Row) -> str:
    return f"{row.label}, {row.shots} shot{'' if row.shots == 1 else 's'}" if row.shots else row.label


def _missing(cells: Sequence[Row], tasks: Sequence[str], runs: Mapping[Row, Sequence[RunRecord]]) -> str:
    """Why these rows, of one series and number of shots, make no average; empty if they do."""
    absent = [task for task in tasks if task not in {row.task for row in cells}]
    if absent:
        return f"no run on {', '.join(absent)}"
    unknown = [row.task for row in cells if row.accuracy_mean is None]
    if unknown:
        return f"not judged on {', '.join(unknown)}"
    if differing := _differing(cells):
        return f"{differing.replace('_', '-')} is not the same on all data sets"
    if not seeds_of_all([runs[row] for row in cells]):
        return "no seed that all data sets have"
    return ""


def _differing(cells: Sequence[Row]) -> str:
    """A setting that these rows do not share, although it is none of the data's and decides answers; empty if none."""
    settings = [dict(row.settings) for row in cells]
    rows = [SETTINGS[name] for name in dict.fromkeys(name for values in settings for name in values)]
    names = [row.name for row in rows if row.decides.is_answer and not row.of_data]
    return next((name for name in names if len({values.get(name) for values in settings}) > 1), "")


def _average(cells: Sequence[Row], runs: Mapping[Row, Sequence[RunRecord]], title: str) -> Row:
    """One row over the data sets."""
    seeds = seeds_of_all([runs[row] for row in cells])
    accuracy = {(row.task, run.seed): float(run.metrics["acc1"]) for row in cells for run in runs[row]}
    means = [statistics.fmean(accuracy[row.task, seed] for row in cells) for seed in seeds]
    first = cells[0]
    shared = set(first.settings).intersection(*(row.settings for row in cells))
    return Row(
        task=title,
        method=first.method,
        quantize=first.quantize,
        variant=first.variant,
        shots=first.shots,
        seeds=len(seeds),
        accuracy_mean=statistics.fmean(means),
        accuracy_std=statistics.stdev(means) if len(means) > 1 else 0.0,
        trainable_parameters=rounded_mean(row.trainable_parameters for row in cells),
        total_parameters=rounded_mean(row.total_parameters for row in cells),
        adapter_bytes=rounded_mean(row.adapter_bytes for row in cells),
        train_seconds=statistics.fmean(row.train_seconds for row in cells),
        training_memory_bytes=rounded_mean(row.training_memory_bytes for row in cells),
        settings=tuple(item for item in first.settings if item in shared),
        evaluation_seconds=statistics.fmean(row.evaluation_seconds for row in cells),
    )
