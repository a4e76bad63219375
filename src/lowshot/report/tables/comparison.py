"""Tables in the papers' layout, made from records alone; ``formats`` puts them in writing."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from ...records import RunRecord
from ...wording.quantities import short, shots_text
from ..averages import OF_ALL_CLASSES
from ..caveats import provenance_caveats
from ..comparisons import winner
from ..sections import AVERAGE, Column, Entry, Section, sections
from ..summary import COSTS, SeriesKey, adapter_text, mean_and_deviation, spread_text
from .beside import others_table, published_lines
from .notes import accuracy_notes
from .table import Block, Line, Table, TableCell


def comparison_tables(records: Sequence[RunRecord]) -> list[Table]:
    """Accuracies, all methods at a glance, figures published by others and costs, for each backbone and protocol.

    Raises:
        InputError: Two records tell of the same run.
    """
    kinds = (_accuracies, _overview, others_table, _costs)
    tables = [table for section in sections(records) for kind in kinds if (table := kind(section)) is not None]
    caveats = tuple(provenance_caveats(records))
    return [*tables[:-1], dataclasses.replace(tables[-1], notes=tables[-1].notes + caveats)] if tables else []


def _accuracies(section: Section) -> Table:
    """Means of our methods, each above what was published on the same."""
    layout = section.layout
    best = {shots: winner(section.comparisons, shots) for shots in section.shots}
    blocks = []
    for heading, places in layout.blocks:
        numbers, names = {shots for _, shots in places}, {column.data for column, _ in places}
        # A block of base-to-new has the methods that have its data set at all.
        here = [
            entry
            for entry in section.entries
            if section.protocol in OF_ALL_CLASSES or names & {column.data for column in entry.samples}
        ]
        lines = []
        for entries in _by_method(entry for entry in here if entry.row.shots in numbers).values():
            label = next(iter(entries.values())).row.label
            cells = []
            for column, shots in places:
                is_best = best[shots] == label and layout.tested[shots] == column and shots in entries
                cells.append(TableCell(_mean(entries.get(shots), column), is_best))
            lines += [Line(label, tuple(cells)), *published_lines(section, entries, places)]
        if lines:
            blocks.append(Block(heading, tuple(lines)))
    title = f"{section.measure.capitalize()} in percent{section.about}"
    return Table(title, layout.headings, tuple(blocks), tuple(accuracy_notes(section)))


def _overview(section: Section) -> Table | None:
    """Average accuracies and costs, a line for each method.

    None where there are not several data sets and several numbers of shots.
    """
    if section.protocol not in OF_ALL_CLASSES or len(section.tasks) < 2 or sum(map(bool, section.shots)) < 2:
        return None
    # Of a method's averages the one with the most shots tells the costs.
    costs = {row.series: row for row in sorted(section.averages.rows, key=lambda row: row.shots)}
    lines = []
    for series, entries in _by_method(section.entries).items():
        texts = [_mean(entries.get(shots), Column(AVERAGE)) for shots in section.shots]
        row = costs.get(series)
        texts += [f"{row.trainable_parameters:,}", adapter_text(row), short(row.train_seconds)] if row else [""] * 3
        lines.append(Line(next(iter(entries.values())).row.label, tuple(map(TableCell, texts))))
    note = (
        f"Averages over the {len(section.tasks)} data sets, as above. Costs are means over them, at the largest number "
        "of shots that the method has an average of; training s of auto has what it tried."
    )
    title = f"All methods, average {section.measure} in percent{section.about}"
    headings = (*map(shots_text, section.shots), "trainable", "adapter KB", "training s")
    return Table(title, headings, (Block("", tuple(lines)),), (note,))


def _by_method(entries: Iterable[Entry]) -> dict[SeriesKey, dict[int, Entry]]:
    """The entries of each method by their numbers of shots."""
    methods: dict[SeriesKey, dict[int, Entry]] = {}
    for entry in entries:
        methods.setdefault(entry.row.series, {})[entry.row.shots] = entry
    return methods


def _mean(entry: Entry | None, column: Column) -> str:
    """``83.1 ± 0.3`` in percent; of a single run the accuracy alone. ``-`` is not judged, nothing not run."""
    if entry is None:
        return ""
    accuracies = list(entry.samples.get(column, {}).values())
    if not accuracies:
        return "-"
    return spread_text(*mean_and_deviation(accuracies), len(accuracies))


def _costs(section: Section) -> Table:
    """Costs of the same runs; means over the data sets where there are several."""
    notes = [
        "Memory is what training took on top of what was there before it, at its height; the largest of the seeds."
    ]
    if section.averages.rows:
        notes.append("Means over the data sets.")
    tasks: dict[str, list[Line]] = {}
    for row in section.averages.rows or section.rows:
        judging = short(row.evaluation_seconds) if row.evaluation_seconds else "-"
        texts = (*(column.text(row) for column in COSTS), judging)
        tasks.setdefault(row.task, []).append(Line(row.label, tuple(map(TableCell, texts))))
    blocks = tuple(Block(task if len(tasks) > 1 else "", tuple(lines)) for task, lines in tasks.items())
    headings = ("shots", "trainable", "% of total", "adapter KB", "training s", "memory MB", "judging s")
    return Table(f"Costs{section.about}", headings, blocks, tuple(notes))
