"""Backbones: loading, the two towers, the precision of their frozen weights."""

from .backbone import Backbone, Identity, Tower
from .loading import load_backbone
from .quantization import quantize_nf4

__all__ = ["Backbone", "Identity", "Tower", "load_backbone", "quantize_nf4"]
