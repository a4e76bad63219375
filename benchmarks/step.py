"""One training step of CLIP-LoRA on random ViT-B/16 weights: as published, and by lowshot's engine.

    .venv/bin/python benchmarks/step.py [--json] [--classes 100] [--batch-size 32]

Each variant runs in a process of its own, so that its peak memory is its own. Prints a table and writes
benchmarks/results/<date>-step.json: seconds per step (median, and all), peak resident set, what was resident before
the first step, the machine's matrix-product rate measured in the same call, and the ratios published / ours.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tyro

VARIANTS = ("published-fp32", "published-bf16", "lowshot-fp32", "lowshot-bf16")
PREDICTED: dict[str, int] = {}
"""What the planner of this process expects, and the cuts it chose."""
IMAGE_TOKENS, PROMPT_TOKENS, PADDED_TOKENS = 197, 10, 77


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Shape of the step."""

    classes: int = 100
    batch_size: int = 32
    steps: int = 3
    """Measured steps, after one that is not."""
    variants: tuple[str, ...] = VARIANTS
    images_per_pass: int | None = None
    prompts_per_pass: int | None = None
    memory_budget: str | None = None
    threads: int | None = None
    json: bool = False
    worker: str | None = None
    """Run this variant and print its figures: what the program calls itself with."""


def arithmetic(classes: int, batch_size: int, prompt_tokens: int) -> float:
    """Floating-point operations that a step needs: both towers forward, and back through their activations."""

    def tower(width: int, tokens: int, sequences: int) -> float:
        products = 12 * (12 * width * width + 2 * tokens * width)  # weights, and the two products of attention
        return 2 * 2.0 * products * tokens * sequences

    return tower(768, IMAGE_TOKENS, batch_size) + tower(512, prompt_tokens, classes)


def matrix_rate(dtype: Any) -> float:
    """Operations per second of large matrix products on this machine, best of five."""
    import torch

    a, b = torch.randn(2048, 2048).to(dtype), torch.randn(2048, 2048).to(dtype)
    best = float("inf")
    for _ in range(6):
        started = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - started)
    return 2 * 2048**3 / best


