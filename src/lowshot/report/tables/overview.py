"""All methods at a glance: their average accuracies by number of shots, and their costs."""

from __future__ import annotations

from ..averages import FEW_SHOT
from ..layouts import about, shots_text
from ..quantities import short
from ..samples import AVERAGE, Column, Entry, Section
from ..summary import SeriesKey, adapter_text
from .table import Block, Line, Table, TableCell, mean_and_deviation

_COSTS = ("trainable", "adapter KB", "training s")


def overview(section: Section) -> Table | None:
    """A line for each method; None where there are not several data sets and several numbers of shots."""
    if section.protocol != FEW_SHOT or len(section.tasks) < 2 or sum(map(bool, section.shots)) < 2:
        return None
    methods: dict[SeriesKey, dict[int, Entry]] = {}
    for entry in section.entries:
        methods.setdefault(entry.row.series, {})[entry.row.shots] = entry
    # Of a method's averages the one with the most shots tells the costs.
    costs = {row.series: row for row in sorted(section.averages.rows, key=lambda row: row.shots)}
    lines = []
    for series, by_shots in methods.items():
        texts = [_average(by_shots.get(shots)) for shots in section.shots]
        row = costs.get(series)
        texts += [f"{row.trainable_parameters:,}", adapter_text(row), short(row.train_seconds)] if row else [""] * 3
        lines.append(Line(next(iter(by_shots.values())).row.label, tuple(map(TableCell, texts))))
    notes = (
        f"Averages over the {len(section.tasks)} data sets, as above. Costs are means over them, at the largest number "
        "of shots that the method has an average of; training s of auto has what it tried.",
    )
    title = f"All methods, average accuracy in percent{about(section)}"
    return Table(title, (*map(shots_text, section.shots), *_COSTS), (Block("", tuple(lines)),), notes)


def _average(entry: Entry | None) -> str:
    if entry is None:
        return ""
    sample = entry.samples.get(Column(AVERAGE))
    return mean_and_deviation(list(sample.values())) if sample else "-"
