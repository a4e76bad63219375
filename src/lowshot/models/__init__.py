"""Backbones: loading, the two towers, the precision of their frozen weights."""

from .backbone import Backbone
from .blocks import Attended
from .copies import KeptBackbone
from .devices import has_float64, is_out_of_memory, lacking_named, pick_device, release, settle
from .efficientnet import PHOTOS, PHOTOS_PACKAGE, is_photos_installed
from .frozen import Products, share_frozen
from .identity import Identity
from .loading import load_backbone, load_structure, why_no_model
from .paired import BESIDE
from .precision import resolve_adapter_precision, resolve_precision, round_to, set_precision
from .tower_state import TowerState
from .towers import Towers

__all__ = [
    "BESIDE",
    "PHOTOS",
    "PHOTOS_PACKAGE",
    "Attended",
    "Backbone",
    "Identity",
    "KeptBackbone",
    "Products",
    "TowerState",
    "Towers",
    "has_float64",
    "is_out_of_memory",
    "is_photos_installed",
    "lacking_named",
    "load_backbone",
    "load_structure",
    "pick_device",
    "release",
    "resolve_adapter_precision",
    "resolve_precision",
    "round_to",
    "set_precision",
    "settle",
    "share_frozen",
    "why_no_model",
]
