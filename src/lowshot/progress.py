"""Progress of long work: a bar on a terminal, plain lines in a log, silence by default.

Curves of a training are told step by step to whoever keeps them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextvars import ContextVar
from typing import Protocol, TypeVar

_Item = TypeVar("_Item")
_SECONDS_BETWEEN_LINES = 10.0
_quiet = ContextVar("quiet", default=False)


class Track(Protocol):
    """Yields what it is given and shows the progress."""

    def __call__(self, items: Iterable[_Item], /, *, what: str, total: int) -> Iterator[_Item]: ...


def silent(items: Iterable[_Item], /, *, what: str, total: int) -> Iterator[_Item]:  # noqa: ARG001
    """Show nothing: the library's default."""
    yield from items


@contextlib.contextmanager
def quiet(asked: bool = True) -> Iterator[None]:
    """Have ``shown`` show nothing inside, and ``is_quiet`` say so to whoever tells what is being done."""
    before = _quiet.set(asked)
    try:
        yield
    finally:
        _quiet.reset(before)


def is_quiet() -> bool:
    """Whether nothing is to be told but answers, warnings and errors."""
    return _quiet.get()


def shown(items: Iterable[_Item], /, *, what: str, total: int) -> Iterator[_Item]:
    """Show progress on standard error, unless it is quiet: a bar on a terminal, else a line every ten seconds."""
    if is_quiet():
        yield from items
    elif sys.stderr.isatty():
        from tqdm import tqdm

        yield from tqdm(items, desc=what, total=total, leave=False, dynamic_ncols=True)
    else:
        started = printed = time.monotonic()
        for done, item in enumerate(items):
            now = time.monotonic()
            if done and now - printed >= _SECONDS_BETWEEN_LINES:
                printed = now
                left = (now - started) / done * (total - done)
                sys.stderr.write(f"{what}: {done} of {total}, {left:.0f} s left\n")
            yield item


@dataclasses.dataclass(frozen=True)
class StepTaken:
    """One optimiser step that was taken."""

    step: int
    """Steps of the run that are done now, from 1."""
    steps: int
    """Steps of the whole run."""
    loss: float
    """Loss before the update."""
    learning_rate: float
    """Learning rate of the update."""
    images: int
    """Images that were learnt from so far, each as often as it was."""
    seconds: float
    """Wall time of the step."""


class Report(Protocol):
    """Listener to a training, which must not stop it."""

    def begin(self, run: str, losses: Sequence[float]) -> None:
        """Training begins, or goes on.

        Args:
            run: The run's own identifier; one that goes on has the same.
            losses: Of the steps that are done already.
        """

    def step(self, taken: StepTaken) -> None:
        """A step was taken."""


class Reports:
    """Listener that passes everything on to several, or to none.

    Args:
        *reports: The listeners, in this order.
    """

    def __init__(self, *reports: Report) -> None:
        self._reports = reports

    def begin(self, run: str, losses: Sequence[float]) -> None:
        for report in self._reports:
            report.begin(run, losses)

    def step(self, taken: StepTaken) -> None:
        for report in self._reports:
            report.step(taken)


UNREPORTED: Report = Reports()
"""A listener that does nothing."""
