"""How long a user waits before anything happens: help, and a first prediction in a fresh process.

    make bench        or        .venv/bin/python benchmarks/startup.py [--json]

Prints a table and writes benchmarks/results/<date>-startup.json, with the hardware and the spread over repetitions.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from write_result import write_result

from lowshot.records import provenance

REPETITIONS = 5


def seconds(command: list[str]) -> list[float]:
    """Wall time of a command in fresh processes, ``REPETITIONS`` times after one that warms the file cache."""
    times = []
    for _ in range(REPETITIONS + 1):
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - started)
    return times[1:]


def main() -> None:
    """Measure, print, write."""
    lowshot = [sys.executable, "-m", "lowshot"]
    with tempfile.TemporaryDirectory() as folder:
        adapter, image = Path(folder) / "adapter", Path(folder) / "image.png"
        Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(image)
        fit = [*lowshot, "fit", "digits", "--shots", "1", "--method", "lora-xs", "--out", str(adapter)]
        subprocess.run(fit, check=True, capture_output=True)
        measured = {
            "python -c pass": seconds([sys.executable, "-c", "pass"]),
            "lowshot --help": seconds([*lowshot, "--help"]),
            "lowshot fit --help": seconds([*lowshot, "fit", "--help"]),
            "python -c 'import torch, transformers, peft'": seconds(
                [sys.executable, "-c", "import torch, transformers, peft"]
            ),
            "lowshot predict ADAPTER IMAGE": seconds([*lowshot, "predict", str(adapter), str(image)]),
        }
    figures = {
        name: {"median_seconds": statistics.median(t), "min": min(t), "max": max(t)} for name, t in measured.items()
    }
    result = {"benchmark": "startup", "repetitions": REPETITIONS, "figures": figures, "provenance": provenance()}
    write_result(result)
    if "--json" in sys.argv[1:]:
        print(json.dumps(result, indent=2))
        return
    for name, figure in figures.items():
        print(f"{name:<46} {figure['median_seconds']:6.2f} s  ({figure['min']:.2f} to {figure['max']:.2f})")


if __name__ == "__main__":
    main()
