"""All that wants a GPU, in one call and one process, done in five minutes; it needs no network.

    python3 benchmarks/gpu.py [--out FOLDER] [--seconds 300] [--only PART ...] [--smoke]

Parts, in this order:

- `correct`: the tests marked gpu;
- `step`: a step of each method, as published, by plain PEFT and by lowshot: seconds, memory, share of the matrix rate;
- `training`: 500 steps from the first to the last, crops of decoded photos and the recording of a step included;
- `quantized`: QLoRA against LoRA with the same cuts, and steps in small memory budgets;
- `memory`: what the planner expected of the rows before, against what they took;
- `judging`: images a second, against the forward pass alone;
- `serving`: a bank of adapters, and PEFT's mixed batch;
- `together`: eight runs whose steps are computed together, against the same runs one after the other;
- `profile`: the kernels of a step that is replayed, and of one that is launched.

Each row is written as soon as it is there, so a call that is cut off keeps what it has. A row has a time limit of its
own, which is looked at between repetitions. One that fails says why and costs no other. One that does not fit into the
device's memory, or that the device cannot compute, is left out and says so. The result is one file,
<date>-<hardware>-gpu.json, in FOLDER: $OUT where that is set, else benchmarks/results. A smoke run does the same on a
CPU, with a tiny model, and writes only where ``--out`` says.

A machine that has torch and transformers, but neither the rest of what lowshot needs nor a network, is served by

    .venv/bin/python benchmarks/gpu.py --pack

on this one: it copies those packages to .carried/, which git ignores and which has to travel with the checkout. For
their sake this file has no need of tyro, which is one of them.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import copy
import dataclasses
import functools
import gc
import importlib.metadata
import json
import math
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

if TYPE_CHECKING:
    from cases import Case

Row = dict[str, Any]
ROOT = Path(__file__).resolve().parents[1]
CARRIED = ROOT / ".carried"
PACKAGES = (
    *("bitsandbytes", "peft", "tyro", "docstring-parser", "typeguard"),
    *("pytest", "pytest-timeout", "pluggy", "iniconfig", "pygments"),
)
"""What the machine lent for this does not have, or perhaps in another version than is needed. The tests also want
hypothesis, which is built for one version of Python: where it is missing, the part `correct` fails alone."""
FIRST_TESTS = ROOT / "tests" / "test_gpu_devices.py"
"""Tests marked gpu that are about devices alone; others are found by their mark."""
SMOKE_TEST = f"{FIRST_TESTS}::test_crops_are_those_of_the_cpu[cpu]"
NO_TIME = {"failed": "no time left"}
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


class LeftOutError(Exception):
    """A row makes no sense on this device; the message says why."""


@dataclasses.dataclass
class Run:
    """One call: where it runs, how much time it has, and its result so far."""

    device: str
    precision: str
    """Of what is frozen: ``bf16``, or ``fp16`` where the device has no bf16."""
    smoke: bool
    ends: float
    """When the call must be over, as ``time.monotonic`` counts."""
    result: dict[str, Any]
    out: Path | None = None
    part: str = ""
    part_ends: float = math.inf
    known: dict[str, Row] = dataclasses.field(default_factory=dict)
    """Rows by case: one that belongs to several parts is measured once."""

    def begin(self, part: str, limit: float) -> None:
        """A part that may take so many seconds."""
        self.part, self.part_ends = part, min(self.ends, time.monotonic() + limit)
        self.result["parts"][part] = {"rows": []}
        print(f"\n{part}", flush=True)
        if part == "step":
            from measuring import TITLE

            print(TITLE)

    @property
    def rows(self) -> list[Row]:
        """Those of this part."""
        found: list[Row] = self.result["parts"][self.part]["rows"]
        return found

    def attempt(self, variant: str, limit: float, work: Callable[[float], Sequence[Row]]) -> None:
        """Add what some work finds, or why it found nothing.

        Args:
            variant: Name of the row, if it fails.
            limit: Seconds that it may take.
            work: When it must be over, as ``time.monotonic`` counts, to its rows.
        """
        started = time.monotonic()
        ends = min(started + limit, self.part_ends)
        clean(self.device)
        rows = [NO_TIME] if ends <= started else outcome(self.device, lambda: work(ends))
        took = time.monotonic() - started
        self.add(*({"variant": variant, "row_seconds": took, **row} for row in rows))

    def add(self, *rows: Row) -> None:
        """Put rows into the result and write it."""
        self.rows.extend(rows)
        self.write()
        for row in rows:
            print(told(row), flush=True)

    def write(self) -> None:
        """Write the result as it stands."""
        from write_result import write_result

        self.result["targets"] = aims(self.result["parts"])
        if self.out is not None:
            write_result(self.result, self.out)

    def case(self, case: Case, limit: float = 20.0) -> None:
        """Add the row of a case, which is measured in this process unless it is known."""
        from cases import measure

        key = json.dumps(dataclasses.asdict(case))
        if key in self.known:
            self.add(self.known[key])
            return
        self.attempt(case.variant, limit, lambda ends: [measure(case, ends)])
        self.known[key] = self.rows[-1]

    def of(self, variant: str, way: Any, settings: Mapping[str, Any], *, warm_up: int, steps: int) -> Case:
        """A case on this device. The time of a step is that of a run in which nothing waits for the device."""
        from cases import Case

        if self.smoke:
            small: Any = {"shape": "smoke", "classes": 4, "batch_size": 4, "warm_up": 2, "steps": 3}
            return Case(variant, way, settings, device=self.device, waits=False, **small)
        return Case(variant, way, settings, device=self.device, waits=False, warm_up=warm_up, steps=steps)

    def lowshot(self, variant: str, **settings: Any) -> Case:
        """One of lowshot, whose losses are read every 16 steps."""
        few = settings.get("cuda_graph") is False
        count = {"warm_up": 3, "steps": 10} if few else {"warm_up": 16, "steps": 48}
        return self.of(variant, "lowshot", {"precision": self.precision, **settings}, **count)

    def rival(self, variant: str, way: str, **settings: Any) -> Case:
        """One of the others, which wait for each loss."""
        return self.of(variant, way, settings, warm_up=3, steps=10)


def clean(device: str) -> None:
    """Let nothing of the row before count for the next one: garbage, free pieces, the workspaces of cuBLAS."""
    import torch

    gc.collect()
    if device == "cuda":
        torch._C._cuda_clearCublasWorkspaces()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def outcome(device: str, work: Callable[[], Sequence[Row]]) -> Sequence[Row]:
    """What some work finds; where it fails, one row that says why."""
    import torch

    try:
        return work()
    except LeftOutError as reason:
        return [{"left_out": str(reason)}]
    except torch.OutOfMemoryError:
        pass  # what is caught holds on to all the memory
    except Exception as error:  # a fault in one row must not cost those that come after it
        said = str(error).strip().splitlines() or [""]
        return [{"failed": f"{type(error).__name__}: {said[0]}"}]
    clean(device)
    free = torch.cuda.mem_get_info()[0] / 1e9 if device == "cuda" else 0.0
    return [{"left_out": f"it does not fit into the {free:.1f} GB that are free"}]


def told(row: Row) -> str:
    """A row in one line."""
    from measuring import line

    if "share_of_matrix_rate" in row:
        return f"{line(row)}{''.join(f'   {note}' for note in row['notes'])}"
    if "left_out" in row:
        return f"{row['variant']:<32} left out: {row['left_out']}"
    figures = {name: value for name, value in row.items() if isinstance(value, int | float)}
    said = "  ".join(f"{name} {value:.4g}" for name, value in figures.items())
    return f"{row['variant']:<32} {said}{'  failed: ' + row['failed'][-300:] if 'failed' in row else ''}"


# -- correct -----------------------------------------------------------------------------------------------------------


class Verdicts:
    """What pytest tells of each test; a plugin of it.

    Args:
        run: Where the rows go.
    """

    def __init__(self, run: Run) -> None:
        self.run = run

    def pytest_runtest_setup(self, item: Any) -> None:
        """Begin no test where there is no time for it."""
        if time.monotonic() > self.run.part_ends:
            item.session.shouldstop = "no time left"

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Note a verdict."""
        if report.when == "call" or report.outcome != "passed":
            self.run.add({"variant": report.nodeid, "row_seconds": report.duration, **verdict(report)})

    def pytest_collectreport(self, report: Any) -> None:
        """Note a file that cannot be imported."""
        if report.failed:
            self.run.add({"variant": report.nodeid, **verdict(report)})


