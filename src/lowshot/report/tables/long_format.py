"""Every figure unrounded, a line each, ours and others' alike: the long format that pandas and R read."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Iterator, Sequence
from typing import Any

from ...records import RunRecord
from ...wording.provenance import commit_text
from ..published import whole_of
from ..sections import AVERAGE, Section, sections
from ..summary import mean_and_deviation

_COSTS = ("trainable_parameters", "total_parameters", "adapter_bytes", "train_seconds", "training_memory_bytes")
_OF_TEST = ("best", "pairs", "p", "p_holm")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LongRow:
    """One accuracy: of a method at one number of shots in one column, or published by others.

    Accuracies are fractions, sizes bytes, times seconds; None is what is not known or has no meaning.
    """

    kind: str
    """``measured`` here, or how a published figure is known: see ``published.KINDS``."""
    label: str
    """The method with what tells its variants apart; a published one as its source calls it."""
    method: str | None = None
    quantize: str | None = None
    variant: str | None = None
    backbone: str
    protocol: str
    data: str
    """A data set, ``average``, ``mean of the others``, or a published average such as ``average11``."""
    classes: str = "all"
    """``base``, ``new`` or ``harmonic mean`` under base-to-new; else ``all``."""
    shots: int
    seeds: int | None = None
    accuracy: float
    deviation: float | None = None
    """Sample standard deviation over the seeds; None for one."""
    uncertainty: float | None = None
    """Reading error of a digitised figure."""
    trainable_parameters: int | None = None
    total_parameters: int | None = None
    adapter_bytes: int | None = None
    train_seconds: float | None = None
    training_memory_bytes: int | None = None
    evaluation_seconds: float | None = None
    best: str | None = None
    """The method with the best mean at this number of shots, which this one was compared with."""
    pairs: int | None = None
    p: float | None = None
    """Two-sided p of the Wilcoxon signed-rank test against the best."""
    p_holm: float | None = None
    source: str = ""
    """Commits of lowshot that the runs were made with, or where a published figure stands."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self)


def long_rows(records: Sequence[RunRecord]) -> list[LongRow]:
    """Measured figures of all sections, then what was published on the same.

    Raises:
        InputError: Two records tell of the same run.
    """
    rows: list[LongRow] = []
    for section in sections(records):
        rows += _measured(section)
        rows += [
            LongRow(
                kind=figure.kind,
                label=figure.method,
                backbone=figure.backbone,
                protocol=section.protocol,
                data=figure.dataset,
                shots=figure.shots,
                accuracy=figure.accuracy,
                uncertainty=figure.uncertainty,
                source=figure.source,
            )
            for figure in section.published
        ]
    return rows


def in_csv(records: Sequence[RunRecord]) -> str:
    """``long_rows`` as a CSV file with a header; what is None is empty.

    Raises:
        InputError: Two records tell of the same run.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(field.name for field in dataclasses.fields(LongRow))
    writer.writerows(dataclasses.astuple(row) for row in long_rows(records))
    return text.getvalue()


def _measured(section: Section) -> Iterator[LongRow]:
    source = "; ".join(dict.fromkeys(filter(None, (commit_text(record.provenance) for record in section.records))))
    for entry in section.entries:
        label, shots = entry.row.label, entry.row.shots
        against = next((c for c in section.comparisons if (c.shots, c.other) == (shots, label)), None)
        for column, sample in entry.samples.items():
            mean, deviation = mean_and_deviation(list(sample.values()))
            # An average has the costs of the average, any other figure those of the data set that was learnt.
            rows = section.averages.rows if column.data == AVERAGE else section.rows
            own = [row for row in rows if (row.series, row.shots) == entry.place]
            costs = next((row for row in own if column.data in (AVERAGE, whole_of(row.task))), entry.row)
            values = {name: getattr(costs, name) for name in _COSTS}
            if against and column == section.layout.tested[shots]:
                values |= {name: getattr(against, name) for name in _OF_TEST}
            yield LongRow(
                kind="measured",
                label=label,
                method=entry.row.method,
                quantize=entry.row.quantize,
                variant=entry.row.variant,
                backbone=section.backbone or section.model,
                protocol=section.protocol,
                data=column.data,
                classes=column.measure or "all",
                shots=shots,
                seeds=len(sample),
                accuracy=mean,
                deviation=deviation if len(sample) > 1 else None,
                evaluation_seconds=costs.evaluation_seconds or None,
                source=source,
                **values,
            )
