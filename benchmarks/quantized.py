"""QLoRA against LoRA, both by lowshot's engine, and the published QLoRA: time, memory and bytes of the weights.

    .venv/bin/python benchmarks/quantized.py [--json] [--smoke] [--device cuda]

Random ViT-B/16 weights, 32 images, 100 classes, each row from a process of its own. The published QLoRA trains the
image tower alone (as_published.py says why), with 32 images at once, and with gradient checkpointing four at a time,
as its authors measured it; `qlora-vision` is lowshot's on the same work. Prints a table and writes
benchmarks/results/<date>-<hardware>-quantized.json.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from cases import Case
from measuring import Measuring, Rows, finish, measured, ratios, result_of

ROWS: dict[str, dict[str, Any]] = {
    "lora-fp32": {"precision": "fp32"},
    "lora-bf16": {"precision": "bf16"},
    "qlora": {"method": "qlora", "precision": "bf16"},
    "qlora-checkpointing": {"method": "qlora", "precision": "bf16", "gradient_checkpointing": True},
    "lora-int8": {"quantize": "int8", "precision": "bf16"},
    "qlora-vision": {"method": "qlora", "precision": "bf16", "encoder": "vision"},
}
"""lowshot's rows -> settings."""
SMALLEST = {"method": "qlora", "precision": "bf16", "gradient_checkpointing": True, "memory_budget": "0.17GB"}
"""The published peak of QLoRA with gradient checkpointing. On a CPU torch alone takes more."""


@dataclasses.dataclass(frozen=True)
class Arguments(Measuring):
    """Shape of the step."""

    steps: int = 3
    """Measured steps, after one that is not (five on CUDA)."""


def cases(arguments: Arguments) -> list[Case]:
    """Ours, and as published."""
    length: dict[str, Any] = {"steps": arguments.steps, "warm_up": 5 if arguments.on_cuda else 1}
    published = {
        "published-qlora": {"images_per_pass": arguments.batch_size, "checkpointing": False},
        "published-qlora-checkpointing": {"images_per_pass": max(1, arguments.batch_size // 8), "checkpointing": True},
    }
    ours = {**ROWS, "qlora-in-0.17GB": SMALLEST} if arguments.on_cuda else ROWS
    return [
        *(arguments.case(name, "lowshot", **settings, **length) for name, settings in ours.items()),
        *(arguments.case(name, "published-qlora", **settings, **length) for name, settings in published.items()),
    ]


def figures(rows: Rows) -> dict[str, float]:
    """Published over ours, in the same precision and on the same work too; and QLoRA over LoRA, both ours."""
    return ratios(
        rows,
        {
            "time_ratio": ("median_seconds", "published-qlora", "qlora"),
            "time_ratio_same_precision": ("median_seconds", "published-qlora", "qlora"),  # bfloat16 on NF4, both
            "time_ratio_same_work": ("median_seconds", "published-qlora", "qlora-vision"),
            "memory_ratio": ("peak_bytes", "published-qlora", "qlora"),
            "memory_ratio_same_work": ("peak_bytes", "published-qlora", "qlora-vision"),
            "memory_ratio_checkpointing": ("peak_bytes", "published-qlora-checkpointing", "qlora-checkpointing"),
            "qlora_time_over_lora": ("median_seconds", "qlora", "lora-bf16"),
            "qlora_memory_over_lora": ("peak_bytes", "qlora", "lora-bf16"),
            "qlora_stored_over_lora": ("stored_bytes", "qlora", "lora-bf16"),
        },
    )


def main(arguments: Arguments) -> dict[str, Any]:
    """Measure, print, write; returns the result."""
    rows = measured(cases(arguments), arguments)
    return finish(result_of("quantized", arguments, rows, figures(rows)), arguments)


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Arguments))
