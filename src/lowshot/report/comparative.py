"""A section of records with its paired tests and what was published on the same."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from ..records import RunRecord
from .averages import FEW_SHOT
from .comparisons import Comparison, Sample, compare
from .layouts import layout_of
from .published import PublishedFigure, published_beside
from .samples import AVERAGE, MEAN_OF_OTHERS, Column, Section, sections


@dataclasses.dataclass(frozen=True)
class Comparative:
    """A section of records with its tests and what was published on the same."""

    section: Section
    comparisons: tuple[Comparison, ...]
    published: tuple[PublishedFigure, ...]


def comparatives(records: Sequence[RunRecord]) -> list[Comparative]:
    """Sections of records, tested.

    Raises:
        InputError: Two records tell of the same run.
    """
    return [
        Comparative(
            section,
            compare(samples_to_test(section)),
            published_beside(section.records) if section.protocol == FEW_SHOT else (),
        )
        for section in sections(records)
    ]


def samples_to_test(section: Section) -> dict[int, dict[str, Sample]]:
    """By shots and label: the accuracies behind the tested column, of methods that have all of them.

    A mean is tested by the columns that it is a mean of, any other column by itself.
    """
    blocks: dict[int, dict[str, Sample]] = {}
    for entry in section.entries:
        tested = layout_of(section).tested[entry.row.shots]
        if tested not in entry.samples:
            continue
        columns = [tested]
        if tested.data == AVERAGE:
            columns = [Column(task, tested.measure) for task in section.tasks]
        elif tested.data == MEAN_OF_OTHERS:
            columns = [c for c in entry.samples if c.data not in (MEAN_OF_OTHERS, *section.tasks)]
        sample = {(c.data, seed): value for c in columns for seed, value in entry.samples[c].items()}
        blocks.setdefault(entry.row.shots, {})[entry.row.label] = sample
    return dict(sorted(blocks.items()))
