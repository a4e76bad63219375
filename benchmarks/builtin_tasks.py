"""How hard the built-in tasks are: zero-shot, the pixel rival and two adapters with 16 shots, on every test split.

    .venv/bin/python benchmarks/builtin_tasks.py

Prints a Markdown table and writes benchmarks/results/<date>-builtin-tasks.json: the records with their provenance.
"""

from __future__ import annotations

import statistics

import torch
from write_result import write_result

from lowshot.bench import demo
from lowshot.data import BUILTIN_TASKS, builtin_task

METHODS = ("zero-shot", "pixel-regression", "lora", "lora-xs")
SHOTS, SEEDS = 16, (1, 2)


def main() -> None:
    """Run everything, print the table, write the records."""
    torch.set_num_threads(1)  # as the demo: on a busy machine more threads only wait for each other
    records = []
    print("| task | classes | chance | " + " | ".join(METHODS) + " |")
    print("|:--|--:|--:|" + "--:|" * len(METHODS))
    for name in BUILTIN_TASKS:
        task = builtin_task(name)
        done = [record for _, record, _ in demo.run(task, demo.cells(METHODS, (SHOTS,), SEEDS))]
        records += done
        means = [statistics.mean(r.metrics["accuracy"] for r in done if r.method == method) for method in METHODS]
        classes = len(task.class_names)
        figures = " | ".join(f"{100 * figure:.1f}" for figure in (1 / classes, *means))
        print(f"| `{name}` | {classes} | {figures} |", flush=True)
    path = write_result({"benchmark": "builtin-tasks", "records": [record.to_dict() for record in records]})
    print(f"\nwrote {path}")


if __name__ == "__main__":
    main()
