"""One call to ``gpu.py``: its rows, each written as soon as it is there, and what a row that fails leaves."""

from __future__ import annotations

import dataclasses
import gc
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpu_aims import aims

if TYPE_CHECKING:
    from cases import Case

Row = dict[str, Any]
NO_TIME = {"failed": "no time left"}


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
        rows: list[Row] = self.result["parts"][self.part]["rows"]
        return rows

    def attempt(self, variant: str, limit: float, work: Callable[[float], Sequence[Row]]) -> None:
        """Add the rows of some work, or one that says why it has none.

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
            print(in_a_line(row), flush=True)

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
    """The rows of some work; where it fails, one row that says why."""
    import torch

    try:
        return work()
    except LeftOutError as reason:
        return [{"left_out": str(reason)}]
    except torch.OutOfMemoryError:
        pass  # what is caught holds on to all the memory
    except Exception as error:  # a fault in one row must not cost those that come after it
        first, *_ = str(error).strip().splitlines() or [""]
        return [{"failed": f"{type(error).__name__}: {first}"}]
    clean(device)
    free = torch.cuda.mem_get_info()[0] / 1e9 if device == "cuda" else 0.0
    return [{"left_out": f"it does not fit into the {free:.1f} GB that are free"}]


def in_a_line(row: Row) -> str:
    """A row in one line."""
    from measuring import line

    if "share_of_matrix_rate" in row:
        return f"{line(row)}{''.join(f'   {note}' for note in row['notes'])}"
    if "left_out" in row:
        return f"{row['variant']:<32} left out: {row['left_out']}"
    figures = {name: value for name, value in row.items() if isinstance(value, int | float)}
    words = "  ".join(f"{name} {value:.4g}" for name, value in figures.items())
    return f"{row['variant']:<32} {words}{'  failed: ' + row['failed'][-300:] if 'failed' in row else ''}"