def verdict(report: Any) -> Row:
    """A report of pytest as a row has it."""
    if report.failed:
        return {"failed": report.longreprtext[-1500:]}
    return {"left_out": str(report.longrepr[-1])} if report.skipped else {"passed": 1}


def correct_part(run: Run) -> None:
    """The tests marked gpu, in this process: torch is imported once. On a CPU one of those that run there too."""
    import pytest

    files = [path for path in sorted(ROOT.glob("tests/**/test_*.py")) if "mark.gpu" in path.read_text(encoding="utf-8")]
    others = [str(path) for path in files if path != FIRST_TESTS]
    chosen = [SMOKE_TEST] if run.smoke else ["-m", "gpu", str(FIRST_TESTS), *others]
    how = ["-q", "--no-header", "--no-summary", "-p", "no:cacheprovider", "-p", "pytest_timeout", "--timeout=60"]
    found = ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT), "--continue-on-collection-errors"]
    environment = dict(os.environ)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # the machine's own plugins may warn, and a warning is an error
    try:
        status = int(pytest.main([*how, *found, *chosen], plugins=[Verdicts(run)]))
    finally:
        os.environ.clear()
        os.environ.update(environment)
    run.result["parts"]["correct"]["exit_status"] = status
    if status and not any("failed" in row for row in run.rows):
        run.add({"variant": "pytest", "failed": f"exit status {status}"})


