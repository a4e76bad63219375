"""What trackers are told besides the course of training: the settings before it, the record's figures after it."""

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
    """All settings by name as single values, and what else is given; those that are not set are left out."""
    named = {**recipe.settings(), **more}
    return {name: _plain(value) for name, value in named.items() if value is not None}


def _plain(value: Any) -> Plain:
    if isinstance(value, str | int | float):  # bool is an int
        return value
    return " ".join(map(str, value))


def costs_of(record: RunRecord) -> dict[str, float]:
    """What a run took, ``cost/...``, and its final loss."""
    found = {f"cost/{name}": float(getattr(record, name)) for name in _COSTS}
    if record.final_loss is not None:
        found["train/final_loss"] = record.final_loss
    return found


def measures_of(record: RunRecord) -> dict[str, float]:
    """Every number among a record's metrics, ``eval/...``; those of other label spaces as ``eval/others/NAME/...``."""
    return dict(_numbers("eval", record.metrics))


def _numbers(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        key = f"{prefix}/{as_key(name)}"
        if isinstance(value, Mapping):
            yield from _numbers(key, value)
        elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            yield key, float(value)
