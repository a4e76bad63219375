"""Backbones: loading, the two towers, the precision of their frozen weights."""

from .backbone import Backbone, Identity, Towers
from .copies import KeptBackbone
from .efficientnet import PHOTOS, PHOTOS_PACKAGE, is_photos_installed
from .frozen import Products
from .loading import load_backbone, load_structure, pick_device
from .precision import resolve_adapter_precision, resolve_precision, round_to, set_precision
from .tower_state import TowerState

__all__ = [
    "PHOTOS",
    "PHOTOS_PACKAGE",
    "Backbone",
    "Identity",
    "KeptBackbone",
    "Products",
    "TowerState",
    "Towers",
    "is_photos_installed",
    "load_backbone",
    "load_structure",
    "pick_device",
    "resolve_adapter_precision",
    "resolve_precision",
    "round_to",
    "set_precision",
]
