"""The table of differences from one method."""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import UnknownNameError
from ...records import RunRecord
from ...wording.quantities import shots_text
from ..comparisons import INTERVAL, Difference, differences
from ..sections import Section, sections
from .table import Block, Line, Table, TableCell

_HEADINGS = ("difference", f"{INTERVAL:.0%} interval", "pairs", "p, corrected")


def difference_tables(records: Sequence[RunRecord], reference: str) -> list[Table]:
    """``differences_from`` in points, a table each where there are any; arguments and errors are those."""
    tables = []
    for section, of_section in differences_from(records, reference):
        if not of_section:  # the reference stands alone
            continue
        blocks: dict[int, list[Line]] = {}
        for one in of_section:
            low, high = one.interval or (0.0, 0.0)
            texts = (
                f"{100 * one.difference:+.1f}",
                f"{100 * low:+.1f} to {100 * high:+.1f}" if one.interval else "-",
                str(one.pairs),
                f"{one.p_holm:.2g}",
            )
            blocks.setdefault(one.shots, []).append(Line(one.method, tuple(map(TableCell, texts))))
        tested = {shots: section.layout.tested[shots] for shots in blocks}
        headings = {shots: ", ".join(filter(None, column)) for shots, column in tested.items()}
        units = " or ".join(sorted({f"{one.unit}s" for one in of_section}))
        note = (
            f"Mean difference over pairs of {units} with Student's t interval; p of the two-sided Wilcoxon signed-rank "
            f"test, exact, Holm over the {len(of_section)} of this table. Pairs of runs speak of new draws on these "
            "data, of no others."
        )
        parts = [Block(f"{shots_text(shots)}: {headings[shots]}", tuple(lines)) for shots, lines in blocks.items()]
        title = f"Differences from {reference} in points{section.about}"
        tables.append(Table(title, _HEADINGS, tuple(parts), (note,)))
    return tables


def differences_from(records: Sequence[RunRecord], reference: str) -> list[tuple[Section, tuple[Difference, ...]]]:
    """Differences from one method, for each backbone and protocol that it was judged under.

    Args:
        records: The runs.
        reference: The label of a method, as the other tables have it.

    Raises:
        UnknownNameError: No method of these runs is called so and was judged.
        InputError: Two records tell of the same run.
    """
    parts, labels = [], []
    for section in sections(records):
        blocks = section.tested_samples
        judged = [label for methods in blocks.values() for label in methods]
        labels += judged
        if reference in judged:
            parts.append((section, differences(blocks, reference)))
    if not parts:
        raise UnknownNameError("method of these runs", reference, dict.fromkeys(labels))
    return parts
