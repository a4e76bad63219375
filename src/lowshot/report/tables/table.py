"""A table before it is put in writing."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple


class TableCell(NamedTuple):
    """One cell of a table."""

    text: str
    is_best: bool = False
    """Whether it is set in bold: see ``comparisons.winner``."""


@dataclasses.dataclass(frozen=True)
class Line:
    """One line of a table."""

    label: str
    cells: tuple[TableCell, ...]
    is_published: bool = False
    """Whether it has figures of others, below the line of ours that they belong to."""


@dataclasses.dataclass(frozen=True)
class Block:
    """Lines that belong together, such as those of one number of shots."""

    heading: str
    """Empty where the table has one block."""
    lines: tuple[Line, ...]


@dataclasses.dataclass(frozen=True)
class Table:
    """A table before it is put in writing."""

    title: str
    columns: tuple[str, ...]
    """Headings of the cells; that of the labels is always ``method``."""
    blocks: tuple[Block, ...]
    notes: tuple[str, ...] = ()
    """Sentences that stand below it."""
