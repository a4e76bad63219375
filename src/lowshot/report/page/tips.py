"""Text beside a pointer over a point: its figures, its seeds and dates, and the origin of its runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ...records import RunRecord
from ...wording.provenance import commit_text, dates_text, hardware_text
from ...wording.quantities import duration, images_per_class, size
from ..summary import MEAN_AVERAGE_PRECISION, Row, accuracy_text, measures_of

RowRuns = Mapping[Row, Sequence[RunRecord]]
"""Rows with the records behind each."""


class Origins:
    """The distinct origins of records, numbered: a page tells each once, its points by number.

    Args:
        records: All records of the page.
    """

    def __init__(self, records: Sequence[RunRecord]) -> None:
        texts = dict.fromkeys(filter(None, map(_origin_text, records)))
        self._numbers = {text: number for number, text in enumerate(texts, start=1)}

    @property
    def texts(self) -> list[str]:
        """Commit and machine of each; the first has number 1."""
        return list(self._numbers)

    def of(self, records: Sequence[RunRecord]) -> str:
        """The numbers of these records' origins, separated by spaces."""
        texts = dict.fromkeys(filter(None, map(_origin_text, records)))
        return " ".join(str(self._numbers[text]) for text in texts)


def row_tip(row: Row, records: Sequence[RunRecord]) -> str:
    """The figures of a row in a few lines; the first names it."""
    shots = f", {images_per_class(row.shots)}" if row.shots else ""
    accuracy = accuracy_text(row)
    seeds = sorted({record.seed for record in records})
    lines = [f"{row.label}{shots}", f"{row.measure} {accuracy} % on {row.task}"]
    if row.trainable_parameters:
        lines.append(f"{row.trainable_parameters:,} trainable parameters, {size(row.adapter_bytes)}")
        lines.append(f"{duration(row.train_seconds)}, at most {size(row.training_memory_bytes)} of memory for it")
    if seeds:
        when = dates_text(records)
        lines.append(f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}{f'; {when}' if when else ''}")
    return "\n".join(lines)


def measures_text(rows: Iterable[Row]) -> str:
    """The measures that figures of these rows are of, as the beginning of a sentence."""
    measures = measures_of(rows)
    if len(measures) > 1:
        return f"Accuracy, or {MEAN_AVERAGE_PRECISION} (mAP) where images have several labels,"
    return f"{measures[0].capitalize()}{' (mAP)' if measures == [MEAN_AVERAGE_PRECISION] else ''}"


def _origin_text(record: RunRecord) -> str:
    parts = commit_text(record.provenance), hardware_text(record.provenance)
    return "; ".join(part for part in parts if part)
