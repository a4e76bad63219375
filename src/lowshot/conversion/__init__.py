"""Conversion: saved adapters into forms that need no lowshot, and CLIP-LoRA's saved adapters into lowshot's."""

from .export import FORMATS, Export, export
from .importing import import_clip_lora

__all__ = ["FORMATS", "Export", "export", "import_clip_lora"]