def resident(field: str) -> int:
    """A line of the kernel's account of this process, bytes: VmRSS now, VmHWM at its highest."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024


def published(arguments: Arguments, bfloat16: bool) -> Callable[[int], float]:
    """A step of the published procedure, as a function of its number."""
    import as_published
    import torch
    from transformers import CLIPModel

    torch.manual_seed(0)
    model = CLIPModel(as_published.vit_b16())
    procedure = as_published.PublishedProcedure(model, as_published.prompts(arguments.classes), bfloat16=bfloat16)
    pixels = torch.randn(arguments.batch_size, 3, 224, 224)
    labels = torch.arange(arguments.batch_size) % arguments.classes
    return lambda _number: procedure.step(pixels, labels)


class TenTokens:
    """Stands for a tokenizer: every prompt has the same random ids that the published procedure is given."""

    def __init__(self, classes: int) -> None:
        import as_published

        self.ids = as_published.prompts(classes)[:, :PROMPT_TOKENS]

    def __call__(self, _prompts: list[str], **how: Any) -> dict[str, Any]:
        import torch

        if "return_tensors" not in how:
            return {"input_ids": self.ids.tolist()}
        return {"input_ids": self.ids, "attention_mask": torch.ones_like(self.ids)}


def lowshot(arguments: Arguments, precision: str) -> Callable[[int], float]:
    """A step of lowshot, cropping from decoded images included, as a function of its number."""
    import as_published
    import numpy as np
    import torch
    from transformers import CLIPModel

    from lowshot.config import preset_recipe
    from lowshot.data import task_of_arrays
    from lowshot.models import Backbone, Identity
    from lowshot.training.optimizers import create_optimizer
    from lowshot.training.weights import WeightsLearner

    torch.manual_seed(0)
    statistics_ = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
    tokenizer: Any = TenTokens(arguments.classes)
    backbone = Backbone(
        CLIPModel(as_published.vit_b16()), tokenizer, *statistics_, Identity("random", None, "", "", {})
    )
    names = ("images_per_pass", "prompts_per_pass", "memory_budget", "batch_size")
    engine = {name: getattr(arguments, name) for name in names}
    recipe = preset_recipe("paper", "lora").replace(precision=precision, **engine)
    learner = WeightsLearner(backbone, [str(c) for c in range(arguments.classes)], recipe)
    pictures = np.random.default_rng(0).integers(0, 255, (arguments.batch_size, 256, 256, 3), dtype=np.uint8)
    labels_of = [str(i % arguments.classes) for i in range(arguments.batch_size)]
    examples = task_of_arrays(list(pictures), labels_of).train
    optimizer = create_optimizer(learner.parameters, recipe.training, backbone.device)
    needs, passes = learner.cuts(arguments.batch_size)
    gradients = learner.exact_step(passes)
    PREDICTED.update(peak_bytes=needs.peak(passes, arguments.classes), **dataclasses.asdict(passes))
    rows, labels = list(range(arguments.batch_size)), torch.from_numpy(examples.labels)

    def step(number: int) -> float:
        optimizer.zero_grad(set_to_none=True)
        with backbone.training():
            loss = gradients.accumulate(number, rows, labels, lambda part: learner._crops(examples, number, list(part)))
        optimizer.step()
        return loss

    return step


def work(arguments: Arguments, variant: str) -> dict[str, Any]:
    """Run one variant in this process."""
    import torch

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    who, precision = variant.split("-")
    step = published(arguments, precision == "bf16") if who == "published" else lowshot(arguments, precision)
    static = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    step(0)
    seconds = []
    for number in range(1, arguments.steps + 1):
        started = time.perf_counter()
        step(number)
        seconds.append(time.perf_counter() - started)
    peak = resident("VmHWM")
    dtype = torch.float32 if precision == "fp32" else torch.bfloat16
    tokens = PADDED_TOKENS if who == "published" else PROMPT_TOKENS
    return {
        "variant": variant,
        "seconds": seconds,
        "median_seconds": statistics.median(seconds),
        "peak_bytes": peak,
        "static_bytes": static,
        "arithmetic": arithmetic(arguments.classes, arguments.batch_size, tokens),
        "matrix_rate": matrix_rate(dtype),
        "threads": torch.get_num_threads(),
        "predicted": PREDICTED,
    }


def _planned(row: dict[str, Any]) -> str:
    predicted = row["predicted"]
    if not predicted:
        return ""
    off = predicted["peak_bytes"] / row["peak_bytes"] - 1
    return f"  planned {predicted['images']} images, {predicted['prompts']} prompts: {off:+.1%}"


def ratios(rows: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Published over ours, where both were run."""

    def over(field: str, one: str, other: str) -> float | None:
        return rows[one][field] / rows[other][field] if one in rows and other in rows else None

    found = {
        "time_ratio": over("median_seconds", "published-fp32", "lowshot-bf16"),
        "time_ratio_same_precision": over("median_seconds", "published-bf16", "lowshot-bf16"),
        "time_ratio_fp32": over("median_seconds", "published-fp32", "lowshot-fp32"),
        "memory_ratio": over("peak_bytes", "published-fp32", "lowshot-bf16"),
        "memory_ratio_same_precision": over("peak_bytes", "published-bf16", "lowshot-bf16"),
        "memory_ratio_fp32": over("peak_bytes", "published-fp32", "lowshot-fp32"),
        "arithmetic_ratio": over("arithmetic", "lowshot-fp32", "published-fp32"),
    }
    return {name: value for name, value in found.items() if value is not None}


def main(arguments: Arguments) -> None:
    """Run all variants, print, write."""
    if arguments.worker:
        print(json.dumps(work(arguments, arguments.worker)))
        return
    from write_result import write_result

    from lowshot.records import provenance

    rows = {}
    for variant in arguments.variants:
        command = [sys.executable, __file__, *sys.argv[1:], "--worker", variant]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        row = rows[variant] = json.loads(done.stdout.splitlines()[-1])
        row["share_of_matrix_rate"] = row["arithmetic"] / row["median_seconds"] / row["matrix_rate"]
        if not arguments.json:
            print(
                f"{variant:<16} {row['median_seconds']:7.2f} s/step  peak {row['peak_bytes'] / 1e9:6.2f} GB  "
                f"before {row['static_bytes'] / 1e9:5.2f} GB  {row['matrix_rate'] / 1e9:6.0f} GFLOP/s  "
                f"share {row['share_of_matrix_rate']:5.1%}{_planned(row)}",
                flush=True,
            )
    result = {
        "benchmark": "step" if arguments.classes == 100 else f"step-{arguments.classes}-classes",
        "shape": {"classes": arguments.classes, "batch_size": arguments.batch_size, "model": "ViT-B/16, random"},
        **ratios(rows),
        "rows": list(rows.values()),
        "provenance": provenance(),
    }
    path = write_result(result)
    print(json.dumps(result) if arguments.json else f"{json.dumps(ratios(rows), indent=2)}\nwrote {path}")


if __name__ == "__main__":
    main(tyro.cli(Arguments))
