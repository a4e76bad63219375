"""Conversion: saved adapters into other forms, most of which need no lowshot, and CLIP-LoRA's into lowshot's."""

from .exporting import FORMATS, Export, export
from .importing import import_clip_lora
from .space import export_space

__all__ = ["FORMATS", "Export", "export", "export_space", "import_clip_lora"]
