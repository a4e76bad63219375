"""The accuracy with classes more on top of adapted towers, beside teaching all classes anew.

    .venv/bin/python benchmarks/one_more.py [--json] [--smoke] [--split validation]

LoRA learns a built-in task but for some of its classes, drawn anew by each seed. Those are then set on top of it: by
their prompts alone, by their shots, and by their shots with known images of the other classes (16 of each at most, of
the training split, that are no shots). All of it taught anew is what that is held against. Prints a line for each case
and writes benchmarks/results/<date>-<hardware>-one-more.json. How rows are made was chosen with ``--split validation``.
"""

from __future__ import annotations

import dataclasses
import statistics
import tempfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro
from measuring import Output, finish
from numpy.typing import NDArray

from lowshot import FewShotClassifier
from lowshot.classifier import saved_adapter
from lowshot.data import Addition, Examples, Task, load_task
from lowshot.evaluation import measures

TASKS = ("digits", "letters", "greek", "cyrillic")
LEFT_OUT = 3
"""Classes that are added; two of the ten digits."""
WAYS = ("before", "prompts alone", "on top", "on top, by known images", "taught anew")
MEASURES = ("old", "new", "all", "ece", "ece_new", "told_new", "told_old")
"""Accuracies of the old classes, the new ones and all; calibration errors of all and of the new ones; and what images
that were held out told of the new and of the old classes."""


@dataclasses.dataclass(frozen=True)
class Arguments(Output):
    """The cases to measure."""

    tasks: tuple[str, ...] = TASKS
    shots: tuple[int, ...] = (4, 16)
    draws: int = 3
    split: Literal["validation", "test"] = "test"


@dataclasses.dataclass(frozen=True)
class Part:
    """A task in two: classes that are learnt first, and those that come later.

    Args:
        whole: All classes, those that come later last.
        old: Those that are learnt first.
        new: The training images of the others.
    """

    whole: Task
    old: Task
    new: Addition

    @classmethod
    def of(cls, task: Task, seed: int) -> Part:
        """Draw the classes that come later."""
        classes = len(task.class_names)
        later = np.random.default_rng(seed).permutation(classes)[: LEFT_OUT if classes > 10 else 2].tolist()
        first = [label for label in range(classes) if label not in later]
        rest = _some(task.train, later)
        names = tuple(task.class_names[label] for label in later)
        return cls(_only(task, [*first, *later]), _only(task, first), Addition(task.name, names, rest))


def _some(examples: Examples, classes: list[int]) -> Examples:
    """The examples of some classes, which they number."""
    place = {label: number for number, label in enumerate(classes)}
    some = examples.subset([row for row, label in enumerate(examples.labels.tolist()) if label in place])
    return dataclasses.replace(some, labels=np.array([place[label] for label in some.labels.tolist()]))


def _only(task: Task, classes: list[int]) -> Task:
    splits = {name: _some(split, classes) for name, split in task.splits().items()}
    return Task(task.name, tuple(task.class_names[label] for label in classes), **splits)  # type: ignore[arg-type]


def judged(table: NDArray[np.float32], labels: NDArray[np.int64], old: int, on_top: dict[str, Any]) -> list[float]:
    """The measures of probabilities ``(N, C)``; not a number where there are none."""
    right, is_old, held_out = table.argmax(1) == labels, labels < old, [float("nan")] * 2
    for place, name in enumerate(("new", "known")):
        if on_top.get(name):
            held_out[place] = on_top[name]["right"] / on_top[name]["images"]
    if table.shape[1] == old:
        return [float(right[is_old].mean()), *[float("nan")] * 4, *held_out]
    errors = [measures(table, labels)["ece"], measures(table[~is_old], labels[~is_old])["ece"]]
    return [*(float(right[rows].mean()) for rows in (is_old, ~is_old, slice(None))), *errors, *held_out]


def measured(task: str, shots: int, draws: int, split: str) -> dict[str, Any]:
    """Means and deviations of the measures over the draws, by the way that classes are added."""
    by_way: dict[str, list[list[float]]] = {way: [] for way in WAYS}
    for seed in range(1, draws + 1):
        part = Part.of(load_task(task), seed)
        examples, old = part.whole.splits()[split], len(part.old.class_names)
        tables = dict(zip(WAYS, ways(part, shots, seed, examples), strict=True))
        for way, (table, on_top) in tables.items():
            by_way[way].append(judged(table, examples.labels, old, on_top))
    of_way: dict[str, Any] = {}
    for way, values in by_way.items():
        columns = list(zip(*values, strict=True))
        of_way[way] = {
            name: [round(statistics.fmean(column), 4), round(statistics.stdev(column), 4) if draws > 1 else None]
            for name, column in zip(MEASURES, columns, strict=True)
            if not np.isnan(column).any()
        }
    return {
        "variant": f"{task} --shots {shots} --method lora, some classes later, judged on {split}",
        **{"task": task, "shots": shots, "draws": draws, "split": split, "ways": of_way},
    }


def ways(part: Part, shots: int, seed: int, examples: Examples) -> list[tuple[NDArray[np.float32], dict[str, Any]]]:
    """Probabilities of the examples, and what held-out images told, for each of ``WAYS``."""
    settings: dict[str, Any] = {"method": "lora", "shots": shots, "seed": seed, "threads": 1}
    first = FewShotClassifier(**settings).fit(part.old)
    later = Task(part.new.name, part.whole.class_names, _later(part))
    known = Task(part.old.name, part.old.class_names, part.old.train)
    tables = [first.predict_proba(examples.images)]
    with tempfile.TemporaryDirectory() as temporary:
        first.save_pretrained(Path(temporary) / "adapter")
        added = [saved_adapter(Path(temporary) / "adapter").add(later, old=old) for old in (None, known)]
    by_prompts = FewShotClassifier(**settings)
    by_prompts._fitted = first._ready()[0], first._ready()[1].with_prompts(added[0].record_.prompts)
    by_prompts.record_, by_prompts.classes_ = added[0].record_, added[0].classes_
    anew = FewShotClassifier(**settings).fit(part.whole)
    tables += [each.predict_proba(examples.images) for each in (by_prompts, *added, anew)]
    return list(zip(tables, ({}, {}, *(each.record_.on_top for each in added), {}), strict=True))


def _later(part: Part) -> Examples:
    """The images of the new classes, labelled as in the whole task."""
    old = len(part.old.class_names)
    return dataclasses.replace(part.new.examples, labels=part.new.examples.labels + old)


def main(arguments: Arguments) -> dict[str, Any]:
    """Measure every case, print the figures and write them."""
    torch.set_num_threads(1)
    cases = [(task, shots) for task in arguments.tasks for shots in arguments.shots]
    rows = []
    for task, shots in cases[:1] if arguments.smoke else cases:
        rows.append(measured(task, shots, 1 if arguments.smoke else arguments.draws, arguments.split))
        for way, values in rows[-1]["ways"].items():
            means = {name: mean for name, (mean, *_) in values.items()}
            arguments.say(f"{task} {shots} {way} {means}")
    return finish({"benchmark": "one-more", "device": "cpu", "rows": rows}, arguments)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
