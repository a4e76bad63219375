"""Figures beside the course of training: a run's settings before it, its costs and measures after it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from ..records import RunRecord
from ..settings import Recipe
from .tracker import Plain, as_key

_COSTS = (
    "train_seconds",
    "evaluation_seconds",
    "peak_memory_bytes",
    "training_memory_bytes",
    "reserved_memory_bytes",
    "trainable_parameters",
    "total_parameters",
    "adapter_bytes",
)


def settings_of(recipe: Recipe, **more: Plain) -> dict[str, Plain]:
    """Return all settings by name as single values, and ``more``; those that are not set are left out."""
    named = {**recipe.settings(), **more}
    return {
        name: value if isinstance(value, str | int | float) else " ".join(map(str, value))  # bool is an int
        for name, value in named.items()
        if value is not None
    }


def costs_of(record: RunRecord) -> dict[str, float]:
    """Time, memory and sizes of a run as ``cost/...``, and its final loss."""
    costs = {f"cost/{name}": float(getattr(record, name)) for name in _COSTS}
    final_loss = {} if record.final_loss is None else {"train/final_loss": record.final_loss}
    return costs | final_loss


def measures_of(record: RunRecord) -> dict[str, float]:
    """Numbers among a record's metrics, ``eval/...``; those of other label spaces as ``eval/others/NAME/...``."""
    return dict(_numbers("eval", record.metrics))


def _numbers(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        key = f"{prefix}/{as_key(name)}"
        if isinstance(value, Mapping):
            yield from _numbers(key, value)
        elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            yield key, float(value)
