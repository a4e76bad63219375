"""Places of accuracies in a table, and the column whose best is looked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ..wording.quantities import shots_text
from .averages import BASE_TO_NEW, FEW_SHOT, OF_ALL_CLASSES, SEVERAL_LABELS
from .samples import AVERAGE, BASE, HARMONIC_MEAN, MEAN_OF_OTHERS, NEW, Column, Section
from .summary import ACCURACY, MEAN_AVERAGE_PRECISION

Place = tuple[Column, int]
"""A column, and the number of shots that its accuracies are of."""


class Layout(NamedTuple):
    """Headings and places of the table of accuracies of a section."""

    headings: tuple[str, ...]
    blocks: tuple[tuple[str, tuple[Place, ...]], ...]
    """Heading and places of each block, a place for each of the columns."""
    tested: Mapping[int, Column]
    """By number of shots, the column whose best is looked for."""


def layout_of(section: Section) -> Layout:
    """The papers' layout of a section's accuracies.

    Data sets stand side by side, with their average where there are several, in a block for each number of shots. A
    single data set has the numbers of shots side by side. Halves of classes have a block for each data set, transfers
    their targets side by side.
    """
    several = len(section.tasks) > 1
    if section.protocol == BASE_TO_NEW:
        names, measures = (AVERAGE, *section.tasks) if several else section.tasks, (BASE, NEW, HARMONIC_MEAN)
        blocks = tuple(
            (f"{name}, {shots_text(shots)}", tuple((Column(name, measure), shots) for measure in measures))
            for name in names
            for shots in section.shots
        )
        return Layout(measures, blocks, dict.fromkeys(section.shots, Column(names[0], HARMONIC_MEAN)))
    if section.protocol not in OF_ALL_CLASSES:
        targets = dict.fromkeys(c.data for entry in section.entries for c in entry.samples if c.data != MEAN_OF_OTHERS)
        columns = [*map(Column, targets), Column(MEAN_OF_OTHERS)]
    elif several:
        columns = [*map(Column, section.tasks), Column(AVERAGE)]
    else:
        column = Column(section.tasks[0])
        places = tuple((column, shots) for shots in section.shots)
        return Layout(tuple(map(shots_text, section.shots)), (("", places),), dict.fromkeys(section.shots, column))
    blocks = tuple((shots_text(shots), tuple((column, shots) for column in columns)) for shots in section.shots)
    return Layout(tuple(column.data for column in columns), blocks, dict.fromkeys(section.shots, columns[-1]))


def about(section: Section) -> str:
    """Backbone, protocol and data of a section, as the end of a title."""
    model = "the built-in model" if section.model == "builtin" else section.model
    parts = [f"{section.backbone} ({model})" if section.backbone else model]
    if section.protocol != FEW_SHOT:
        parts.append(section.protocol)
    if section.protocol not in (*OF_ALL_CLASSES, BASE_TO_NEW):
        parts.append(f"learnt on {section.tasks[0]}")
    if section.protocol in OF_ALL_CLASSES and len(section.tasks) == 1:
        parts.append(section.tasks[0])
    return "".join(f", {part}" for part in parts if part)


def measure_of(section: Section) -> str:
    """The measure that a section's figures are of, in words."""
    return MEAN_AVERAGE_PRECISION if section.protocol == SEVERAL_LABELS else ACCURACY
