"""Heads: methods on the embeddings of a frozen backbone. Pure functions of embeddings, each from its paper."""

from ..methods import METHODS, imported
from .cross_validation import left_out
from .full_conformal import FullConformal
from .head import Computed, Fit, Head, Schedule, blank_tensors, tensors_of, trained_numbers
from .kept_shots import KEPT_SHOTS_FILE, KeptShots, read_kept_shots, write_kept_shots
from .saved import read_head, write_head
from .shots import Shots, Text

HEADS: dict[str, type[Head]] = {
    name: imported(row.code, __name__) for name, row in METHODS.items() if row.kind == "features" and row.code
}
"""Method -> head, as its row says."""

__all__ = [
    "HEADS",
    "KEPT_SHOTS_FILE",
    "Computed",
    "Fit",
    "FullConformal",
    "Head",
    "KeptShots",
    "Schedule",
    "Shots",
    "Text",
    "blank_tensors",
    "left_out",
    "read_head",
    "read_kept_shots",
    "tensors_of",
    "trained_numbers",
    "write_head",
    "write_kept_shots",
]
