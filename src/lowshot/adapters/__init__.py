"""Adapters: where they sit, how they are built through PEFT, how they are saved and loaded."""

from .build import add_adapter, prepare
from .checkpoint import adapter_tensors, load_adapter, save_adapter, serialized_bytes
from .placement import Site, layers_at, sites

__all__ = [
    "Site",
    "adapter_tensors",
    "add_adapter",
    "layers_at",
    "load_adapter",
    "prepare",
    "save_adapter",
    "serialized_bytes",
    "sites",
]
