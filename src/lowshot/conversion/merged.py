"""Format ``merged``: a folder in transformers format, the adapter inside the weights, with tokenizer and processor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..models import load_backbone
from ..models.writing import write_in_transformers_format
from .source import Source, as_input, class_probabilities
from .trained import Trained


def write(source: Source, trained: Trained, folder: Path) -> None:  # noqa: ARG001
    """Write configuration, float32 weights, tokenizer and image processor.

    Raises:
        InputError: PEFT cannot merge this tuner.
    """
    if trained.adapter is not None:
        trained.adapter.merge()
    write_in_transformers_format(trained.backbone, folder)


def read_back(source: Source, folder: Path) -> NDArray[np.float32]:
    """Zero-shot probabilities ``(N, C)`` of the probes, with the folder as a backbone like any other."""
    return class_probabilities(load_backbone(str(folder)), source.record.prompts, as_input(source.probes))
