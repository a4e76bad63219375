"""Learning rates for LoRA-XS, under both published conventions of its scaling g.

    .venv/bin/python benchmarks/lora_xs_learning_rate.py [--json] [--smoke]

The seed's convention (CLIP-LoRA-XS) is g = alpha/sqrt(r) with alpha 1, the official one g = alpha/r with alpha 16.
AdamW's steps do not depend on the size of the gradient, so what should count is the product of learning rate and g:
the table shows whether it does. Accuracy is that of validation splits; test splits and ``digits`` are not looked at.
Prints a Markdown table and writes benchmarks/results/<date>-<hardware>-lora-xs-learning-rate.json.
"""

from __future__ import annotations

import dataclasses
import itertools
import statistics
from typing import Any

import torch
from measuring import Output, finish

from lowshot import FewShotClassifier
from lowshot.data import builtin_task
from lowshot.errors import RunError

CONVENTIONS = {
    "seed": {"alpha": 1.0, "scaling": "sqrt-rank"},
    "official": {"alpha": 16.0, "scaling": "rank"},
}


@dataclasses.dataclass(frozen=True)
class Arguments(Output):
    """Every combination is trained; for a smoke run the first of each, with one shot and in two steps."""

    tasks: tuple[str, ...] = ("greek", "letters")
    shots: int = 4
    seeds: tuple[int, ...] = (1, 2)
    rank: tuple[int, ...] = (4, 16)
    learning_rate: tuple[float, ...] = (6.25e-4, 1.25e-3, 2.5e-3, 5e-3, 1e-2, 2e-2, 4e-2)


def validation_accuracy(task_name: str, shots: int, **settings: Any) -> float:
    """Accuracy on the validation split; 0 where training diverged."""
    task = builtin_task(task_name)
    assert task.validation is not None
    try:
        classifier = FewShotClassifier(method="lora-xs", **settings).fit(task, shots=shots)
    except RunError:
        return 0.0
    predicted = classifier.predict_proba(task.validation.images).argmax(1)
    return float((predicted == task.validation.labels).mean())


def main(arguments: Arguments) -> dict[str, Any]:
    """Train everything, print one line for each convention, rank and learning rate, write the rows."""
    torch.set_num_threads(1)
    steps: dict[str, Any] = {}
    if arguments.smoke:
        steps = {"base_steps": 1, "steps_per_shot": 1}
        first = {name: getattr(arguments, name)[:1] for name in ("tasks", "seeds", "rank", "learning_rate")}
        arguments = dataclasses.replace(arguments, shots=1, **first)
    rows = []
    arguments.say("| convention | rank | g | learning rate | g x learning rate | accuracy % |")
    arguments.say("|:--|--:|--:|--:|--:|--:|")
    for name, rank, rate in itertools.product(CONVENTIONS, arguments.rank, arguments.learning_rate):
        convention: dict[str, Any] = CONVENTIONS[name]
        g = convention["alpha"] / (rank if convention["scaling"] == "rank" else rank**0.5)
        accuracies = [
            validation_accuracy(task, arguments.shots, rank=rank, learning_rate=rate, seed=seed, **convention, **steps)
            for task, seed in itertools.product(arguments.tasks, arguments.seeds)
        ]
        row = {"convention": name, "rank": rank, "g": g, "learning_rate": rate, "accuracies": accuracies}
        rows.append(row)
        mean = 100 * statistics.mean(accuracies)
        arguments.say(f"| {name} | {rank} | {g:g} | {rate:g} | {g * rate:.2g} | {mean:.1f} |")
    settings = {name: getattr(arguments, name) for name in ("tasks", "shots", "seeds", "rank", "learning_rate")}
    return finish({"benchmark": "lora-xs-learning-rate", "settings": settings, "rows": rows}, arguments)


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Arguments))
