"""All that wants a GPU, in one call that keeps within ten minutes and needs no network.

    python3 benchmarks/gpu.py [--out FOLDER] [--seconds 560] [--smoke]

Parts, in this order: the step, a training run, QLoRA against LoRA, memory and the planner, evaluation, and the tests
marked gpu. What is finished is written at once, so that a call that is cut off keeps it; each part has a limit of its
own. The result is one file, <date>-<hardware>-gpu.json, in FOLDER: $OUT where that is set, else benchmarks/results.
A smoke run does the same on a CPU, with a tiny model, and writes only where ``--out`` says.

A machine that has torch and transformers, but neither the rest of what lowshot needs nor a network, is served by

    .venv/bin/python benchmarks/gpu.py --pack

on this one: it copies those packages to .carried/, which git ignores and which has to travel with the checkout. For
their sake this file has no need of tyro, which is one of them.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CARRIED = ROOT / ".carried"
PACKAGES = ("bitsandbytes", "peft", "tyro", "docstring-parser", "typeguard")
"""What the machine lent for this does not have, or perhaps in another version than is needed."""
STEPS = 30
"""Measured steps of each row, the same in all parts, so that rows they share are measured once."""
TARGETS: dict[str, tuple[str, float]] = {
    "training_seconds": ("at most", 6.0),
    "training_time_ratio": ("at least", 10.0),
    "training_share_of_matrix_rate": ("at least", 0.35),
    "qlora_peak_gb": ("at most", 0.17),
    "qlora_time_over_lora": ("at most", 1.10),
}
"""What is aimed at: 500 steps of 32 images and 100 classes; QLoRA within the published peak, as fast as LoRA."""


@dataclasses.dataclass
class Budget:
    """Seconds that are left, of the call and of the part that runs."""

    ends: float
    part_ends: float = 0.0

    def start(self, limit: float) -> None:
        """A part begins that may take this long."""
        self.part_ends = min(self.ends, time.monotonic() + limit)

    def left(self) -> float:
        """What the part still has."""
        return self.part_ends - time.monotonic()


def training_part(name: str, device: str, smoke: bool, budget: Budget, known: dict[str, Any]) -> dict[str, Any]:
    """One of the benchmarks of training: the result it would write itself."""
    import importlib

    from measuring import measured, result_of

    benchmark = importlib.import_module(name)
    steps = {} if name == "training" else {"steps": STEPS}
    arguments = benchmark.Arguments(device=device, smoke=smoke, **steps)
    rows = measured(benchmark.cases(arguments), arguments, budget.left, known)
    return result_of(name, arguments, rows, benchmark.figures(rows))


def program_part(command: list[str], budget: Budget) -> dict[str, Any]:
    """A program's exit status and the end of what it said; what it printed as JSON, if that is what it printed."""
    if budget.left() <= 0:
        return {"failed": "no time left"}
    limit = budget.left()
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return {"failed": f"not done in {limit:.0f} seconds"}
    try:
        result: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        result = {"said": (done.stdout + done.stderr)[-2000:]}
    return {**result, "exit_status": done.returncode, **({"failed": "see said"} if done.returncode else {})}


def parts(smoke: bool, device: str, budget: Budget) -> dict[str, tuple[float, Callable[[], dict[str, Any]]]]:
    """Name -> most seconds it may take, and what to do."""
    known: dict[str, Any] = {}

    def of(name: str) -> Callable[[], dict[str, Any]]:
        return lambda: training_part(name, device, smoke, budget, known)

    pytest = [sys.executable, "-m", "pytest"]
    tests = ["--version"] if smoke else ["-q", "-m", "gpu", "--continue-on-collection-errors"]
    return {
        "step": (120.0, of("step")),
        "training": (130.0, of("training")),
        "quantized": (150.0, of("quantized")),
        "memory": (150.0, of("memory")),
        "evaluation": (100.0, lambda: program_part(evaluation_command(smoke), budget)),
        "tests": (120.0, lambda: program_part([*pytest, *tests], budget)),
    }