# -- step, training, quantized, memory ---------------------------------------------------------------------------------


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


# -- judging, serving --------------------------------------------------------------------------------------------------


def judging_part(run: Run) -> None:
    """LoRA judges decoded photographs."""
    run.attempt("judging", 25.0, functools.partial(judging_rows, run))


def judging_rows(run: Run, ends: float) -> Sequence[Row]:
    """Images a second of the towers alone, and of all that judging does."""
    import numpy as np
    import torch

    import evaluation
    from lowshot.data import MemoryImages
    from lowshot.data.crops import central_crops
    from lowshot.evaluation.predict import BATCH_SIZE, probabilities

    arguments = evaluation.Arguments(smoke=run.smoke, device=run.device)  # type: ignore[arg-type]
    width, height = (60, 45) if run.smoke else evaluation.PHOTO_SIZE
    photos = np.random.default_rng(0).integers(0, 256, (64, height, width, 3), dtype=np.uint8)
    images = MemoryImages([photos[number % len(photos)] for number in range(260 if run.smoke else 4096)])
    learner = evaluation.learner_of(arguments, "lora", run.precision)
    side = learner.backbone.image_size
    crops = torch.cat([central_crops([images[number]], side) for number in range(BATCH_SIZE)])
    crops = crops.pin_memory() if run.device == "cuda" else crops
    ways = {
        "forward": lambda: evaluation.forward(learner, crops, len(images)),
        "judging": lambda: probabilities(learner, images),
    }
    rows = in_turn(run, ways, len(images), ends, 3)
    return [{**row, "share_of_forward": rows[0]["median_seconds"] / row["median_seconds"]} for row in rows]


def in_turn(run: Run, ways: Mapping[str, Callable[[], Any]], images: int, ends: float, repeats: int) -> list[Row]:
    """Every way in turn, so that a busy machine disturbs them alike; the first turn is not counted.

    Args:
        run: On which device.
        ways: What is measured, by name; each computes all images.
        images: How many they are.
        ends: After which no further turn is begun, if one counts.
        repeats: Turns that count.
    """
    import statistics

    import torch

    from serving import seconds

    found: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(1 if run.smoke else repeats + 1):
        if turn > 1 and time.monotonic() > ends:
            break
        for name, work in ways.items():
            took = seconds(work, torch.device(run.device))
            found[name] = [*found[name], took] if turn > 1 else [took]
    medians = {name: statistics.median(took) for name, took in found.items()}
    return [
        {"variant": name, "seconds": found[name], "median_seconds": median, "images_per_second": images / median}
        for name, median in medians.items()
    ]


