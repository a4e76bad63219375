"""A whole training run of one shot at Caltech101's shape: 100 classes, 500 steps of 32 images, random ViT-B/16 weights.

    .venv/bin/python benchmarks/training.py [--json] [--smoke] [--device cuda] [--steps 500]

From the first step to the last, without loading and evaluation. lowshot's run is ``fit`` as a user calls it: it crops
from decoded photos at every step. The published one is given its pixels ready. Prints a table and writes
benchmarks/results/<date>-<hardware>-training.json. On two cores of a CPU this takes hours: it is for a GPU.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from cases import Case
from measuring import Measuring, Rows, finish, measured, published_in_16_bits, published_over_ours, result_of


@dataclasses.dataclass(frozen=True)
class Arguments(Measuring):
    """Length of the run."""

    steps: int = 500


def cases(arguments: Arguments) -> list[Case]:
    """As published in 16 bits, and lowshot in bfloat16; in float32 it is the step that is compared (step.py)."""
    how: dict[str, Any] = {"steps": arguments.steps, "warm_up": 0, "whole_run": True}
    narrow = published_in_16_bits(arguments)
    return [
        arguments.case(f"published-{narrow}", "published", precision=narrow, **how),
        arguments.case("lowshot-bf16", "lowshot", precision="bf16", **how),
    ]


def figures(rows: Rows) -> dict[str, float]:
    """Published over ours: what the authors run, which is in 16 bits."""
    same = published_over_ours(rows, wide="lowshot-fp32", narrow="lowshot-bf16")
    return same | {name: same[f"{name}_same_precision"] for name in ("time_ratio", "memory_ratio") if same}


def main(arguments: Arguments) -> dict[str, Any]:
    """Measure, print, write; returns the result."""
    rows = measured(cases(arguments), arguments)
    return finish(result_of("training", arguments, rows, figures(rows)), arguments)


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Arguments))
