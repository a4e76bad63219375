"""Effect of words: zero-shot accuracy of the built-in model, the same classes put into words in several ways.

    .venv/bin/python benchmarks/prompts.py [--json] [--smoke]

Prints a Markdown table and writes benchmarks/results/<date>-<hardware>-prompts.json.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from measuring import Output, finish

from lowshot import FewShotClassifier
from lowshot.data import builtin_task

TASKS = ("letters", "greek", "digits")
THREE = ("a photo of a {}.", "a picture of a {}.", "a drawing of the {}.")
WAYS: dict[str, dict[str, Any]] = {
    "one template": {},
    "three templates": {"template": THREE},
    "clip-7": {"template": "clip-7"},
    "synonyms": {"class_names": True},
    "three templates, synonyms": {"template": THREE, "class_names": True},
}


def synonyms(class_names: Sequence[str]) -> dict[str, list[str]]:
    """Each name, and the name without its first word: ``digit one`` and ``one``."""
    return {name: [name, name.partition(" ")[2]] for name in class_names}


def main(arguments: Output) -> dict[str, Any]:
    """Measure every way on every test split (for a smoke run one split), print the table, write the figures."""
    torch.set_num_threads(1)  # as the demo: on a busy machine more threads only wait for each other
    tasks = [builtin_task(name) for name in (TASKS[-1:] if arguments.smoke else TASKS)]
    arguments.say("| | " + " | ".join(f"`{task.name}`" for task in tasks) + " |")
    arguments.say("|:--|" + "--:|" * len(tasks))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for way, settings in WAYS.items():
            scores = {}
            for task in tasks:
                file = Path(folder) / f"{task.name}.json"
                file.write_text(json.dumps(synonyms(task.class_names)), encoding="utf-8")
                given = {**settings, "class_names": file if settings.get("class_names") else None}
                scores[task.name] = FewShotClassifier(method="zero-shot", **given).fit(task).score(task)
            arguments.say(f"| {way} | " + " | ".join(f"{score:.1%}" for score in scores.values()) + " |")
            rows.append({"variant": way, "accuracy": scores})
    return finish({"benchmark": "prompts", "rows": rows}, arguments)


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Output))
