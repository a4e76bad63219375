"""Heads: methods on the embeddings of a frozen backbone. Pure functions of embeddings, each from its paper."""

from ..methods import METHODS, imported
from .head import Fit, Head, Schedule, blank_tensors, tensors_of, trained_numbers
from .saved import read_head, write_head
from .shots import Shots, Text

HEADS: dict[str, type[Head]] = {
    name: imported(row.code, __name__) for name, row in METHODS.items() if row.kind == "features" and row.code
}
"""Method -> head, as its row says."""

__all__ = [
    "HEADS",
    "Fit",
    "Head",
    "Schedule",
    "Shots",
    "Text",
    "blank_tensors",
    "read_head",
    "tensors_of",
    "trained_numbers",
    "write_head",
]
