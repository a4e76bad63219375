"""Compare methods and settings on validation splits of glyph tasks, cell by cell; never on ``digits`` or a test split.

    .venv/bin/python tools/compare_on_validation.py --out docs/results/best/validation.jsonl

The presets ``best`` and ``fast`` and the order of candidates of ``--method auto`` come from here. Every variant learns
the same shots of the same tasks with the same seeds. One line of JSON is written for each run; called again it does
what is missing. The table has each variant's mean accuracy by shots, and its mean difference from the first variant
with the 95 % interval of a paired t test over the cells.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import statistics
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import tyro

from lowshot import FewShotClassifier
from lowshot.data import Task, builtin_task
from lowshot.models import KeptBackbone
from lowshot.settings import preset_recipe

SIX = ("q", "k", "v", "o", "fc1", "fc2")
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "lora": {},
    "shrinkage 0.5": {"shrinkage": 0.5},
    "shrinkage 1": {"shrinkage": 1.0},
    "shrinkage 2": {"shrinkage": 2.0},
    "all six projections, rank 4": {"projections": SIX, "rank": 4},
    "all six projections, rank 2": {"projections": SIX, "rank": 2},
    "fc1 and fc2, rank 4": {"projections": ("fc1", "fc2"), "rank": 4},
    "fc1 and fc2, rank 4, shrinkage 1": {"projections": ("fc1", "fc2"), "rank": 4, "shrinkage": 1.0},
    "all six projections, rank 2, shrinkage 1": {"projections": SIX, "rank": 2, "shrinkage": 1.0},
    "v, o, fc1 and fc2, rank 3": {"projections": ("v", "o", "fc1", "fc2"), "rank": 3},
    "increasing ranks": {"rank_by_depth": "increasing"},
    "decreasing ranks": {"rank_by_depth": "decreasing"},
    "best": {"preset": "builtin-best"},
    "lora-xs": {"method": "lora-xs"},
    "lora-xs, shrinkage 1": {"method": "lora-xs", "shrinkage": 1.0},
    "zero-shot": {"method": "zero-shot"},
    "task-res": {"method": "task-res"},
    "proker": {"method": "proker"},
    "gda": {"method": "gda"},
    "lp++": {"method": "lp++"},
    "tip-adapter-f": {"method": "tip-adapter-f"},
    "clip-svd": {"method": "clip-svd"},
    "2sfs": {"method": "2sfs"},
    "coop": {"method": "coop"},
}
"""Name -> settings that differ from LoRA's in the preset ``builtin``."""
SHORTER: Mapping[str, Mapping[str, Any]] = {
    "paper": {"preset": "paper"},
    "1/2": {"preset": "paper", "steps_per_shot": 250, "learning_rate": 4e-4},
    "1/5": {"preset": "paper", "steps_per_shot": 100, "learning_rate": 1e-3},
    "1/10": {"preset": "paper", "steps_per_shot": 50, "learning_rate": 2e-3},
    "1/10, no dropout": {"preset": "paper", "steps_per_shot": 50, "learning_rate": 2e-3, "dropout": 0.0},
    "1/20": {"preset": "paper", "steps_per_shot": 25, "learning_rate": 4e-3},
    "1/20, no dropout": {"preset": "paper", "steps_per_shot": 25, "learning_rate": 4e-3, "dropout": 0.0},
    "1/40, no dropout": {"preset": "paper", "steps_per_shot": 12, "learning_rate": 8e-3, "dropout": 0.0},
}
"""Candidates for the preset ``fast``: fewer steps, each longer by as much, so that the sum of all steps stays."""


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Cells to run."""

    out: Path
    """File for the results, a line for each run."""
    variants: tuple[str, ...] = tuple(VARIANTS)
    """The first is what the others are compared with."""
    tasks: tuple[str, ...] = ("greek", "letters", "cyrillic")
    shots: tuple[int, ...] = (1, 2, 4, 8, 16)
    seeds: tuple[int, ...] = (1, 2, 3, 4, 5)


Cell = tuple[str, int, int]
"""Task, shots, seed."""


def accuracy(task: Task, shots: int, seed: int, settings: Mapping[str, Any], backbone: KeptBackbone) -> float:
    """Accuracy of one classifier on its task's validation split."""
    assert task.validation is not None
    named = {"preset": "builtin", "method": "lora", **settings}
    recipe = preset_recipe(named.pop("preset"), named["method"]).replace(**named, shots=shots, seed=seed, threads=1)
    classifier = FewShotClassifier.from_recipe(recipe, backbone.load).fit(task)
    predicted = classifier.predict_proba(task.validation.images).argmax(1)
    return float((predicted == task.validation.labels).mean())


def read(path: Path) -> dict[str, dict[Cell, float]]:
    """Variant -> cell -> accuracy, of what is done."""
    accuracies: dict[str, dict[Cell, float]] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        run = json.loads(line)
        accuracies.setdefault(run["variant"], {})[run["task"], run["shots"], run["seed"]] = run["accuracy"]
    return accuracies


def table(runs: Mapping[str, Mapping[Cell, float]], arguments: Arguments) -> Iterator[str]:
    """Markdown rows; differences are from the first variant."""
    yield "| variant | " + " | ".join(f"{shots} shots" for shots in arguments.shots) + " | against the first |"
    yield "|:--|" + "--:|" * (len(arguments.shots) + 1)
    first = runs[arguments.variants[0]]
    for name in arguments.variants:
        cells = runs.get(name, {})
        means = [_mean([a for (_, k, _), a in cells.items() if k == shots]) for shots in arguments.shots]
        yield f"| {name} | {' | '.join(means)} | {difference([cells[c] - first[c] for c in cells if c in first])} |"


def _mean(values: list[float]) -> str:
    return f"{100 * statistics.fmean(values):.1f}" if values else "-"


def difference(apart: list[float]) -> str:
    """Mean in points with the 95 % interval of Student's t over the cells."""
    from scipy.stats import t

    if len(apart) < 2:
        return "-"
    reach = float(t.ppf(0.975, len(apart) - 1)) * statistics.stdev(apart) / math.sqrt(len(apart))
    return f"{100 * statistics.fmean(apart):+.2f} ± {100 * reach:.2f} (n = {len(apart)})"


def main(arguments: Arguments) -> None:
    """Do what is missing, then print the table."""
    torch.set_num_threads(1)
    backbone, tasks = KeptBackbone(), {name: builtin_task(name) for name in arguments.tasks}
    done = read(arguments.out)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    with arguments.out.open("a", encoding="utf-8") as file:
        for seed, name in itertools.product(arguments.seeds, arguments.variants):  # so that all have the first seeds
            for shots, task in itertools.product(arguments.shots, arguments.tasks):
                if (task, shots, seed) in done.get(name, {}):
                    continue
                right = accuracy(tasks[task], shots, seed, {**VARIANTS, **SHORTER}[name], backbone)
                run = {"variant": name, "task": task, "shots": shots, "seed": seed, "accuracy": right}
                file.write(json.dumps(run) + "\n")
                file.flush()
            print(f"seed {seed}, {name}", flush=True)
    print("\n".join(table(read(arguments.out), arguments)))


if __name__ == "__main__":
    main(tyro.cli(Arguments))
