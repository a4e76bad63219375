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
import contextlib
import copy
import functools
import importlib.metadata
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

from gpu_answers import judging_part, serving_part
from gpu_profile import profile_part
from gpu_run import NO_TIME, Run
from gpu_steps import memory_part, quantized_part, step_part, together_part, training_part
from gpu_tests import ROOT, correct_part

CARRIED = ROOT / ".carried"
PACKAGES = (
    *("bitsandbytes", "peft", "tyro", "docstring-parser", "typeguard"),
    *("pytest", "pytest-timeout", "pluggy", "iniconfig", "pygments"),
)
"""What the machine lent for this does not have, or perhaps in another version than is needed. The tests also want
hypothesis, which is built for one version of Python: where it is missing, the part `correct` fails alone."""
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
    device = torch.cuda.get_device_properties(0)
    return {
        "accelerator": device.name,
        "memory_bytes": device.total_memory,
        "free_bytes": torch.cuda.mem_get_info(0)[0],
        "multiprocessors": device.multi_processor_count,
        "capability": f"{device.major}.{device.minor}",
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
    failed = [name for name, part in parts.items() if "failed" in part]
    rows = ((name, row) for name, part in parts.items() for row in part.get("rows", ()))
    return failed + [f"{name}: {row['variant']}" for name, row in rows if "failed" in row]


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
