"""Levers of the engine measured alone, each against the plain way in the same run; and where a step's time goes.

    .venv/bin/python benchmarks/levers.py

Prints tables and writes benchmarks/results/<date>-levers.json.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import step as step_benchmark
import torch
from torch import Tensor
from write_result import write_result

from lowshot.adapters.dropout import _levels
from lowshot.models.blocks import _mix_by_products, _mix_fused
from lowshot.records import provenance

IMAGES, HEADS, TOKENS, WIDTH = 4, 12, 197, 64
GROUPS = {
    "matrix products": ("aten::mm", "aten::addmm", "aten::bmm"),
    "copies and casts": ("aten::copy_",),
    "element by element": ("aten::mul", "aten::mul_", "aten::add", "aten::add_", "aten::sub", "aten::sigmoid_"),
    "softmax": ("aten::_softmax", "aten::_softmax_backward_data"),
    "layer norms": ("aten::native_layer_norm", "aten::native_layer_norm_backward"),
}


def milliseconds(work: Callable[[], Any], repeats: int = 15) -> dict[str, float]:
    """Median, least and most of several runs, after one that is not counted."""
    work()
    found = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        found.append(1e3 * (time.perf_counter() - started))
    return {"median": statistics.median(found), "least": min(found), "most": max(found)}


def attention(mix: Callable[..., Tensor], dtype: torch.dtype) -> dict[str, float]:
    """Forward and back through attention of four images of ViT-B/16."""
    generator = torch.Generator().manual_seed(0)
    shape = (IMAGES, TOKENS, HEADS, WIDTH)
    inputs = [torch.randn(shape, generator=generator).to(dtype).transpose(1, 2) for _ in range(3)]
    gradient = torch.randn(inputs[0].shape, generator=generator).to(dtype)

    def work() -> None:
        query, key, value = (tensor.detach().requires_grad_() for tensor in inputs)
        mix(query, key, value, None, False, WIDTH**-0.5).backward(gradient)

    return milliseconds(work)


def masks() -> dict[str, dict[str, float]]:
    """A dropout mask of one image's tokens, by torch and by ``SampleDropout``'s generator."""
    count = TOKENS * HEADS * WIDTH
    generator, row = torch.Generator(), torch.empty(count)

    def by_torch() -> None:
        generator.manual_seed(5)
        row.bernoulli_(0.75, generator=generator)

    def by_levels() -> None:
        torch.from_numpy((_levels(count, 1, 2, 3, 4) >= 16384).view(np.uint8))

    return {"torch": milliseconds(by_torch), "sfc64": milliseconds(by_levels)}


def shares() -> dict[str, float]:
    """Where the time of a bf16 step of eight images and 100 prompts goes, as shares."""
    work = step_benchmark.lowshot(step_benchmark.Arguments(batch_size=8), "bf16")
    work(0)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        work(1)
    times = {event.key: event.self_cpu_time_total for event in profile.key_averages()}
    whole = sum(times.values())
    found = {name: sum(times.get(key, 0) for key in keys) / whole for name, keys in GROUPS.items()}
    return {**found, "all else": 1 - sum(found.values())}


def main() -> None:
    """Measure, print, write."""
    result: dict[str, Any] = {"benchmark": "levers", "attention": {}, "masks": masks()}
    for name, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        for way, mix in (("fused", _mix_fused), ("written out", _mix_by_products)):
            row = result["attention"][f"{way}, {name}"] = attention(mix, dtype)
            print(f"attention {way:<12} {name}  {row['median']:6.1f} ms ({row['least']:.1f} to {row['most']:.1f})")
    for way, row in result["masks"].items():
        print(f"mask of an image by {way:<6}  {row['median']:6.3f} ms ({row['least']:.3f} to {row['most']:.3f})")
    result["shares"] = shares()
    for name, share in result["shares"].items():
        print(f"{name:<20} {share:6.1%}")
    print(f"wrote {write_result({**result, 'provenance': provenance()})}")


if __name__ == "__main__":
    main()
