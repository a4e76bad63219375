"""Parts that the benchmarks of training share: their arguments, each case in a fresh process, the table, the result."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cases import Case, Way, measure
from shapes import SHAPES
from write_result import write_result

from lowshot.records import provenance

if TYPE_CHECKING:
    import torch

Row = dict[str, Any]
Rows = Mapping[str, Row]
CASES = Path(__file__).parent / "cases.py"


@dataclasses.dataclass(frozen=True)
class Output:
    """Arguments on the figures of any benchmark."""

    smoke: bool = False
    """Something tiny in this process, in seconds: shows that everything runs. Its figures mean nothing; they are
    written only if ``--out`` says where."""
    json: bool = False
    """Print one JSON object and nothing else."""
    out: Path | None = None
    """Folder for the result; benchmarks/results if not given."""

    def say(self, *lines: object) -> None:
        """Print lines, unless one JSON object is all that is printed."""
        if not self.json:
            print(*lines, sep="\n", flush=True)


@dataclasses.dataclass(frozen=True)
class OnDevice(Output):
    """Device to measure on."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """``auto``: CUDA if there is one."""

    @property
    def on_cuda(self) -> bool:
        """Say whether it is a CUDA device.

        Raises:
            SystemExit: One is asked for and there is none.
        """
        if self.device == "cpu":
            return False
        import torch  # which also lets the provenance name the device

        there = torch.cuda.is_available()
        if self.device == "cuda" and not there:
            raise SystemExit("device is cuda, but torch sees no CUDA device here; say --device cpu")
        return there

    @property
    def on(self) -> str:
        """The device, ``auto`` decided."""
        return "cuda" if self.on_cuda else "cpu"


@dataclasses.dataclass(frozen=True)
class Measuring(OnDevice):
    """Arguments of a benchmark of training."""

    classes: int = 100
    batch_size: int = 32
    threads: int | None = None
    """Threads of torch; as it comes if not given."""

    def __post_init__(self) -> None:
        if self.smoke:
            object.__setattr__(self, "classes", 4)
            object.__setattr__(self, "batch_size", 4)

    def case(self, variant: str, way: Way, **more: Any) -> Case:
        """A case of this shape on this device; ``more`` are its other fields, and what else goes into its settings."""
        named = ("steps", "warm_up", "whole_run")
        fields: dict[str, Any] = {name: more.pop(name) for name in named if name in more}
        common = {name: getattr(self, name) for name in ("classes", "batch_size", "threads")}
        if self.smoke:
            fields |= {"shape": "smoke", "steps": 2}
        return Case(variant, way, more, device=self.on, **common, **fields)


def measured(
    cases: Sequence[Case],
    arguments: Measuring,
    seconds: Callable[[], float | None] = lambda: None,
    known: dict[str, Row] | None = None,
) -> dict[str, Row]:
    """Measure cases one after the other, each in a fresh process, and print their rows.

    Args:
        cases: What to measure.
        arguments: In this process for a smoke run; silent for ``--json``.
        seconds: What is left for the next case; asked before each.
        known: Rows that are there already, by case; the new ones are added.

    Returns:
        Rows by variant. One that failed has ``failed``, the reason, and nothing else: it does not cost the others.
    """
    rows, known = {}, {} if known is None else known
    arguments.say(TITLE)
    for case in cases:
        key = json.dumps(dataclasses.asdict(case))
        if key not in known:
            known[key] = measure(case) if arguments.smoke else _in_fresh_process(key, seconds())
        row = rows[case.variant] = {"variant": case.variant, **known[key]}
        if not arguments.json:
            print(line(row), flush=True)
    return rows


def _in_fresh_process(case: str, seconds: float | None) -> Row:
    """The row of a case given as JSON."""
    if seconds is not None and seconds <= 0:
        return {"failed": "no time left"}
    with tempfile.TemporaryDirectory() as cache:  # bases of random weights are of no use to anybody
        environment = {**os.environ, "LOWSHOT_CACHE": cache}
        try:
            done = subprocess.run(
                [sys.executable, str(CASES), case], env=environment, capture_output=True, text=True, timeout=seconds
            )
        except subprocess.TimeoutExpired:
            return {"failed": f"not done in {seconds:.0f} seconds"}
    if done.returncode:
        reasons = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        return {"failed": reasons[-1]}
    row: Row = json.loads(done.stdout.splitlines()[-1])
    return row


def seconds(work: Callable[[], Any], device: torch.device | None = None) -> float:
    """Seconds of one call; of one on a device with the device's part."""

    def wait() -> None:
        if device is not None and device.type == "cuda":
            import torch

            torch.cuda.synchronize(device)

    wait()
    started = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - started