def serving_part(run: Run) -> None:
    """LoRA-XS of rank 16 in every layer of both towers, 64 rows a batch."""
    import serving

    how: Any = {"device": run.device, "precision": run.precision, "smoke": run.smoke}
    arguments = serving.Arguments(model="builtin" if run.smoke else "vit-b16", adapters=(1, 10_000), **how)
    with tempfile.TemporaryDirectory() as temporary:
        model = arguments.model
        if model == "vit-b16":
            model = str(Path(temporary) / model)
            keep_bases("vit-b16")
            serving.write_vit_b16(Path(model))
        folder = Path(temporary) / "adapters"
        run.attempt("bank", 60.0, functools.partial(bank_rows, run, arguments, model, folder))
        run.attempt("peft-different", 30.0, functools.partial(peft_rows, run, arguments, model))


def some_crops(arguments: Any, side: int) -> Any:
    """A batch that is ready on the device."""
    import torch

    generator = torch.Generator().manual_seed(1)
    return torch.rand(arguments.batch, 3, side, side, generator=generator).to(arguments.on)


def bank_rows(run: Run, arguments: Any, model: str, folder: Path, ends: float) -> Sequence[Row]:
    """One adapter beside the weights, and banks of one and of many."""
    import numpy as np
    import torch

    import serving

    learner = serving.learner_of(arguments, model)
    serving.write_adapters(arguments, learner, folder, 1)
    banks, figures = serving.memory(arguments, folder, model)
    crops, generator = some_crops(arguments, learner.backbone.image_size), np.random.default_rng(0)

    def by_bank(count: int, *, different: bool = False) -> None:
        names = generator.choice(count, arguments.batch, replace=not different)
        answers = banks[count].answers_to_crops(crops, [f"linked-{name}" for name in names])
        failed = [answer for answer in answers if isinstance(answer, Exception)]
        assert not failed, failed[0]

    ways: dict[str, Callable[[], Any]] = {
        "single": lambda: torch.softmax(learner.logits(crops).float(), dim=-1).cpu(),
        "bank-1": functools.partial(by_bank, min(banks)),
        "bank-10000": functools.partial(by_bank, max(banks)),
        "bank-different": functools.partial(by_bank, max(banks), different=True),
    }
    run.result["parts"]["serving"] |= figures
    return in_turn(run, ways, arguments.batch, ends, 10)


def peft_rows(run: Run, arguments: Any, model: str, ends: float) -> Sequence[Row]:
    """PEFT's mixed batch of LoRA-XS, a different adapter for each row."""
    import serving

    side = serving.SHAPES["vit-b16"]().image_size if model != "builtin" else 32
    mixed = serving.peft_mixed(arguments, model, "lora-xs", some_crops(arguments, side))
    return in_turn(run, {"peft-different": mixed}, arguments.batch, ends, 5)


# -- profile -----------------------------------------------------------------------------------------------------------


def profile_part(run: Run) -> None:
    """A step that is replayed and one that is launched, both long after the first."""
    os.environ.setdefault("TEARDOWN_CUPTI", "0")  # a graph outlives what a profile tears down
    run.attempt("replayed", 20.0, lambda ends: [profiled(run, cuda_graph=True)])  # noqa: ARG005
    run.attempt("launched", 20.0, lambda ends: [profiled(run, cuda_graph=False)])  # noqa: ARG005


def profiled(run: Run, *, cuda_graph: bool) -> Row:
    """What the device did in one step, and which kernels took longest."""
    import torch
    from cases import lowshot_learner
    from shapes import SHAPES

    case = run.lowshot("", cuda_graph=cuda_graph)
    learner, examples = lowshot_learner(case, SHAPES[case.shape]())
    one = OneStep(torch.device(run.device), case.warm_up)
    one.profile().__enter__().__exit__(None, None, None)  # a graph must be recorded when the profiler is there already
    outcome = learner.fit(examples, 1, one)
    spent = collections.Counter[str]()
    calls = collections.Counter(event.name for event in one.events)
    for event in one.events:
        spent[event.name] += event.time_range.elapsed_us() / 1e6
    busy = union((event.time_range.start / 1e6, event.time_range.end / 1e6) for event in one.events)
    copies = sum(count for name, count in calls.items() if name.startswith(("Memcpy", "Memset")))
    return {
        "kernels": calls.total() - copies,
        "copies": copies,
        "step_seconds": one.seconds,
        "busy_seconds": busy,
        "busy_share": busy / one.seconds,
        "notes": list(outcome.notes),
        "top": [{"name": name[:160], "calls": calls[name], "seconds": took} for name, took in spent.most_common(20)],
    }


