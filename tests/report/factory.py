"""Records and pictures for the tests of reports, made from nothing."""

from __future__ import annotations

import struct
import zlib
from typing import Any

from lowshot.records import RunRecord
from lowshot.report import Prediction, Showcase

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_PROVENANCE = {
    "date": "2026-01-31T12:00:00+00:00",
    "command": "lowshot bench digits.toml --out runs",
    "versions": {"python": "3.11.7", "lowshot": "0.1.0", "torch": "2.9.0"},
    "hardware": {"processor": "Test CPU", "cores": 2, "accelerator": None, "system": "Linux"},
    "commit": "0123456789abcdef0123456789abcdef01234567",
    "dirty": False,
}


def record(
    method: str = "lora", shots: int = 16, seed: int = 1, accuracy: float | None = 0.97, **changes: Any
) -> RunRecord:
    """A record of one run; ``settings`` among the changes goes into its recipe."""
    settings = {"rank": 2, "steps_per_shot": 500, "seed": seed, **changes.pop("settings", {})}
    values: dict[str, Any] = {
        "task": "digits",
        "method": method,
        "quantize": "none",
        "shots": shots,
        "seed": seed,
        "recipe": {"method": {"method": method}, "training": settings, "data": {"shots": shots}},
        "classes": DIGITS,
        "model": {"id": "builtin", "revision": None, "weights_sha256": "ab" * 32},
        "draw": (),
        "trainable_parameters": 3072,
        "total_parameters": 2_000_000,
        "adapter_bytes": 13_100,
        "steps": 500 * shots,
        "train_seconds": 14.0,
        "peak_memory_bytes": 410_000_000,
        "metrics": {} if accuracy is None else {"acc1": accuracy, "images": 897, "split": "test"},
        "provenance": _PROVENANCE,
    }
    return RunRecord(**{**values, **changes})


def zero_shot(accuracy: float | None = 0.78, **changes: Any) -> RunRecord:
    """A record of the backbone as it is."""
    costs = {"trainable_parameters": 0, "adapter_bytes": 0, "steps": 0, "train_seconds": 0.0}
    return record("zero-shot", 0, accuracy=accuracy, **{**costs, **changes})


def rival(shots: int = 16, seed: int = 1, accuracy: float = 0.92, **changes: Any) -> RunRecord:
    """A record of logistic regression on pixels, which has neither backbone nor recipe."""
    costs = {"trainable_parameters": 650, "total_parameters": 650, "adapter_bytes": 0}
    return record("pixel-regression", shots, seed, accuracy, **{"recipe": {}, "model": {}, **costs, **changes})


def png(width: int = 8, height: int = 8, grey: int = 128) -> bytes:
    """A plain grey image."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + bytes([grey]) * width for _ in range(height)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def showcase(classes: tuple[str, ...] = DIGITS, **changes: Any) -> Showcase:
    """One image recognised, one not; in the confusion matrix class 1 is taken for class 0 three times."""
    size = len(classes)
    confusion = [[40 if i == j else 0 for j in range(size)] for i in range(size)]
    confusion[1][0] = 3
    values: dict[str, Any] = {
        "method": "lora",
        "shots": 16,
        "classes": classes,
        "predictions": (Prediction(png(), 0, 0, 0.98), Prediction(png(), 1, 0, 0.61)),
        "confusion": tuple(map(tuple, confusion)),
        "note": "The first test images.",
    }
    return Showcase(**{**values, **changes})
