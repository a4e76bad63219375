"""The part ``profile`` of ``gpu.py``: the kernels of one step."""

from __future__ import annotations

import collections
import math
import os
import time
from collections.abc import Iterable, Iterator
from typing import Any

from gpu_run import Row, Run


def profile_part(run: Run) -> None:
    """A step that is replayed and one that is launched, both long after the first."""
    os.environ.setdefault("TEARDOWN_CUPTI", "0")  # a graph outlives what a profile tears down
    run.attempt("replayed", 20.0, lambda ends: [profiled(run, cuda_graph=True)])  # noqa: ARG005
    run.attempt("launched", 20.0, lambda ends: [profiled(run, cuda_graph=False)])  # noqa: ARG005


def profiled(run: Run, *, cuda_graph: bool) -> Row:
    """The work of the device in one step, and which kernels took longest."""
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
    """The time during which at least one of these spans lasted, each given by its begin and its end."""
    total, reached = 0.0, -math.inf
    for began, ended in sorted(spans):
        total += max(0.0, ended - max(began, reached))
        reached = max(reached, ended)
    return total