class OneStep:
    """Yields what it is given, as a progress bar would, up to one step, which it profiles.

    Args:
        device: Waited for before and after it.
        number: Of the step, from 0.
    """

    def __init__(self, device: Any, number: int) -> None:
        self.device, self.number = device, number
        self.seconds = 0.0
        self.events: list[Any] = []
        """What the device did; on a CPU the operations that consist of no others."""

    def profile(self) -> Any:
        """A profiler of what runs on the device."""
        from torch.profiler import ProfilerActivity, profile

        on_cuda = self.device.type == "cuda"
        return profile(activities=[ProfilerActivity.CUDA if on_cuda else ProfilerActivity.CPU])

    def __call__(self, items: Iterable[Any], /, *, what: str = "", total: int = 0) -> Iterator[Any]:  # noqa: ARG002
        for number, item in enumerate(items):
            if number < self.number:
                yield item
                continue
            with self.profile() as profiler:
                self._wait()
                started = time.perf_counter()
                yield item
                self._wait()
                self.seconds = time.perf_counter() - started
            kind = self.device.type.upper()
            events = (event for event in profiler.events() if event.device_type.name == kind and not event.cpu_children)
            self.events = [event for event in events if not getattr(event, "is_user_annotation", False)]
            return

    def _wait(self) -> None:
        import torch

        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def union(spans: Iterable[tuple[float, float]]) -> float:
    """How long at least one of these spans lasted, each given by when it began and ended."""
    total, reached = 0.0, -math.inf
    for began, ended in sorted(spans):
        total += max(0.0, ended - max(began, reached))
        reached = max(reached, ended)
    return total


# -- together ----------------------------------------------------------------------------------------------------------


def together_part(run: Run) -> None:
    """Eight runs, from the first step of the first to the last of the last, recording included."""
    import together

    how: Any = {"device": run.device, "precision": run.precision, "smoke": run.smoke}
    arguments = together.Arguments(model="vit-b16", steps=2 if run.smoke else 40, **how)
    for way, joined in (("together", True), ("alone", False)):
        if time.monotonic() > run.part_ends:
            run.add({"variant": f"{way}-8", **NO_TIME})
            continue
        work = functools.partial(together.measured, arguments, "lora", 8, together=joined)
        for row in outcome(run.device, lambda work=work: [work()]):
            figures = {"median_seconds": row["seconds"] / (8 * arguments.steps)} if "seconds" in row else {}
            run.add({"variant": f"{way}-8", **row, **figures})


# -- all of it ---------------------------------------------------------------------------------------------------------

PARTS: dict[str, tuple[float, Callable[[Run], None]]] = {
    "correct": (60.0, correct_part),
    "step": (110.0, step_part),
    "training": (40.0, training_part),
    "quantized": (60.0, quantized_part),
    "memory": (5.0, memory_part),
    "judging": (30.0, judging_part),
    "serving": (90.0, serving_part),
    "together": (60.0, together_part),
    "profile": (30.0, profile_part),
}
"""Name -> most seconds it may take, and what to do."""


def figures(parts: Mapping[str, Mapping[str, Any]]) -> dict[str, float | None]:
    """What the aims are about; None where something of it was not measured."""

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


_SMALLEST = ("qlora-smallest", "qlora-smallest-checkpointing")


