"""Averages over data sets, as the papers print them: over the data sets for each seed, then over the seeds."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence

from ..records import RunRecord
from ..settings import SETTINGS
from ..wording.quantities import shots_text
from .summary import (
    Row,
    SeriesKey,
    mean_and_deviation,
    mean_costs,
    rounded_mean,
    runs_by_row,
    shared_items,
)
from .variants import decides_answers

FEW_SHOT = "few-shot"
BASE_TO_NEW = "base-to-new"
SEVERAL_LABELS = "several labels"
"""In the place of a protocol: images have several labels, and figures are mean average precisions."""
OF_ALL_CLASSES = (FEW_SHOT, SEVERAL_LABELS)
"""Those under which all classes are learnt and judged, and nothing else."""


@dataclasses.dataclass(frozen=True)
class Averages:
    """Rows over all data sets, and reasons where there is no such row."""

    rows: tuple[Row, ...]
    over: tuple[tuple[Row, ...], ...]
    """For each of ``rows`` the rows of ``summarize`` that it is the average of."""
    left_out: tuple[str, ...]
    """A sentence for each series, or number of shots of it, that is no average, and why."""


def averages(records: Sequence[RunRecord]) -> Averages:
    """A row for each series and number of shots that every data set has, its task ``average of N data sets``.

    The mean is over the data sets, each counting alike, for each seed that all of them have; mean and deviation are
    those of these means over the seeds. Costs are means over the data sets. A method that learns nothing, with a run
    for each data set, is a row of its own at 0 shots, without a deviation. Runs under another protocol are other
    figures: they are averaged among themselves. One data set is no average.

    Raises:
        InputError: Two records tell of the same run.
    """
    runs = runs_by_row(records)
    over: dict[Row, tuple[Row, ...]] = {}
    left_out: list[str] = []
    for protocol in dict.fromkeys(map(protocol_of, records)):
        of_protocol = [row for row in runs if any(protocol_of(run) == protocol for run in runs[row])]
        tasks = list(dict.fromkeys(row.task for row in of_protocol))
        if len(tasks) < 2:
            continue
        groups: dict[tuple[SeriesKey, int], list[Row]] = {}
        for row in of_protocol:
            groups.setdefault((row.series, row.shots), []).append(row)
        order = list(dict.fromkeys(series for series, _ in groups))
        title = f"average of {len(tasks)} data sets" + ("" if protocol == FEW_SHOT else f" ({protocol})")
        for series, shots in sorted(groups, key=lambda group: (order.index(group[0]), group[1])):
            rows = groups[series, shots]
            if reason := _no_average(rows, tasks, runs):
                name = f"{rows[0].label}, {shots_text(shots)}" if shots else rows[0].label
                left_out.append(f"{name}: {reason}")
            else:
                over[_average(rows, runs, title)] = tuple(rows)
    return Averages(tuple(over), tuple(over.values()), tuple(left_out))


def protocol_of(record: RunRecord) -> str:
    """Classes that were learnt and judged, as in the setting ``protocol``; rivals know few-shot alone.

    Where images have several labels it is ``SEVERAL_LABELS``, so that no table mixes their figures with accuracies.
    """
    if record.has_several:
        return SEVERAL_LABELS
    return str(record.recipe.get("data", {}).get("protocol", FEW_SHOT))


def mean_by_seed(samples: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """Mean over the data sets for each seed that all of them have, ascending.

    Args:
        samples: Accuracies by seed, for each data set.
    """
    seeds = sorted(set.intersection(*map(set, samples)))
    return {seed: statistics.fmean(sample[seed] for sample in samples) for seed in seeds}


def _no_average(rows: Sequence[Row], tasks: Sequence[str], runs: Mapping[Row, Sequence[RunRecord]]) -> str:
    """Reason why these rows, of one series and number of shots, make no average; empty if they do."""
    absent = [task for task in tasks if task not in {row.task for row in rows}]
    if absent:
        return f"no run on {', '.join(absent)}"
    unknown = [row.task for row in rows if row.accuracy_mean is None]
    if unknown:
        return f"not judged on {', '.join(unknown)}"
    of_rows = [dict(row.settings) for row in rows]
    of_data = {name for name, setting in SETTINGS.items() if setting.of_data}
    for name in dict.fromkeys(name for values in of_rows for name in values if decides_answers(name)):
        if name not in of_data and len({values.get(name) for values in of_rows}) > 1:
            return f"{name.replace('_', '-')} is not the same on all data sets"
    if not set.intersection(*({run.seed for run in runs[row]} for row in rows)):
        return "no seed that all data sets have"
    return ""


def _average(rows: Sequence[Row], runs: Mapping[Row, Sequence[RunRecord]], title: str) -> Row:
    """One row over the data sets."""
    means = mean_by_seed([{run.seed: run.score for run in runs[row]} for row in rows])
    mean, deviation = mean_and_deviation(list(means.values()))
    return dataclasses.replace(
        rows[0],
        task=title,
        seeds=len(means),
        accuracy_mean=mean,
        accuracy_std=deviation,
        train_seconds=statistics.fmean(row.train_seconds for row in rows),
        training_memory_bytes=rounded_mean(row.training_memory_bytes for row in rows),
        settings=shared_items([row.settings for row in rows]),
        **mean_costs(rows),
    )
