"""Format ``merged``: a folder in transformers format, the adapter inside the weights, with tokenizer and processor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..adapters import Adapter
from ..models import Backbone, load_backbone
from ..models.loading import BUILTIN, without_progress_bars
from .source import Source, as_input, class_probabilities, merge

PACKAGES = ()


def write(source: Source, backbone: Backbone, adapter: Adapter | None, folder: Path) -> None:  # noqa: ARG001
    """Write configuration, float32 weights, tokenizer and image processor.

    Raises:
        InputError: PEFT cannot merge this tuner.
    """
    from transformers import AutoImageProcessor

    merge(backbone, adapter)
    where = BUILTIN if backbone.identity.id == "builtin" else backbone.identity.id
    with without_progress_bars():
        backbone.model.save_pretrained(folder)
        backbone.tokenizer.save_pretrained(folder)
        AutoImageProcessor.from_pretrained(where, backend="pil").save_pretrained(folder)


def read_back(source: Source, folder: Path) -> NDArray[np.float32]:
    """What the folder, taken for a backbone like any other, says of the probes zero-shot, ``(N, C)``."""
    return class_probabilities(load_backbone(str(folder)), source.prompts, as_input(source.probes))
