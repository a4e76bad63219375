"""Figures of a running server in Prometheus' text format (version 0.0.4). Every label has a small, known set of values.

Labels are never made of what clients send: a path that is no route of the server is ``other``, and so is a method that
it does not know. Adapters are counted, not named.
"""

from __future__ import annotations

import bisect
import collections
import contextlib
import itertools
import os
import threading
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
ROWS = (1, 2, 4, 8, 16, 32, 64)
_METHODS = frozenset({"GET", "HEAD", "POST", "DELETE", "OPTIONS"})
_OTHER = "other"


class _Histogram:
    """Counts of values up to each bound, their number and their sum."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, value: float) -> None:
        self._counts[bisect.bisect_left(self._bounds, value)] += 1
        self._sum += value

    def lines(self, name: str, labels: str) -> Iterator[str]:
        inside, so_far = f"{labels}," if labels else "", 0
        for bound, count in zip((*self._bounds, "+Inf"), self._counts, strict=True):
            so_far += count
            yield f'{name}_bucket{{{inside}le="{bound}"}} {so_far}'
        around = f"{{{labels}}}" if labels else ""
        yield f"{name}_sum{around} {self._sum:.6f}"
        yield f"{name}_count{around} {so_far}"


class Metrics:
    """Counts what a server does. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: collections.Counter[str] = collections.Counter()
        self._seconds: dict[str, _Histogram] = {}
        self._images: collections.Counter[str] = collections.Counter({"answered": 0, "refused": 0})
        self._batches, self._batch_seconds = _Histogram(ROWS), _Histogram(SECONDS)

    def answered(self, scope: MutableMapping[str, Any], status: int, seconds: float) -> None:
        """Note a request and its answer.

        Args:
            scope: Of ASGI, after routing.
            status: Of the answer.
            seconds: From the request's head to the answer's end.
        """
        route = getattr(scope.get("route"), "path", None) or _OTHER
        method = scope["method"] if scope["method"] in _METHODS else _OTHER
        with self._lock:
            self._requests[f'method="{method}",route="{route}",status="{status}"'] += 1
            self._seconds.setdefault(f'route="{route}"', _Histogram(SECONDS)).add(seconds)

    def images(self, *, answered: int, refused: int) -> None:
        """Note images that were asked about."""
        with self._lock:
            self._images.update(answered=answered, refused=refused)

    def batch(self, rows: int, seconds: float) -> None:
        """Note a batch that went through the model."""
        with self._lock:
            self._batches.add(rows)
            self._batch_seconds.add(seconds)

    def text(self, gauges: Mapping[str, float]) -> str:
        """All figures.

        Args:
            gauges: State of the server by name and labels such as ``jobs{state="done"}``, name beside name.
        """
        seconds, images = "lowshot_request_seconds", "lowshot_images_total"
        with self._lock:
            lines = [
                *_head("lowshot_requests_total", "counter", "Requests answered."),
                *(f"lowshot_requests_total{{{labels}}} {count}" for labels, count in sorted(self._requests.items())),
                *_head(seconds, "histogram", "From a request's head to its answer's end."),
                *(line for labels, times in self._seconds.items() for line in times.lines(seconds, labels)),
                *_head(images, "counter", "Images asked about."),
                *(f'{images}{{result="{result}"}} {count}' for result, count in sorted(self._images.items())),
                *_head("lowshot_batch_images", "histogram", "Images of a batch."),
                *self._batches.lines("lowshot_batch_images", ""),
                *_head("lowshot_batch_seconds", "histogram", "Time of a batch in the model."),
                *self._batch_seconds.lines("lowshot_batch_seconds", ""),
            ]
        values = {f"lowshot_{name}": value for name, value in gauges.items()} | process_figures()
        for family, names in itertools.groupby(values, lambda name: name.partition("{")[0]):
            lines.append(f"# TYPE {family} gauge")
            lines += [f"{name} {values[name]:{'g' if values[name] < 1e6 else '.0f'}}" for name in names]
        return "\n".join(lines) + "\n"


def _head(name: str, kind: str, meaning: str) -> tuple[str, str]:
    return f"# HELP {name} {meaning}", f"# TYPE {name} {kind}"


def process_figures() -> dict[str, float]:
    """Memory and open files of this process, under Prometheus' own names; nothing where the system does not say."""
    figures: dict[str, float] = {}
    with contextlib.suppress(OSError, ValueError, IndexError):
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        figures["process_resident_memory_bytes"] = pages * os.sysconf("SC_PAGE_SIZE")
        figures["process_open_fds"] = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - counted, not looked at
    return figures
