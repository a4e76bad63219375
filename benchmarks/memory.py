"""Memory of training by method and base, on random ViT-B/16 weights: before the first step, on top of it, predicted.

    .venv/bin/python benchmarks/memory.py [--json] [--smoke] [--device cuda] [--memory-budget 1.5GB]

Each row comes from a process of its own. On a CPU memory is the resident set of the whole process, Python and torch
included; on CUDA what is allocated, and beside it what the allocator holds of the device. Prints a table and writes
benchmarks/results/<date>-<hardware>-memory.json.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from cases import Case
from measuring import (
    Measuring,
    Rows,
    finish,
    measured,
    prediction_error,
    published_in_16_bits,
    published_over_ours,
    ratios,
    result_of,
)

from lowshot.settings import parse_bytes

METHODS: dict[str, dict[str, Any]] = {
    "lora-fp32": {"precision": "fp32"},
    "lora-bf16": {"precision": "bf16"},
    "lora-xs": {"method": "lora-xs"},
    "dora": {"method": "dora"},
    "layernorm": {"method": "layernorm"},
    "full": {"method": "full"},
    "qlora": {"method": "qlora", "precision": "bf16"},
    "qlora-checkpointing": {"method": "qlora", "precision": "bf16", "gradient_checkpointing": True},
}
"""Row -> settings; the base is in float32 where nothing else is said, that of QLoRA in NF4 with bfloat16."""


@dataclasses.dataclass(frozen=True)
class Arguments(Measuring):
    """Shape of the step."""

    memory_budget: str | None = None
    """Budget that lora-bf16 has to keep to once more; by default 1.5GB on a CPU, where torch alone takes a third of
    that, and 0.5GB on CUDA."""
    steps: int = 2
    """Measured steps, after one that is not (five on CUDA)."""


def cases(arguments: Arguments) -> list[Case]:
    """The published step, each method, and a budget."""
    length: dict[str, Any] = {"steps": arguments.steps, "warm_up": 5 if arguments.on_cuda else 1}
    budget = arguments.memory_budget or ("0.5GB" if arguments.on_cuda else "1.5GB")
    if arguments.smoke:
        budget = arguments.memory_budget or "30GB"
    return [
        *(
            arguments.case(f"published-{precision}", "published", precision=precision, **length)
            for precision in ("fp32", published_in_16_bits(arguments))
        ),
        *(arguments.case(name, "lowshot", **settings, **length) for name, settings in METHODS.items()),
        arguments.case(f"lora-bf16-in-{budget}", "lowshot", precision="bf16", memory_budget=budget, **length),
    ]


def figures(rows: Rows) -> dict[str, float]:
    """Published over ours, the planner's worst errors, and how much of its budget the last row took."""
    ratios_of = published_over_ours(rows, wide="lora-fp32", narrow="lora-bf16") | ratios(
        rows,
        {
            "memory_ratio_qlora": ("peak_bytes", "published-fp32", "qlora"),
            "memory_ratio_qlora_checkpointing": ("peak_bytes", "published-fp32", "qlora-checkpointing"),
        },
    )
    done = {name: row for name, row in rows.items() if "failed" not in row}
    errors = [error for row in done.values() if (error := prediction_error(row)) is not None]
    if errors:
        ratios_of |= {"predicted_too_low": max(0.0, -min(errors)), "predicted_too_high": max(0.0, *errors)}
    for row in done.values():
        if row["settings"].get("memory_budget"):
            ratios_of["share_of_budget"] = row["peak_bytes"] / parse_bytes(
                "memory-budget", row["settings"]["memory_budget"]
            )
    return ratios_of


def main(arguments: Arguments) -> dict[str, Any]:
    """Measure, print, write; returns the result."""
    rows = measured(cases(arguments), arguments)
    return finish(result_of("memory", arguments, rows, figures(rows)), arguments)


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Arguments))
