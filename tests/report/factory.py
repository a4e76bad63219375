"""Records and pictures for the tests of reports, made from nothing."""

from __future__ import annotations

import itertools
import math
import random
import struct
import zlib
from collections.abc import Mapping
from typing import Any

from lowshot.records import RunRecord
from lowshot.report.page import Prediction, Showcase

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


def of_several(precision: float, make: Any = None, **changes: Any) -> RunRecord:
    """A record of a run whose images have several labels, by its mean average precision."""
    classes = changes.setdefault("classes", DIGITS)
    metrics = {"map": precision, "micro_f1": 0.41, "macro_f1": 0.39, "exact_match": 0.075, "images": 600}
    metrics |= {"class_ap": [precision] * len(classes), "class_f1": [0.4] * len(classes), "split": "test"}
    presence = {"offsets": [0.0] * len(classes), "thresholds": [0.5] * len(classes)}
    presence |= {"folds": 4, "images": 80, "slope": 1.0}
    return (make or record)(**{"task": "shapes", "metrics": metrics, "presence": presence, **changes})


def zero_shot(accuracy: float | None = 0.78, **changes: Any) -> RunRecord:
    """A record of the backbone as it is."""
    costs = {"trainable_parameters": 0, "adapter_bytes": 0, "steps": 0, "train_seconds": 0.0}
    return record("zero-shot", 0, accuracy=accuracy, **{**costs, **changes})


def rival(shots: int = 16, seed: int = 1, accuracy: float = 0.92, **changes: Any) -> RunRecord:
    """A record of logistic regression on pixels, which has neither backbone nor recipe."""
    costs = {"trainable_parameters": 650, "total_parameters": 650, "adapter_bytes": 0}
    return record("pixel-regression", shots, seed, accuracy, **{"recipe": {}, "model": {}, **costs, **changes})


CATALOGUE = {
    "imagenet": (1000, 0.667, 0.736),
    "sun397": (397, 0.626, 0.761),
    "fgvc": (100, 0.247, 0.547),
    "eurosat": (10, 0.475, 0.921),
    "stanford_cars": (196, 0.653, 0.863),
    "food101": (101, 0.861, 0.842),
    "oxford_pets": (37, 0.891, 0.924),
    "oxford_flowers": (102, 0.714, 0.98),
    "caltech101": (100, 0.929, 0.964),
    "dtd": (47, 0.436, 0.72),
    "ucf101": (101, 0.667, 0.867),
}
"""The eleven data sets: classes, CLIP's zero-shot accuracy and about what 16 images make of it."""
_METHODS: dict[str, dict[str, Any]] = {
    "lora": {"trainable_parameters": 184_320, "adapter_bytes": 739_000, "train_seconds": 900.0},
    "lora-xs": {"trainable_parameters": 73_728, "adapter_bytes": 297_000, "train_seconds": 860.0},
    "dora": {"trainable_parameters": 239_616, "adapter_bytes": 961_000, "train_seconds": 1400.0},
    "qlora": {"method": "lora", "quantize": "nf4", "trainable_parameters": 184_320, "adapter_bytes": 739_000},
    "layernorm": {"trainable_parameters": 65_536, "adapter_bytes": 264_000, "train_seconds": 700.0},
}


def measured(accuracy: float, classes: int, seed: int = 1, images: int = 2000) -> dict[str, Any]:
    """Metrics as a run has them, with recalls and bins of confidence that go with the accuracy."""
    chance = random.Random(seed)
    recalls = [min(max(accuracy + chance.gauss(0, 0.12), 0.0), 1.0) for _ in range(classes)]
    bins = [
        [images // 30 + images * b // 200, (b + 0.5) / 15, min(1.0, (b + 0.5) / 15 * accuracy / 0.8)] for b in range(15)
    ]
    return {
        "acc1": accuracy,
        "ece": 0.05,
        "class_recall": recalls,
        "reliability": bins,
        "images": images,
        "classes": classes,
        "split": "test",
    }


def eleven_data_sets(
    shots: tuple[int, ...] = (1, 2, 4, 8, 16),
    seeds: tuple[int, ...] = (1, 2, 3),
    methods: Mapping[str, Mapping[str, Any]] | None = None,
    tasks: tuple[str, ...] = tuple(CATALOGUE),
) -> list[RunRecord]:
    """A paper's grid on a CLIP ViT-B/16 as it could be: zero-shot and every method on every data set."""
    model = {"id": "openai/clip-vit-base-patch16", "revision": "57c2164", "weights_sha256": "cd" * 32}
    methods = _METHODS if methods is None else methods
    records = []
    for task in tasks:
        classes, low, high = CATALOGUE[task]
        shared = {"task": task, "model": model, "classes": tuple(f"{task} class {i}" for i in range(classes))}
        shared["total_parameters"] = 149_620_737
        records.append(zero_shot(**shared, metrics=measured(low, classes)))
        for place, (name, changes) in enumerate(methods.items()):
            for count, seed in itertools.product(shots, seeds):
                accuracy = (
                    low + (high - low) * (0.45 + 0.55 * math.log2(2 * count) / 5) - 0.006 * (place % 7) + seed / 900
                )
                own = {"method": name, "static_memory_bytes": 400_000_000, **shared, **changes}
                own["train_seconds"] = own.get("train_seconds", 1000.0) * count / 16
                own["peak_memory_bytes"] = 900_000_000 + 37_000_000 * (place % 9)
                metrics = measured(accuracy, classes, seed + place)
                records.append(record(shots=count, seed=seed, **own, metrics=metrics))
    return records


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
