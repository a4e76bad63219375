"""One training step of CLIP-LoRA on random ViT-B/16 weights: as published, and by lowshot's engine.

    .venv/bin/python benchmarks/step.py [--json] [--smoke] [--device cuda] [--classes 100] [--batch-size 32]

Each variant runs in a process of its own, so that its peak memory is its own. Prints a table and writes
benchmarks/results/<date>-<hardware>-step.json: seconds per step (median, and all), memory before the first step and on
top of it, the rate of matrix products measured in the same call, and the ratios published / ours.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from cases import Case
from measuring import Measuring, Rows, finish, measured, published_in_16_bits, published_over_ours, ratios, result_of


@dataclasses.dataclass(frozen=True)
class Arguments(Measuring):
    """Shape of the step."""

    steps: int = 3
    """Measured steps, after one that is not."""
    variants: tuple[str, ...] | None = None
    """Some of published-fp32, published-bf16 (on CUDA published-fp16), the same as published-fused-..., lowshot-fp32
    and lowshot-bf16; all if not given."""
    images_per_pass: int | None = None
    prompts_per_pass: int | None = None
    memory_budget: str | None = None


def cases(arguments: Arguments) -> list[Case]:
    """The variants."""
    length: dict[str, Any] = {"steps": arguments.steps, "warm_up": 5 if arguments.on_cuda else 1}
    cuts = {name: getattr(arguments, name) for name in ("images_per_pass", "prompts_per_pass", "memory_budget")}
    every = [
        *(
            arguments.case(f"{way}-{precision}", way, precision=precision, **length)
            for way in ("published", "published-fused")
            for precision in ("fp32", published_in_16_bits(arguments))
        ),
        *(
            arguments.case(f"lowshot-{precision}", "lowshot", precision=precision, **cuts, **length)
            for precision in ("fp32", "bf16")
        ),
    ]
    if arguments.variants is None:
        return every
    unknown = sorted(set(arguments.variants) - {case.variant for case in every})
    if unknown:
        raise SystemExit(f"no variant {', '.join(unknown)}; there are {', '.join(case.variant for case in every)}")
    return [case for case in every if case.variant in arguments.variants]


def figures(rows: Rows) -> dict[str, float]:
    """Published over ours, where both were measured."""
    narrow = "published-fused-fp16" if "published-fused-fp16" in rows else "published-fused-bf16"
    more = {
        "arithmetic_ratio": ("arithmetic", "published-fp32", "lowshot-fp32"),
        "time_ratio_fused_same_precision": ("median_seconds", narrow, "lowshot-bf16"),
        "time_ratio_fused_fp32": ("median_seconds", "published-fused-fp32", "lowshot-fp32"),
        "memory_ratio_fused_same_precision": ("peak_bytes", narrow, "lowshot-bf16"),
        "memory_ratio_fused_fp32": ("peak_bytes", "published-fused-fp32", "lowshot-fp32"),
    }
    return published_over_ours(rows, wide="lowshot-fp32", narrow="lowshot-bf16") | ratios(rows, more)


def main(arguments: Arguments) -> dict[str, Any]:
    """Measure, print, write; returns the result."""
    rows = measured(cases(arguments), arguments)
    name = "step" if arguments.classes == Arguments.classes or arguments.smoke else f"step-{arguments.classes}-classes"
    return finish(result_of(name, arguments, rows, figures(rows)), arguments)


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Arguments))