def aims(parts: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """What was aimed at, what was measured, and whether that is enough; without what was not measured."""
    found = {}
    for name, value in figures(parts).items():
        low, high = TARGETS[name]
        if value is not None:
            aim = f"at least {low:g}" if high == math.inf else f"at most {high:.3g}"
            aim = f"from {low:g} to {high:g}" if low < 0 else aim
            found[name] = {"aim": aim, "measured": value, "met": low <= value <= high}
    return found


@contextlib.contextmanager
def drawn_once() -> Iterator[None]:
    """Random models are copies of one, which is drawn once; bases of its weights are kept for as long as the call."""
    from shapes import Shape

    drawn = functools.cache(Shape.random_model)
    with (
        tempfile.TemporaryDirectory() as cache,
        mock.patch.dict(os.environ, LOWSHOT_CACHE=cache),
        mock.patch.object(Shape, "random_model", lambda shape: copy.deepcopy(drawn(shape))),
    ):
        yield


def hardware() -> dict[str, Any]:
    """The accelerator, as torch sees it."""
    import torch

    if not torch.cuda.is_available():
        return {"accelerator": None, "torch": torch.__version__}
    found = torch.cuda.get_device_properties(0)
    return {
        "accelerator": found.name,
        "memory_bytes": found.total_memory,
        "free_bytes": torch.cuda.mem_get_info(0)[0],
        "multiprocessors": found.multi_processor_count,
        "capability": f"{found.major}.{found.minor}",
        "bf16": torch.cuda.is_bf16_supported(including_emulation=False),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
    }


def pack(folder: Path) -> None:
    """Copy ``PACKAGES`` from this environment, without what only other accelerators and older CUDA need."""
    shutil.rmtree(folder, ignore_errors=True)
    for package in PACKAGES:
        for file in importlib.metadata.distribution(package).files or ():
            is_library = file.suffix == ".so" and not file.stem.endswith(("_cpu", "_cuda130", "_cuda132"))
            if ".." in file.parts or file.suffix == ".pyc" or is_library:
                continue
            target = folder / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(str(file.locate()), target)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{folder} has {', '.join(PACKAGES)}: {size / 1e6:.0f} MB")


def main(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run all parts; returns the result.

    Raises:
        SystemExit: A part or a row of one failed; everything else has been written.
    """
    ends = time.monotonic() + arguments.seconds
    from lowshot.records import provenance
    from lowshot.threads import cpu_threads

    machine = hardware()
    print(json.dumps(machine), flush=True)
    on_cuda = machine["accelerator"] is not None
    if not on_cuda and not arguments.smoke:
        raise SystemExit("torch sees no CUDA device here; expected one, or --smoke")
    device = "cpu" if arguments.smoke else "cuda"
    precision = "bf16" if device == "cpu" or machine["bf16"] else "fp16"
    result = {"benchmark": "gpu", "machine": machine, "device": device, "precision": precision}
    result |= {"provenance": provenance(), "parts": {}, "targets": {}}
    run = Run(device, precision, arguments.smoke, ends, result, arguments.out)
    with (
        drawn_once(),
        cpu_threads(1 if arguments.smoke else None),
    ):  # two threads for something tiny wait for each other
        for name in [name for name in PARTS if not arguments.only or name in arguments.only]:
            part_of(run, name)
    print(json.dumps(result["targets"], indent=2))
    failed = failures(result["parts"])
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")
    return result


def part_of(run: Run, name: str) -> None:
    """Do a part; if it fails the result says why."""
    limit, work = PARTS[name]
    run.begin(name, limit)
    part, started = run.result["parts"][name], time.monotonic()
    try:
        if run.part_ends <= started:
            part |= NO_TIME
        else:
            work(run)
    except Exception as error:  # a fault in one part must not cost those that come after it
        part["failed"] = f"{type(error).__name__}: {error}"
        print(part["failed"], flush=True)
    part["part_seconds"] = time.monotonic() - started
    run.write()


def failures(parts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Parts that failed, and rows of parts."""
    found = [name for name, part in parts.items() if "failed" in part]
    rows = ((name, row) for name, part in parts.items() for row in part.get("rows", ()))
    return found + [f"{name}: {row['variant']}" for name, row in rows if "failed" in row]


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder for the result")
    parser.add_argument("--seconds", type=float, default=300.0, help="when to stop starting things (default 300)")
    parser.add_argument(
        "--only", nargs="+", action="extend", choices=list(PARTS), metavar="PART", help=", ".join(PARTS)
    )
    parser.add_argument("--smoke", action="store_true", help="a tiny model on a CPU, in seconds")
    parser.add_argument("--pack", action="store_true", help="only copy packages to .carried/")
    parsed = parser.parse_args(arguments)
    if parsed.out is None and not parsed.smoke:
        parsed.out = Path(os.environ.get("OUT") or Path(__file__).parent / "results")
    return parsed


def find_packages() -> None:
    """Make what was carried, and lowshot itself, importable here and in every process started from here."""
    paths = [str(path) for path in (CARRIED, ROOT / "src") if path.exists()]
    sys.path[:0] = paths
    os.environ["PYTHONPATH"] = os.pathsep.join([*paths, *filter(None, [os.environ.get("PYTHONPATH")])])


if __name__ == "__main__":
    chosen = parse()
    if chosen.pack:
        pack(CARRIED)
    else:
        find_packages()
        main(chosen)
