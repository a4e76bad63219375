"""Time that a user waits before anything happens: help, and a first prediction in a fresh process.

    .venv/bin/python benchmarks/startup.py [--json] [--smoke]

Prints a table and writes benchmarks/results/<date>-<hardware>-startup.json, with the spread over repetitions.
"""

from __future__ import annotations

import dataclasses
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from measuring import Output, finish
from PIL import Image

LOWSHOT = [sys.executable, "-m", "lowshot"]


@dataclasses.dataclass(frozen=True)
class Arguments(Output):
    """Repetitions. A smoke run leaves out what loads a model."""

    repetitions: int = 5
    """Measured runs of each command, after one that warms the file cache."""


def seconds(command: list[str], repetitions: int) -> list[float]:
    """Wall time of a command, each time in a fresh process."""
    times = []
    for _ in range(repetitions + 1):
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - started)
    return times[1:]


def commands(folder: Path, smoke: bool) -> dict[str, list[str]]:
    """Commands by their names.

    Args:
        folder: Where an adapter and an image are put first.
        smoke: Leave out what loads a model.
    """
    light = {"python -c pass": [sys.executable, "-c", "pass"], "lowshot --help": [*LOWSHOT, "--help"]}
    if smoke:
        return light
    adapter, image = folder / "adapter", folder / "image.png"
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(image)
    fit = [*LOWSHOT, "fit", "digits", "--shots", "1", "--method", "lora-xs", "--out", str(adapter)]
    subprocess.run(fit, check=True, capture_output=True)
    libraries = "import torch, transformers, peft"
    return {
        **light,
        "lowshot fit --help": [*LOWSHOT, "fit", "--help"],
        f"python -c '{libraries}'": [sys.executable, "-c", libraries],
        "lowshot predict ADAPTER IMAGE": [*LOWSHOT, "predict", str(adapter), str(image)],
    }


def main(arguments: Arguments) -> dict[str, Any]:
    """Measure, print, write; returns the result."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, command in commands(Path(folder), arguments.smoke).items():
            times = seconds(command, arguments.repetitions)
            row = {"variant": name, "median_seconds": statistics.median(times), "min": min(times), "max": max(times)}
            rows.append(row)
            arguments.say(f"{name:<46} {row['median_seconds']:6.2f} s  ({row['min']:.2f} to {row['max']:.2f})")
    return finish({"benchmark": "startup", "repetitions": arguments.repetitions, "rows": rows}, arguments)


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Arguments))
