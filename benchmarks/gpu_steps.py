"""The parts of ``gpu.py`` that train: ``step``, ``training``, ``quantized``, ``memory`` and ``together``."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gpu_run import NO_TIME, Row, Run, clean, outcome

if TYPE_CHECKING:
    from cases import Case


def step_part(run: Run) -> None:
    """The published step and ours first, then what each lever gives, then the other methods."""
    published = "fp16" if run.device == "cuda" else "bf16"
    for case in (
        run.lowshot("lowshot"),
        run.rival("published", "published", precision=published),
        run.rival("published-fused", "published-fused", precision=published),
        run.rival("peft-lora", "peft", precision=run.precision, method="lora"),
        run.lowshot("lowshot-launched", cuda_graph=False),
        run.lowshot("lowshot-fp16", precision="fp16"),
        run.lowshot("lowshot-adapter-fp32", adapter_precision="fp32"),
        run.lowshot("lora-xs", method="lora-xs"),
        run.lowshot("dora", method="dora"),
        run.rival("peft-dora", "peft", precision=run.precision, method="dora"),
        run.lowshot("full", method="full"),
        run.lowshot("layernorm", method="layernorm"),
        run.lowshot("lora-int8", quantize="int8"),
    ):
        if case.variant == "lora-xs":
            keep_bases(case.shape)
        run.case(case)


def keep_bases(shape: str) -> None:
    """Decompose the weights that LoRA-XS sits on, many at once: one after the other is half a minute of ViT-B/16."""
    from concurrent.futures import ThreadPoolExecutor

    from shapes import SHAPES

    from lowshot.adapters.lora_xs.cache import cached_basis
    from lowshot.settings import preset_recipe
    from lowshot.threads import cpu_threads

    rank = preset_recipe("paper", "lora-xs").method.rank
    named = SHAPES[shape]().random_model().named_parameters()
    weights = [weight for name, weight in named if name.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight"))]
    with cpu_threads(1), ThreadPoolExecutor(os.cpu_count()) as threads:
        list(threads.map(lambda weight: cached_basis(weight, rank), weights))


def training_part(run: Run) -> None:
    """One shot of a hundred classes, 500 steps."""
    case = run.lowshot("training")
    run.case(dataclasses.replace(case, warm_up=0, steps=5 if run.smoke else 500, whole_run=True), 40.0)


def quantized_part(run: Run) -> None:
    """The whole batch at once in four bits and in sixteen, then as little memory as there can be."""
    like = run.lowshot("")
    whole = {"images_per_pass": like.batch_size, "prompts_per_pass": like.classes}
    run.case(run.lowshot("lora-whole", **whole))
    run.case(run.lowshot("qlora-whole", method="qlora", **whole))
    published = run.rival("published-qlora", "published-qlora", images_per_pass=like.batch_size, checkpointing=False)
    if run.precision == "bf16":
        run.case(published)
    else:
        run.add({"variant": "published-qlora", "left_out": "it computes in bf16, which this device does not have"})
    for variant, more in (("qlora-smallest-checkpointing", {"gradient_checkpointing": True}), ("qlora-smallest", {})):
        case = run.lowshot(variant, method="qlora", **more)
        run.attempt(variant, 25.0, functools.partial(smallest_rows, run, case))
    run.case(run.lowshot("lowshot"))
    run.case(run.lowshot("lora-0.5GB", memory_budget="30GB" if run.smoke else "0.5GB"))


def smallest_rows(run: Run, case: Case, ends: float) -> Sequence[Row]:
    """The smallest memory budget that a case accepts, and its step in that budget."""
    from cases import measure

    budget = smallest_budget(case)
    clean(run.device)
    slack = 1.0 if run.device == "cuda" else 1.2  # a CPU's budget is for the whole process, which grows meanwhile
    settings = {**case.settings, "memory_budget": f"{math.ceil(slack * budget)}MB"}
    [row] = outcome(run.device, lambda: [measure(dataclasses.replace(case, settings=settings), ends)])
    return [{**row, "smallest_budget_bytes": budget * 10**6}]


def smallest_budget(case: Case) -> int:
    """The smallest memory budget that a case accepts, in MB; nothing is trained."""
    from cases import lowshot_learner
    from shapes import SHAPES

    from lowshot.errors import InputError
    from lowshot.training.step import Passes

    learner, _ = lowshot_learner(case, SHAPES[case.shape]())
    recipe, (needs, _) = learner.recipe, learner.cuts(case.batch_size)
    refused, accepted = 0, math.ceil(1.2 * needs.peak(Passes(case.batch_size, case.classes), case.classes) / 1e6)
    while accepted - refused > 1:
        tried = (accepted + refused) // 2
        learner.recipe = recipe.replace(memory_budget=f"{tried}MB")
        try:
            learner.cuts(case.batch_size)
            accepted = tried
        except InputError:
            refused = tried
    return accepted


def memory_part(run: Run) -> None:
    """Every row so far of which something was predicted."""
    from measuring import prediction_error

    rows = {
        row["variant"]: row for part in run.result["parts"].values() for row in part["rows"] if row.get("predicted")
    }
    fields = ("variant", "static_bytes", "dynamic_bytes", "peak_bytes", "reserved_bytes", "predicted")
    run.add(*({**{name: row[name] for name in fields}, "error": prediction_error(row)} for row in rows.values()))


def together_part(run: Run) -> None:
    """Eight runs, from the first step of the first to the last of the last, recording included."""
    import together

    settings: Any = {"device": run.device, "precision": run.precision, "smoke": run.smoke}
    arguments = together.Arguments(model="vit-b16", steps=2 if run.smoke else 40, **settings)
    for way, joined in (("together", True), ("alone", False)):
        if time.monotonic() > run.part_ends:
            run.add({"variant": f"{way}-8", **NO_TIME})
            continue
        work = functools.partial(together.measured, arguments, "lora", 8, together=joined)
        for row in outcome(run.device, lambda work=work: [work()]):
            figures = {"median_seconds": row["seconds"] / (8 * arguments.steps)} if "seconds" in row else {}
            run.add({"variant": f"{way}-8", **row, **figures})
