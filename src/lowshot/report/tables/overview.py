"""All methods at a glance: their average accuracies by number of shots, and what they cost."""

from __future__ import annotations

from ..averages import FEW_SHOT
from ..layouts import about, shots_text
from ..quantities import short
from ..samples import AVERAGE, Column, Entry, Section
from ..summary import Row, SeriesKey, adapter_text
from .table import Block, Cell, Line, Table, mean_and_deviation

_COSTS = ("trainable", "adapter KB", "training s")


def overview(section: Section) -> Table | None:
    """A line for each method; None where there are not several data sets and several numbers of shots."""
    if section.protocol != FEW_SHOT or len(section.tasks) < 2 or sum(map(bool, section.shots)) < 2:
        return None
    found: dict[SeriesKey, dict[int, Entry]] = {}
    for entry in section.entries:
        found.setdefault(entry.row.series, {})[entry.row.shots] = entry
    costs = {row.series: row for row in sorted(section.averages.rows, key=lambda row: row.shots)}  # the last one counts
    lines = tuple(
        Line(next(iter(by_shots.values())).row.label, (*_accuracies(section, by_shots), *_costs(costs.get(series))))
        for series, by_shots in found.items()
    )
    notes = (
        f"Averages over the {len(section.tasks)} data sets, as above. Costs are means over them, at the largest number "
        "of shots that the method has an average of; training s of auto has what it tried.",
    )
    headings = (*map(shots_text, section.shots), *_COSTS)
    return Table(f"All methods, average accuracy in percent{about(section)}", headings, (Block("", lines),), notes)


def _accuracies(section: Section, by_shots: dict[int, Entry]) -> list[Cell]:
    found = [by_shots.get(shots) for shots in section.shots]
    return [Cell("" if entry is None else _average(entry)) for entry in found]


def _average(entry: Entry) -> str:
    sample = entry.samples.get(Column(AVERAGE))
    return mean_and_deviation(list(sample.values())) if sample else "-"


def _costs(row: Row | None) -> tuple[Cell, ...]:
    if row is None:
        return (Cell(""),) * len(_COSTS)
    return Cell(f"{row.trainable_parameters:,}"), Cell(adapter_text(row)), Cell(short(row.train_seconds))
