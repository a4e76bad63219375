"""Format ``merged``: a folder in transformers format, the adapter inside the weights, with tokenizer and processor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..methods import MethodSpec
from ..models import load_backbone
from ..models.loading import image_processor, without_progress_bars
from .source import Source, as_input, class_probabilities
from .trained import Trained

PACKAGES = ()


def why_not(spec: MethodSpec) -> str:
    """Why a method cannot be had in this format; empty where it can."""
    return spec.why_not_merged


def write(source: Source, trained: Trained, folder: Path) -> None:  # noqa: ARG001
    """Write configuration, float32 weights, tokenizer and image processor.

    Raises:
        InputError: PEFT cannot merge this tuner.
    """
    backbone = trained.backbone
    if trained.adapter is not None:
        trained.adapter.merge()
    with without_progress_bars():
        backbone.model.save_pretrained(folder)
        backbone.tokenizer.save_pretrained(folder)
        image_processor(backbone).save_pretrained(folder)


def read_back(source: Source, folder: Path) -> NDArray[np.float32]:
    """Zero-shot probabilities ``(N, C)`` of the probes, with the folder as a backbone like any other."""
    return class_probabilities(load_backbone(str(folder)), source.record.prompts, as_input(source.probes))
