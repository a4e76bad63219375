"""The aims of a call to ``gpu.py``, and whether its rows reach them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

TARGETS: dict[str, tuple[float, float]] = {
    "step_time_ratio_published_fp16": (10.0, math.inf),
    "step_time_ratio_published_fused": (7.0, math.inf),
    "share_of_matrix_rate": (0.30, math.inf),
    "peak_over_published": (0.0, 1 / 3),
    "training_seconds": (0.0, 6.0),
    "qlora_time_over_lora": (0.0, 1.10),
    "qlora_smallest_budget_gb": (0.0, 0.2),
    "budget_0.5GB_time_ratio": (0.0, 2.0),
    "planner_error": (-0.05, 0.15),
    "judging_share": (0.9, math.inf),
    "bank_10000_share": (0.9, math.inf),
    "bank_over_peft": (5.0, math.inf),
    "together_runs_ratio": (5.0, math.inf),
    "kernels_per_step": (0.0, 1200.0),
}
"""What is aimed at: from, to. All of a ViT-B/16, 32 images and 100 classes."""
_SMALLEST = ("qlora-smallest", "qlora-smallest-checkpointing")


def figures(parts: Mapping[str, Mapping[str, Any]]) -> dict[str, float | None]:
    """The figures that the aims are about; None where one could not be measured."""

    def of(part: str, variant: str, field: str = "median_seconds") -> float | None:
        rows = parts.get(part, {}).get("rows", ())
        return next((row.get(field) for row in rows if row["variant"] == variant), None)

    def over(above: float | None, below: float | None) -> float | None:
        return None if above is None or below is None else above / below

    low, high = TARGETS["planner_error"]
    errors = [row["error"] for row in parts.get("memory", {}).get("rows", ()) if "error" in row]
    budgets = [of("quantized", name, "smallest_budget_bytes") for name in _SMALLEST]
    whole = of("training", "training", "stopped") is None
    return {
        "step_time_ratio_published_fp16": over(of("step", "published"), of("step", "lowshot")),
        "step_time_ratio_published_fused": over(of("step", "published-fused"), of("step", "lowshot")),
        "share_of_matrix_rate": of("step", "lowshot", "share_of_matrix_rate"),
        "peak_over_published": over(of("step", "lowshot", "peak_bytes"), of("step", "published", "peak_bytes")),
        "training_seconds": of("training", "training", "train_seconds") if whole else None,
        "qlora_time_over_lora": over(of("quantized", "qlora-whole"), of("quantized", "lora-whole")),
        "qlora_smallest_budget_gb": min((each / 1e9 for each in budgets if each is not None), default=None),
        "budget_0.5GB_time_ratio": over(of("quantized", "lora-0.5GB"), of("quantized", "lowshot")),
        "planner_error": max(errors, key=lambda error: abs(error - (low + high) / 2), default=None),
        "judging_share": of("judging", "judging", "share_of_forward"),
        "bank_10000_share": over(of("serving", "single"), of("serving", "bank-10000")),
        "bank_over_peft": over(of("serving", "peft-different"), of("serving", "bank-different")),
        "together_runs_ratio": over(of("together", "alone-8"), of("together", "together-8")),
        "kernels_per_step": of("profile", "replayed", "kernels"),
    }


def aims(parts: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Each aim, its figure, and whether that is enough; without figures that were not measured."""
    judged = {}
    for name, value in figures(parts).items():
        low, high = TARGETS[name]
        if value is not None:
            aim = f"at least {low:g}" if high == math.inf else f"at most {high:.3g}"
            aim = f"from {low:g} to {high:g}" if low < 0 else aim
            judged[name] = {"aim": aim, "measured": value, "met": low <= value <= high}
    return judged
