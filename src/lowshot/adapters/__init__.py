"""Adapters: where they work, how they are built, how they are saved, loaded and merged."""

from .adapter import Adapter, adapter_bytes, keep_share
from .build import add_adapter, prepare
from .context import ContextAdapter
from .dropout import MaskKeys, key_dropout
from .joint import JointUpdates
from .peft_types import tuners
from .placement import Place, layers_at, place
from .rows import draws_from_torch, rows_are_alike

__all__ = [
    "Adapter",
    "ContextAdapter",
    "JointUpdates",
    "MaskKeys",
    "Place",
    "adapter_bytes",
    "add_adapter",
    "draws_from_torch",
    "keep_share",
    "key_dropout",
    "layers_at",
    "place",
    "prepare",
    "rows_are_alike",
    "tuners",
]