def in_turn(
    ways: Mapping[str, Callable[[], Any]], repeats: int, device: torch.device | None = None, ends: float = math.inf
) -> dict[str, list[float]]:
    """Seconds of ways that take turns, so that a busy machine disturbs them alike.

    Args:
        ways: The work of each, by name.
        repeats: Turns that count, after one that does not; where none follows that one counts.
        device: Waited for, if it is a CUDA device.
        ends: When no further turn is begun if one counts, as ``time.monotonic`` has it.
    """
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats + 1):
        if turn > 1 and time.monotonic() > ends:
            break
        for name, work in ways.items():
            took = seconds(work, device)
            times[name] = [*times[name], took] if turn > 1 else [took]
    return times


def milliseconds(times: Mapping[str, Sequence[float]]) -> dict[str, dict[str, float]]:
    """Median, least and most of the seconds of each way."""
    return {
        name: {"median": 1e3 * statistics.median(took), "least": 1e3 * min(took), "most": 1e3 * max(took)}
        for name, took in times.items()
    }


TITLE = (
    "variant                           s/step   before GB   on top GB   reserved GB   predicted   share of matrix rate"
)


def line(row: Row) -> str:
    """A row of the table: memory before the first step and on top of it, and how far off the planner was."""
    if "failed" in row:
        return f"{row['variant']:<32} failed: {row['failed']}"
    reserved = f"{row['reserved_bytes'] / 1e9:11.2f}" if row["reserved_bytes"] else f"{'-':>11}"
    off = prediction_error(row)
    return (
        f"{row['variant']:<32} {row['median_seconds']:7.3f}   {row['static_bytes'] / 1e9:9.3f}   "
        f"{row['dynamic_bytes'] / 1e9:9.3f}   {reserved}   {'-' if off is None else f'{off:+.1%}':>9}   "
        f"{row['share_of_matrix_rate']:20.1%}"
    )


def prediction_error(row: Row) -> float | None:
    """Distance of the predicted peak from the measured one, as a share of it; None where nothing was predicted."""
    return row["predicted"]["peak_bytes"] / row["peak_bytes"] - 1 if row["predicted"] else None


def ratios(rows: Rows, wanted: Mapping[str, tuple[str, str, str]]) -> dict[str, float]:
    """Figures of one row over those of another, where both were measured.

    Args:
        rows: By variant.
        wanted: Name of the ratio -> field, variant above, variant below.
    """
    there = {variant for variant, row in rows.items() if "failed" not in row}
    return {
        name: rows[above][field] / rows[below][field]
        for name, (field, above, below) in wanted.items()
        if {above, below} <= there
    }


def published_over_ours(rows: Rows, *, wide: str, narrow: str) -> dict[str, float]:
    """The ratios of CLIP-LoRA's step, as published over ours: of time and of the peak.

    ``time_ratio`` is what changes for someone who trains in float32 as published and now in bfloat16 by lowshot.

    Args:
        rows: By variant; the published ones are called ``published-fp32`` and ``published-fp16`` or ``-bf16``.
        wide: lowshot's row in float32.
        narrow: lowshot's row in bfloat16.
    """
    published = "published-fp16" if "published-fp16" in rows else "published-bf16"
    pairs = {"": ("published-fp32", narrow), "_same_precision": (published, narrow), "_fp32": ("published-fp32", wide)}
    fields = {"time_ratio": "median_seconds", "memory_ratio": "peak_bytes"}
    return ratios(rows, {f"{name}{pair}": (field, *pairs[pair]) for name, field in fields.items() for pair in pairs})


def published_in_16_bits(arguments: Measuring) -> str:
    """float16 on CUDA, as published; a CPU has the fast products for bfloat16."""
    return "fp16" if arguments.on_cuda else "bf16"


def result_of(benchmark: str, arguments: Measuring, rows: Rows, figures: Mapping[str, float]) -> dict[str, Any]:
    """Result of a benchmark, but for its provenance."""
    shape = "smoke" if arguments.smoke else "vit-b16"
    return {
        "benchmark": benchmark,
        "device": arguments.on,
        "shape": {"classes": arguments.classes, "batch_size": arguments.batch_size, "model": SHAPES[shape]().title},
        **figures,
        "rows": list(rows.values()),
    }


def part_of(chosen: Sequence[str], every: Iterable[str]) -> dict[str, list[str]]:
    """The field of a result that names what was measured; nothing where that is all of it."""
    return {} if set(chosen) == set(every) else {"part": list(chosen)}


def finish(result: Mapping[str, Any], arguments: Output) -> dict[str, Any]:
    """Write a result and say where, or print it as JSON; returns it with its provenance.

    Raises:
        SystemExit: A row failed; everything else has been written.
    """
    complete = {**result, "provenance": provenance()}
    outcome = "a smoke run: nothing was written"
    if arguments.out or not arguments.smoke:
        outcome = f"wrote {write_result(complete, arguments.out)}"
    if arguments.json:
        print(json.dumps(complete))
    else:
        for name, value in result.items():
            if isinstance(value, float):
                print(f"{name:<32} {value:.3g}")
        print(outcome)
    failed = [row["variant"] for row in result.get("rows", ()) if "failed" in row]
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")
    return complete
