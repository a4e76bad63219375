"""Compare settings for the built-in model on validation splits of glyph tasks; prints a table, best first.

    .venv/bin/python tools/choose_preset.py --method lora-xs

This is how the preset ``builtin`` in ``settings`` was chosen. It never looks at ``digits`` or at a test split.
"""

from __future__ import annotations

import dataclasses
import itertools
import statistics
from collections.abc import Mapping
from typing import Any

import tyro

from lowshot import FewShotClassifier
from lowshot.data import builtin_task
from lowshot.settings import obeyed


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Every combination of the values given is tried."""

    method: str = "lora-xs"
    tasks: tuple[str, ...] = ("greek", "letters", "cyrillic")
    shots: tuple[int, ...] = (1, 4, 16)
    seed: int = 1
    rank: tuple[int, ...] = (16,)
    learning_rate: tuple[float, ...] = (1e-2, 3e-2)
    base_steps: tuple[int, ...] = (60,)
    steps_per_shot: tuple[int, ...] = (12,)
    batch_size: tuple[int, ...] = (32,)
    crop_minimum: tuple[float, ...] = (0.6,)
    dropout: tuple[float, ...] = (0.25,)


def validation_accuracy(task_name: str, shots: int, method: str, settings: Mapping[str, Any]) -> float:
    """Accuracy of one classifier on the task's validation split; nothing is mirrored unless ``settings`` say so."""
    task = builtin_task(task_name)
    assert task.validation is not None
    given = {**obeyed(method, {"flip": False}), **settings}
    classifier = FewShotClassifier(method=method, **given).fit(task, shots=shots)
    predicted = classifier.predict_proba(task.validation.images).argmax(1)
    return float((predicted == task.validation.labels).mean())


def main(arguments: Arguments) -> None:
    """Try everything, print as it goes, then the table."""
    names = ("learning_rate", "base_steps", "steps_per_shot", "batch_size", "crop_minimum", "rank", "dropout")
    tried = obeyed(arguments.method, {name: getattr(arguments, name) for name in names})
    table = []
    for values in itertools.product(*tried.values()):
        settings = dict(zip(tried, values, strict=True)) | {"seed": arguments.seed}
        cells = list(itertools.product(arguments.tasks, arguments.shots))
        accuracies = [validation_accuracy(task, k, arguments.method, settings) for task, k in cells]
        table.append((statistics.mean(accuracies), settings))
        figures = "  ".join(f"{task}/{k} {accuracy:.3f}" for (task, k), accuracy in zip(cells, accuracies, strict=True))
        print(f"{table[-1][0]:.4f}  {settings}  {figures}", flush=True)
    print("\nbest first")
    for mean, settings in sorted(table, key=lambda row: -row[0]):
        print(f"{mean:.4f}  {settings}")


if __name__ == "__main__":
    main(tyro.cli(Arguments))
