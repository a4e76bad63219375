"""Tables in the papers' layout, made from records alone; ``table_formats`` puts them in writing."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from ...records import RunRecord
from ..averages import FEW_SHOT
from ..caveats import provenance_caveats
from ..comparative import Comparative, comparatives
from ..comparisons import winner
from ..layouts import Place, about, layout_of
from ..quantities import share, short
from ..samples import Column, Entry, Section
from ..summary import Row, SeriesKey, adapter_text
from .beside import others_table, published_lines
from .notes import accuracy_notes
from .overview import overview
from .table import Block, Cell, Line, Table, mean_and_deviation


def comparison_tables(records: Sequence[RunRecord]) -> list[Table]:
    """Accuracies, all methods at a glance, figures published by others and costs, for each backbone and protocol.

    Raises:
        InputError: Two records tell of the same run.
    """
    tables = []
    for comparative in comparatives(records):
        tables.append(_accuracies(comparative))
        if (glance := overview(comparative.section)) is not None:
            tables.append(glance)
        if (others := others_table(comparative)) is not None:
            tables.append(others)
        tables.append(_costs(comparative.section))
    caveats = tuple(provenance_caveats(records))
    return [*tables[:-1], dataclasses.replace(tables[-1], notes=tables[-1].notes + caveats)] if tables else []


def _accuracies(comparative: Comparative) -> Table:
    section, layout = comparative.section, layout_of(comparative.section)
    best = {shots: winner(comparative.comparisons, shots) for shots in section.shots}
    blocks = []
    for heading, places in layout.blocks:
        lines = []
        for entries in _by_series(section, places).values():
            label = next(iter(entries.values())).row.label
            cells = tuple(
                _cell(entries.get(shots), column, best[shots] == label and layout.tested[shots] == column)
                for column, shots in places
            )
            lines.append(Line(label, cells))
            lines.extend(published_lines(comparative, entries, places))
        blocks.append(Block(heading, tuple(lines)))
    title = f"Accuracy in percent{about(section)}"
    return Table(title, layout.headings, tuple(filter(_has_lines, blocks)), tuple(accuracy_notes(comparative)))


def _has_lines(block: Block) -> bool:
    return bool(block.lines)


def _by_series(section: Section, places: Sequence[Place]) -> dict[SeriesKey, dict[int, Entry]]:
    """By method: its entries at these places' numbers of shots; of base-to-new those that have the data set at all."""
    shots, names = {shots for _, shots in places}, {column.data for column, _ in places}
    found: dict[SeriesKey, dict[int, Entry]] = {}
    for entry in section.entries:
        is_here = names & {c.data for c in entry.samples} or section.protocol == FEW_SHOT
        if entry.row.shots in shots and is_here:
            found.setdefault(entry.row.series, {})[entry.row.shots] = entry
    return found


def _cell(entry: Entry | None, column: Column, is_best: bool) -> Cell:
    sample = entry.samples.get(column) if entry else None
    if not sample:
        return Cell("-" if entry else "")
    return Cell(mean_and_deviation(list(sample.values())), is_best)


def _costs(section: Section) -> Table:
    """What the same runs cost; means over the data sets where there are several."""
    rows = section.averages.rows
    blocks = [("", rows)] if rows else [(task, _of_task(section.rows, task)) for task in _tasks(section.rows)]
    if len(blocks) == 1:
        blocks = [("", blocks[0][1])]
    headings = ("shots", "trainable", "% of total", "adapter KB", "training s", "memory MB", "judging s")
    lines = [Block(heading, tuple(Line(row.label, _cost_cells(row)) for row in those)) for heading, those in blocks]
    notes = [
        "Memory is what training took on top of what was there before it, at its height; the largest of the seeds."
    ]
    if rows:
        notes.append("Means over the data sets.")
    return Table(f"Costs{about(section)}", headings, tuple(lines), tuple(notes))


def _tasks(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row.task for row in rows))


def _of_task(rows: Sequence[Row], task: str) -> tuple[Row, ...]:
    return tuple(row for row in rows if row.task == task)


def _cost_cells(row: Row) -> tuple[Cell, ...]:
    texts = (
        str(row.shots),
        f"{row.trainable_parameters:,}",
        share(row.trainable_parameters, row.total_parameters),
        adapter_text(row),
        short(row.train_seconds),
        short(row.training_memory_bytes / 1_000_000),
        short(row.evaluation_seconds) if row.evaluation_seconds else "-",
    )
    return tuple(map(Cell, texts))
