"""The worth of calibration: how far probabilities are off without it and with it, on built-in tasks.

    .venv/bin/python benchmarks/calibration.py [--json] [--smoke] [--methods gda proker]

Prints a line for each case and writes benchmarks/results/<date>-<hardware>-calibration.json, with the methods in its
name where not all are measured.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from measuring import Output, finish, part_of

from lowshot import FewShotClassifier
from lowshot.data import builtin_task


@dataclasses.dataclass(frozen=True)
class Case:
    """A fit that is judged without calibration and with it."""

    task: str
    shots: int
    method: str
    folds: int

    @property
    def command(self) -> str:
        """The arguments of ``lowshot fit``."""
        return f"{self.task} --shots {self.shots} --method {self.method} --calibration-folds {self.folds}"


CASES = (
    Case("digits", 16, "zero-shot", 2),
    Case("letters", 16, "zero-shot", 2),
    Case("letters", 4, "gda", 4),
    Case("letters", 8, "proker", 4),
    Case("digits", 16, "lora-xs", 5),
    Case("letters", 8, "lora-xs", 4),
    Case("letters", 8, "lora-xs", 8),
)
MEASURES = ("acc1", "ece", "nll")


@dataclasses.dataclass(frozen=True)
class Arguments(Output):
    """The cases to measure."""

    methods: tuple[str, ...] = tuple(dict.fromkeys(case.method for case in CASES))
    """Methods to measure: those on frozen features take a minute, lora-xs trains once more for each fold."""


def measured(case: Case) -> dict[str, Any]:
    """The measures on the test split, and the temperature."""
    task, rows = builtin_task(case.task), {}
    for name, folds in (("plain", 0), ("calibrated", case.folds)):
        classifier = FewShotClassifier(method=case.method, shots=case.shots, calibration_folds=folds).fit(task)
        measures = classifier.evaluate(task)
        rows[name] = {measure: measures[measure] for measure in MEASURES}
    return {"variant": case.command, "temperature": classifier.calibration.temperature, **rows}


def main(arguments: Arguments) -> dict[str, Any]:
    """Measure every case (for a smoke run the first), print the figures and write them."""
    torch.set_num_threads(1)  # as the demo: on a busy machine more threads only wait for each other
    rows = []
    chosen = [case for case in CASES if case.method in arguments.methods]
    for case in CASES[:1] if arguments.smoke else chosen:
        rows.append(measured(case))
        arguments.say(rows[-1])
    part = part_of(arguments.methods, Arguments.methods)
    return finish({"benchmark": "calibration", "rows": rows, **part}, arguments)


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Arguments))
