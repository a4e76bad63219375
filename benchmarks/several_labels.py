"""The accuracy of labels where images have several: mean average precision and F1 by method and shots.

    .venv/bin/python benchmarks/several_labels.py [--json] [--smoke] [--methods proker lora]

The built-in task ``shapes``: two or three of ten shapes in a picture, or none. Prints a line for each case and writes
benchmarks/results/<date>-<hardware>-several-labels.json.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import torch
from measuring import Output, finish, part_of

from lowshot import FewShotClassifier
from lowshot.data import builtin_task
from lowshot.methods import METHODS

TASK, SHOTS = "shapes", (1, 4, 16)
MEASURES = ("map", "micro_f1", "macro_f1", "exact_match")
DRAWS = {"zero-shot": 3, "nearest-mean": 3, "linear-probe": 3, "proker": 3, "lora": 2}
"""Method -> draws of the shots. One that trains the towers takes minutes each."""
FOLDS = 4
"""Of a method that trains the towers, for a second row with the most shots: its thresholds are learnt in them."""


@dataclasses.dataclass(frozen=True)
class Arguments(Output):
    """The cases to measure."""

    methods: tuple[str, ...] = tuple(DRAWS)
    """Methods to measure."""


def measured(method: str, shots: int, draws: int, folds: int) -> dict[str, Any]:
    """Mean and deviation of the measures over the draws."""
    task, tables = builtin_task(TASK), []
    for seed in range(1, draws + 1):
        settings: dict[str, Any] = {"method": method, "shots": shots, "seed": seed, "calibration_folds": folds}
        classifier = FewShotClassifier(labels_per_image="several", **settings).fit(task)
        figures = classifier.evaluate(task)
        tables.append([figures[name] for name in MEASURES])
    table = np.array(tables)
    deviations = table.std(0, ddof=1) if len(table) > 1 else np.full(len(MEASURES), math.nan)
    measures = {
        name: [round(float(mean), 4), None if math.isnan(each) else round(float(each), 4)]
        for name, mean, each in zip(MEASURES, table.mean(0), deviations, strict=True)
    }
    variant = f"{TASK} --labels-per-image several --method {method} --shots {shots}"
    return {"variant": variant, "method": method, "shots": shots, "folds": folds, "draws": len(table), **measures}


def main(arguments: Arguments) -> dict[str, Any]:
    """Measure every case (for a smoke run the first with one draw), print the figures and write them."""
    torch.set_num_threads(1)
    rows = []
    cases = [(method, shots, 0) for method in arguments.methods for shots in SHOTS]
    cases += [(method, SHOTS[-1], FOLDS) for method in arguments.methods if METHODS[method].kind == "weights"]
    for method, shots, folds in cases[:1] if arguments.smoke else cases:
        rows.append(measured(method, shots, 1 if arguments.smoke else DRAWS[method], folds))
        arguments.say(rows[-1])
    part = part_of(arguments.methods, DRAWS)
    return finish({"benchmark": "several-labels", "task": TASK, "rows": rows, **part}, arguments)


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Arguments))
