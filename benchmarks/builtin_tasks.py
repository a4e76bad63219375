"""Difficulty of the built-in tasks: zero-shot, the pixel rival and two adapters with 16 shots, on every test split.

    .venv/bin/python benchmarks/builtin_tasks.py [--json] [--smoke]

Prints a Markdown table and writes benchmarks/results/<date>-<hardware>-builtin-tasks.json: the records with their
provenance.
"""

from __future__ import annotations

import statistics
from typing import Any

import torch
from measuring import Output, finish

from lowshot.bench import demo
from lowshot.data import BUILTIN_TASKS, builtin_task

METHODS = ("zero-shot", "pixel-regression", "lora", "lora-xs")
SHOTS, SEEDS = 16, (1, 2)


def main(arguments: Output) -> dict[str, Any]:
    """Run everything (for a smoke run zero-shot on one task), print the table, write the records."""
    torch.set_num_threads(1)  # as the demo: on a busy machine more threads only wait for each other
    methods, tasks = (METHODS[:1], ("digits",)) if arguments.smoke else (METHODS, tuple(BUILTIN_TASKS))
    records = []
    arguments.say("| task | classes | chance | " + " | ".join(methods) + " |")
    arguments.say("|:--|--:|--:|" + "--:|" * len(methods))
    for name in tasks:
        task = builtin_task(name)
        done = [record for _, record, _ in demo.run(task, demo.cells(methods, (SHOTS,), SEEDS))]
        records += done
        means = [statistics.mean(r.metrics["acc1"] for r in done if r.method == method) for method in methods]
        classes = len(task.class_names)
        figures = " | ".join(f"{100 * figure:.1f}" for figure in (1 / classes, *means))
        arguments.say(f"| `{name}` | {classes} | {figures} |")
    return finish({"benchmark": "builtin-tasks", "records": [record.to_dict() for record in records]}, arguments)


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Output))
