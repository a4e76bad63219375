"""Threads: those that torch computes with, and what one thread may do at a time."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

BUILDING = threading.RLock()
"""Held while a library builds a model or puts modules into one. transformers replaces torch's initialisers meanwhile,
for every thread: what another one builds then would stay uninitialised."""


@contextlib.contextmanager
def cpu_threads(count: int | None) -> Iterator[None]:
    """Compute with this many threads for the length of a block; None changes nothing."""
    if count is None:
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
