"""Threads: those that torch computes with, and what one thread may do at a time."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import Protocol, TypeVar

_Lock = TypeVar("_Lock", bound="Lockable")


class Lockable(Protocol):
    """A lock of the standard library."""

    def acquire(self) -> bool:
        """Wait for it."""

    def release(self) -> None:
        """Give it back."""


def free_in_forks(lock: _Lock) -> _Lock:
    """Return the lock; a process is forked only while nobody holds it, since the fork would find it held for ever."""
    if hasattr(os, "register_at_fork"):  # which Windows has not
        os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)
    return lock


BUILDING = free_in_forks(threading.RLock())
"""Held while a library builds a model or puts modules into one. transformers replaces torch's initialisers meanwhile,
for every thread: what another one builds then would stay uninitialised."""


# Threads that torch computes with do not come along when a process is forked, and whoever waits for them waits for ever
# (pytorch 17199).
_process = {"computed": False, "forked": False}


def _after_fork() -> None:
    _process["forked"] |= _process["computed"]


if hasattr(os, "register_at_fork"):  # which Windows has not
    os.register_at_fork(after_in_child=_after_fork)


def fork_notes() -> list[str]:
    """A warning for a process that was forked from one in which lowshot had computed."""
    if not _process["forked"]:
        return []
    return ["one thread computes, as this process was forked from one that computed; spawned ones have all of them"]


@contextlib.contextmanager
def threads_of_its_own() -> Iterator[None]:
    """Compute on one thread where those of torch are another process's; elsewhere on as many as there are."""
    _process["computed"] = True
    with cpu_threads(None):
        yield


@contextlib.contextmanager
def cpu_threads(count: int | None) -> Iterator[None]:
    """Compute with this many threads for the length of a block; None changes nothing.

    In a process that was forked while computing it is one, whatever is asked for.
    """
    if _process["forked"]:
        count = 1
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
