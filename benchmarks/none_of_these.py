"""The telling of images of none of the classes, and whether the share of known ones that is turned away is kept.

    .venv/bin/python benchmarks/none_of_these.py [--json] [--smoke] [--methods proker lora]
    .venv/bin/python benchmarks/none_of_these.py --data clothing --model photos --shots 4 16 --draws 10

Half of a task's classes, drawn anew by each seed, are learnt from a few shots; test images of the other half are
unknown. The tasks are built in; or one is a folder with a training and a test split. Prints a line for each case and
writes benchmarks/results/<date>-<hardware>-none-of-these.json, with the methods in its name where not all are measured,
for a folder ...-none-of-these-<folder>.json.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import Output, finish, part_of
from numpy.typing import NDArray

from lowshot import FewShotClassifier
from lowshot.data import Examples, Task, load_task
from lowshot.data.builtin import BUILTIN_TASKS
from lowshot.evaluation import accepted_share, belonging_scores, probabilities, roc_area
from lowshot.methods import method_spec

REJECT, FOLDS = 0.05, 4
MEASURES = ("acc1", "auroc", "auroc_of_probability", "accepted", "accepted_by_probability", "known_turned_away")


@dataclasses.dataclass(frozen=True)
class Case:
    """A method on a task, with several draws of the classes and of the shots."""

    task: str
    """A built-in task, or a folder."""
    method: str
    draws: int
    model: str = "builtin"
    shots: int = 16

    @property
    def name(self) -> str:
        """The task's, of a folder without the way to it."""
        return Path(self.task).name


CASES = (
    *(Case(task, "proker", 20) for task in BUILTIN_TASKS),
    *(Case(task, "lora", 2) for task in ("letters", "greek", "cyrillic")),
)


@dataclasses.dataclass(frozen=True)
class Arguments(Output):
    """The cases to measure."""

    methods: tuple[str, ...] = tuple(dict.fromkeys(case.method for case in CASES))
    """Methods to measure. Those on frozen features take minutes, each training inside the towers some of its own; of a
    folder they alone are."""
    data: str | None = None
    """A folder with train and test below it, in place of the built-in tasks."""
    model: str = "builtin"
    """The model for a folder."""
    shots: tuple[int, ...] = (16,)
    """Images of each class of a folder, one case each."""
    draws: int = 20
    """Draws of a folder's classes and shots."""

    @property
    def cases(self) -> list[Case]:
        """The cases that are measured: all, or for a smoke run one draw of the first."""
        cases = [case for case in CASES if case.method in self.methods]
        if self.data is not None:
            heads = [method for method in self.methods if method_spec(method).kind == "features"]
            cases = [Case(self.data, each, self.draws, self.model, shots) for each in heads for shots in self.shots]
        return [dataclasses.replace(cases[0], draws=1)] if self.smoke else cases


def half(task: Task, seed: int) -> tuple[Task, NDArray[np.int64]]:
    """Half of a task's classes to learn, and the new number of each class, -1 for one that is unknown."""
    classes = len(task.class_names)
    learnt = np.sort(np.random.default_rng(seed).permutation(classes)[: classes // 2])
    number = np.full(classes, -1)
    number[learnt] = np.arange(len(learnt))
    rows = np.flatnonzero(number[task.train.labels] >= 0)
    train = task.train.subset(rows)
    part = Examples(train.images, number[train.labels], train.identities)
    return Task(f"half of {task.name}", tuple(task.class_names[c] for c in learnt), part), number


def measured(case: Case) -> dict[str, Any]:
    """Mean and deviation of the measures over the draws."""
    task, draws = load_task(case.task), []
    if task.test is None:
        raise SystemExit(f"{case.task} has no test split; expected a folder with train and test below it")
    folds = FOLDS if method_spec(case.method).kind == "weights" else 0
    for seed in range(1, case.draws + 1):
        part, number = half(task, seed)
        classifier = FewShotClassifier(
            case.model, method=case.method, shots=case.shots, seed=seed, reject=REJECT, calibration_folds=folds
        ).fit(part)
        learner = classifier._ready()[1]
        truth = number[task.test.labels]
        known = truth >= 0
        # Of the same object each time, so that a frozen tower sees the images once.
        table = probabilities(learner, task.test.images)
        scores = belonging_scores(classifier.belonging, learner, task.test.images)
        held_out, sure = classifier.belonging.held_out, table.max(1)
        away = np.array([held_out.none_of_these(each) for each in held_out.p_values(scores)])
        values = (
            (table.argmax(1) == truth)[known].mean(),
            roc_area(scores[known], scores[~known]),
            roc_area(sure[known], sure[~known]),
            accepted_share(scores[known], scores[~known]),
            accepted_share(sure[known], sure[~known]),
            away[known].mean(),
        )
        draws.append(values)
    table = np.array(draws, dtype=np.float64)
    deviations = table.std(0, ddof=1) if len(table) > 1 else np.full(len(MEASURES), math.nan)
    figures = {
        name: [round(float(mean), 4), None if math.isnan(each) else round(float(each), 4)]
        for name, mean, each in zip(MEASURES, table.mean(0), deviations, strict=True)
    }
    variant = f"half of {case.name} --shots {case.shots} --method {case.method} --reject {REJECT}"
    variant += "" if case.model == "builtin" else f" --model {case.model}"
    facts = {"task": case.name, "method": case.method, "model": case.model, "shots": case.shots, "draws": len(table)}
    return {"variant": variant, **facts, **figures}


def main(arguments: Arguments) -> dict[str, Any]:
    """Measure every case, print the figures and write them."""
    torch.set_num_threads(1)
    rows = []
    for case in arguments.cases:
        rows.append(measured(case))
        arguments.say(rows[-1])
    name = "none-of-these" if arguments.data is None else f"none-of-these-{Path(arguments.data).name}"
    part = part_of(arguments.methods, Arguments.methods) if arguments.data is None else {}
    return finish({"benchmark": name, "reject": REJECT, "rows": rows, **part}, arguments)


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Arguments))
