"""Runs whose steps are computed together, against the same runs one after the other.

    .venv/bin/python benchmarks/together.py [--json] [--smoke] [--model vit-b16] [--runs 1 4 16] [--device cuda]

CLIP-LoRA's adapter is trained by several seeds on the built-in model (digits, 16 shots), or on a ViT-B/16 of random
weights (100 classes, 32 images a step). Ways are measured by turns, in one process. Prints a line for each and writes
benchmarks/results/<date>-<hardware>-together.json: seconds and processor seconds of all runs, and the ratio to those
of one after the other.
"""

from __future__ import annotations

import dataclasses
import functools
import statistics
import time
from typing import TYPE_CHECKING, Any, Literal

from measuring import OnDevice, finish

if TYPE_CHECKING:
    from lowshot.data import Examples
    from lowshot.training import Learner


@dataclasses.dataclass(frozen=True)
class Arguments(OnDevice):
    """Runs to measure."""

    model: Literal["builtin", "vit-b16"] | None = None
    """Built-in on a CPU and ViT-B/16 on CUDA if not given."""
    runs: tuple[int, ...] = (4, 16)
    """Numbers of runs, each measured both ways."""
    steps: int = 20
    """Of each run."""
    repeats: int = 3
    threads: int | None = None
    """Threads of torch; as it comes if not given."""
    methods: tuple[str, ...] = ("lora", "lora-xs")
    precision: str = "auto"
    """Type that everything frozen is computed in."""


def learner_of(arguments: Arguments, method: str, seed: int) -> tuple[Learner, Examples]:
    """A learner that has not learnt, and what to learn from."""
    import torch
    from cases import Case, lowshot_learner
    from shapes import SHAPES

    from lowshot.data import builtin_task
    from lowshot.models import load_backbone
    from lowshot.settings import preset_recipe
    from lowshot.training import create_learner

    model = arguments.model or ("vit-b16" if arguments.on_cuda else "builtin")
    if model == "vit-b16" or arguments.smoke:
        shape, classes = ("smoke", 4) if arguments.smoke else ("vit-b16", 100)
        settings = {"method": method, "seed": seed, "precision": arguments.precision}
        case = Case(method, "lowshot", settings, classes=classes, batch_size=min(classes, 32), device=arguments.on)
        with torch.random.fork_rng():
            torch.manual_seed(0)  # the same frozen weights in every run
            return lowshot_learner(dataclasses.replace(case, steps=arguments.steps, warm_up=0), SHAPES[shape]())
    task = builtin_task("digits")
    chosen = {"seed": seed, "base_steps": arguments.steps, "steps_per_shot": 0, "precision": arguments.precision}
    recipe = preset_recipe("builtin", method).replace(**chosen)
    prompts = [f"a photo of a {name}." for name in task.class_names]
    return create_learner(load_backbone("builtin", arguments.on), prompts, recipe), task.train.subset(range(160))


def measured(arguments: Arguments, method: str, runs: int, *, together: bool) -> dict[str, float]:
    """Seconds of so many runs, from the first step of the first to the last of the last."""
    from lowshot.models import settle
    from lowshot.progress import silent
    from lowshot.training.company import Company

    learners = [learner_of(arguments, method, seed) for seed in range(runs)]
    works = [functools.partial(learner.fit, examples, 1, silent) for learner, examples in learners]
    started, computed = time.perf_counter(), time.process_time()
    for outcome in Company[Any](runs if together else 1).results(works):
        assert outcome.steps == arguments.steps
    settle(learners[0][0].backbone.device)
    return {"seconds": time.perf_counter() - started, "processor_seconds": time.process_time() - computed}


def main(arguments: Arguments) -> dict[str, Any]:
    """Measure, print and write."""
    import torch

    if arguments.smoke:
        arguments = dataclasses.replace(arguments, runs=(2,), steps=2, repeats=1)
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    rows = []
    for method in arguments.methods:
        measured(arguments, method, 1, together=False)  # the first steps of a process take longer
        for runs in arguments.runs:
            times: dict[bool, list[dict[str, float]]] = {False: [], True: []}
            for _ in range(arguments.repeats):
                for together, each in times.items():
                    each.append(measured(arguments, method, runs, together=together))
            row: dict[str, Any] = {"variant": f"{method} x {runs}", "threads": torch.get_num_threads()}
            for name in ("seconds", "processor_seconds"):
                alone, joined = ([each[name] for each in times[together]] for together in (False, True))
                row |= {f"{name}_alone": alone, f"{name}_together": joined}
                row[f"{name}_ratio"] = statistics.median(alone) / statistics.median(joined)
            rows.append(row)
            arguments.say(
                f"{row['variant']:<16} together {statistics.median(row['seconds_together']):.2f} s, "
                f"{row['seconds_ratio']:.2f} times as many runs an hour; "
                f"{row['processor_seconds_ratio']:.2f} of a processor's time"
            )
    facts = {"model": arguments.model or "auto", "device": arguments.on, "steps": arguments.steps}
    return finish({"benchmark": "together", **facts, "rows": rows}, arguments)


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Arguments, description=__doc__))
