"""Heads: methods on the embeddings of a frozen backbone. Pure functions of embeddings, each from its paper."""

from .clip_adapter import ClipAdapter
from .gda import GaussianDiscriminant
from .head import Fit, Head, Schedule, blank_tensors, tensors_of, trained_numbers
from .linear_probe import LinearProbe
from .lp_plus_plus import LinearProbePlusPlus
from .nearest_mean import NearestMean
from .proker import ProKeR
from .saved import read_head, write_head
from .shots import Shots, Text
from .task_res import TaskRes
from .tip_adapter import TipAdapter, TipAdapterF

HEADS: dict[str, type[Head]] = {
    "nearest-mean": NearestMean,
    "tip-adapter": TipAdapter,
    "gda": GaussianDiscriminant,
    "proker": ProKeR,
    "linear-probe": LinearProbe,
    "lp++": LinearProbePlusPlus,
    "tip-adapter-f": TipAdapterF,
    "clip-adapter": ClipAdapter,
    "task-res": TaskRes,
}
"""Method -> head. Its other entry is in ``methods.METHODS``."""

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
