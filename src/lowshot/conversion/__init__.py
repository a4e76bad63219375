"""Conversion: saved adapters into other forms, most of which need no lowshot, and others' adapters into lowshot's."""

from .base import write_backbone
from .exporting import FORMATS, Export, export
from .importing import import_clip_lora, import_peft
from .space import export_space

__all__ = ["FORMATS", "Export", "export", "export_space", "import_clip_lora", "import_peft", "write_backbone"]
