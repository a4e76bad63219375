"""Adapters: where they work, how they are built, how they are saved, loaded and merged.

PEFT is imported where one of its adapters is built. ``joint``, ``lean`` and ``peft_types`` are about it and import it.
"""

from .adapter import Adapter, adapter_bytes, keep_share
from .build import add_adapter, prepare
from .context import ContextAdapter
from .dropout import MaskKeys, key_dropout
from .placement import Place, layers_at, place
from .rows import draws_from_torch, rows_are_alike

__all__ = [
    "Adapter",
    "ContextAdapter",
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
]