def evaluation_command(smoke: bool) -> list[str]:
    """The benchmark of evaluation, as a program of its own, with as many photographs as there is time for."""
    how = ["--smoke"] if smoke else ["--device", "cuda", "--images", "2048", "--repeats", "1"]
    return [sys.executable, str(Path(__file__).with_name("evaluation.py")), "--json", *how]


def aims(results: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What was aimed at, what was measured, and whether that is enough; without what was not measured."""
    training = {row["variant"]: row for row in results.get("training", {}).get("rows", ())}
    quantized = {row["variant"]: row for row in results.get("quantized", {}).get("rows", ())}
    ours, small = training.get("lowshot-bf16", {}), quantized.get("qlora-in-0.17GB", {})
    lora = quantized.get("lora-bf16", {})
    measured: dict[str, float | None] = {
        "training_seconds": ours.get("train_seconds"),
        "training_time_ratio": results.get("training", {}).get("time_ratio"),
        "training_share_of_matrix_rate": ours.get("share_of_matrix_rate"),
        "qlora_peak_gb": small["peak_bytes"] / 1e9 if "peak_bytes" in small else None,
    }
    if "median_seconds" in small and "median_seconds" in lora:
        measured["qlora_time_over_lora"] = small["median_seconds"] / lora["median_seconds"]
    found = {}
    for name, value in measured.items():
        if value is not None:
            side, bound = TARGETS[name]
            met = value <= bound if side == "at most" else value >= bound
            found[name] = {"aim": f"{side} {bound:g}", "measured": value, "met": met}
    return found


def hardware() -> dict[str, Any]:
    """The accelerator, as torch sees it."""
    import torch

    if not torch.cuda.is_available():
        return {"accelerator": None, "torch": torch.__version__}
    found = torch.cuda.get_device_properties(0)
    return {
        "accelerator": found.name,
        "memory_bytes": found.total_memory,
        "multiprocessors": found.multi_processor_count,
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
    from write_result import write_result

    from lowshot.records import provenance

    result: dict[str, Any] = {"benchmark": "gpu", "machine": hardware()}
    print(json.dumps(result["machine"]), flush=True)
    on_cuda = result["machine"]["accelerator"] is not None
    if not on_cuda and not arguments.smoke:
        raise SystemExit("torch sees no CUDA device here; expected one, or --smoke")
    device = "cpu" if arguments.smoke else "cuda"
    result |= {"device": device, "provenance": provenance(), "parts": {}}
    budget = Budget(time.monotonic() + arguments.seconds)
    for name, (limit, run) in parts(arguments.smoke, device, budget).items():
        print(f"\n{name}", flush=True)
        budget.start(limit)
        started = time.monotonic()
        try:
            part = run()
        except Exception as error:  # a fault in one part must not cost those that come after it
            part = {"failed": f"{type(error).__name__}: {error}"}
        result["parts"][name] = {**part, "part_seconds": time.monotonic() - started}
        result["targets"] = aims(result["parts"])
        print(_summary(result["parts"][name]), flush=True)
        if arguments.out is not None:
            print(f"wrote {write_result(result, arguments.out)}", flush=True)
    print(json.dumps(result["targets"], indent=2))
    failed = failures(result["parts"])
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")
    return result


def failures(results: dict[str, dict[str, Any]]) -> list[str]:
    """Parts that failed, and rows of parts."""
    found = [name for name, part in results.items() if "failed" in part]
    rows = ((name, row) for name, part in results.items() for row in part.get("rows", ()))
    return found + [f"{name}: {row['variant']}" for name, row in rows if "failed" in row]


def _summary(part: dict[str, Any]) -> str:
    told = {name: value for name, value in part.items() if isinstance(value, str | int | float)}
    return "\n".join(
        f"{name:<32} {value:.3g}" if isinstance(value, float) else f"{name:<32} {value}" for name, value in told.items()
    )


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder for the result")
    parser.add_argument("--seconds", type=float, default=560.0, help="when to stop starting things (default 560)")
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
