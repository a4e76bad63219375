"""How much shorter CLIP-LoRA's training can be: candidates for the preset ``fast`` against ``paper``.

    .venv/bin/python tools/choose_fast.py [--method lora-xs]

Every recipe learns the same shots of the same glyph tasks with the same seeds, on the built-in model, and is judged on
validation splits alone. Prints a table: mean accuracy, its difference from ``paper`` with the standard error over
the cells, and steps; zero-shot tells how much there is to lose. This is how the preset ``fast`` in ``settings`` was
chosen; docs/concepts/fast.md has the table.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import statistics
from collections.abc import Mapping

import tyro
from choose_preset import validation_accuracy

CANDIDATES: Mapping[str, Mapping[str, float]] = {
    "paper": {},
    "1/2": {"steps_per_shot": 250, "learning_rate": 4e-4},
    "1/5": {"steps_per_shot": 100, "learning_rate": 1e-3},
    "1/10": {"steps_per_shot": 50, "learning_rate": 2e-3},
    "1/10, no dropout": {"steps_per_shot": 50, "learning_rate": 2e-3, "dropout": 0.0},
    "1/20": {"steps_per_shot": 25, "learning_rate": 4e-3},
    "1/20, no dropout": {"steps_per_shot": 25, "learning_rate": 4e-3, "dropout": 0.0},
    "1/40, no dropout": {"steps_per_shot": 12, "learning_rate": 8e-3, "dropout": 0.0},
}
"""Fewer steps, each longer by as much: the sum of all steps stays what it is."""


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Which cells."""

    method: str = "lora"
    tasks: tuple[str, ...] = ("greek", "letters", "cyrillic")
    shots: tuple[int, ...] = (1, 4, 16)
    seeds: tuple[int, ...] = (1, 2)
    candidates: tuple[str, ...] = tuple(CANDIDATES)


def main(arguments: Arguments) -> None:
    """Run every candidate in every cell, the dearest last."""
    cells = list(itertools.product(arguments.tasks, arguments.shots, arguments.seeds))
    found: dict[str, list[float]] = {}
    for name in ["zero-shot", *sorted(arguments.candidates, key=_steps)]:
        method = name if name == "zero-shot" else arguments.method
        found[name] = []
        for task, shots, seed in cells:
            settings = {"preset": "paper", "flip": True, "seed": seed, **CANDIDATES.get(name, {})}
            found[name].append(validation_accuracy(task, shots, method, settings))
            print(f"{name:<18} {task}/{shots}/{seed}  {found[name][-1]:.4f}", flush=True)
    print("\n| recipe | steps for each shot | accuracy % | against paper |\n|:--|--:|--:|--:|")
    for name, accuracies in found.items():
        apart = [100 * (one - other) for one, other in zip(accuracies, found["paper"], strict=True)]
        error = statistics.stdev(apart) / math.sqrt(len(apart)) if len(apart) > 1 else math.nan
        mean = 100 * statistics.mean(accuracies)
        print(f"| {name} | {_steps(name)} | {mean:.1f} | {statistics.mean(apart):+.2f} ± {error:.2f} |")


def _steps(name: str) -> int:
    return 0 if name == "zero-shot" else int(CANDIDATES[name].get("steps_per_shot", 500))


if __name__ == "__main__":
    main(tyro.cli(Arguments))
