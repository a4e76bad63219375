"""Backbones: loading, the two towers, the precision of their frozen weights."""

from .backbone import Backbone, Identity, Tower, Towers
from .loading import load_backbone, load_structure
from .precision import compute_type, dequantized, round_to, set_precision

__all__ = [
    "Backbone",
    "Identity",
    "Tower",
    "Towers",
    "compute_type",
    "dequantized",
    "load_backbone",
    "load_structure",
    "round_to",
    "set_precision",
]
