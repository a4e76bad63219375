"""Runs side by side, each written as if it were alone.

Each run is a greenlet: all of them live on the thread that asks for their results, and one works at a time, so that
nothing here is a race. A run hands over where it waits for the others, as it does where the gradients of a step are
asked for (``joined``). When its turn comes again all others have come as far, or to their ends. What a run does
besides, from its images to its checkpoint, it does by itself: it may be longer than others, be interrupted, diverge or
end alone.

What torch keeps for a thread, such as whether gradients are kept, is the same for all runs: that of
``own_torch_state``. A run hands over where it has changed none of it.
"""

from __future__ import annotations

import collections
import contextlib
import contextvars
import time
from collections.abc import Callable, Generator, Iterable
from typing import Any, Generic, TypeVar

from greenlet import getcurrent, greenlet

from ..torch_state import own_torch_state

_Result = TypeVar("_Result")


class Company(Generic[_Result]):
    """Runs that are side by side.

    Args:
        most: How many at most.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.groups: dict[object, list[Any]] = {}
        """Key of steps that can be computed together -> the groups of those; see ``joined``."""

    def results(self, works: Iterable[Callable[[], _Result]]) -> Generator[_Result, None, None]:
        """Do works, each a run from its beginning to its end, and yield what each returns as it ends.

        A work is asked for when there is room for it, and begins when its turn comes. Closing the iterator, or an
        exception in it or in a work, ends the others: they meet ``GreenletExit`` where they had handed over, and write
        their states. One thread asks for all results, and closes.

        Args:
            works: The works. Where there is one at a time it is done as it would be without a company.
        """
        left = iter(works)
        if self.most == 1:
            yield from (work() for work in left)
            return
        turns = collections.deque[Member[_Result]]()
        try:
            while True:
                while len(turns) < self.most and (work := next(left, None)) is not None:
                    turns.append(Member(self, work))
                if not turns:
                    return
                with own_torch_state():  # so that each run finds what it sets, and gives back what the others need
                    while not turns[0].go_on():
                        turns.rotate(-1)
                yield turns.popleft().result
        finally:
            with own_torch_state(), contextlib.ExitStack() as every_one:
                for member in turns:
                    every_one.callback(member.leave)


class Member(Generic[_Result]):
    """A run, and its greenlet.

    Args:
        company: Those beside it.
        work: The run.
    """

    result: _Result
    """The run's return value, once it has ended."""

    def __init__(self, company: Company[_Result], work: Callable[[], _Result]) -> None:
        self.company = company
        self._work = work
        self._greenlet = greenlet(self._run)
        self._greenlet.gr_context = contextvars.copy_context()  # its own would be empty
        self._seconds = 0.0
        self._since: float | None = None

    def go_on(self) -> bool:
        """Give the run its turn, until it hands over; whether it has ended.

        Whatever ends the run with an exception is raised here.
        """
        self._greenlet.parent = getcurrent()
        self._since = time.perf_counter()
        try:
            self._greenlet.switch()
        finally:
            self._seconds, self._since = self.seconds(), None
        return bool(self._greenlet.dead)

    def hand_over(self) -> None:
        """Let every other run go on to where it hands over, then return.

        Raises:
            GreenletExit: The run is to end here: another has failed, or nobody waits for it any more.
        """
        self._greenlet.parent.switch()

    def leave(self) -> None:
        """End the run where it has handed over, or before it has begun."""
        while not self._greenlet.dead:
            self._greenlet.throw()

    def seconds(self) -> float:
        """Time that this run has worked, with its share of what was computed together."""
        return self._seconds + (0.0 if self._since is None else time.perf_counter() - self._since)

    def add_seconds(self, seconds: float) -> None:
        """Count time that another run has worked for this one; less than none where this one has for others."""
        self._seconds += seconds

    def _run(self) -> None:
        _HERE.set(self)
        try:
            self.result = self._work()
        finally:
            _HERE.set(None)  # the context would hold on to what has ended


_HERE: contextvars.ContextVar[Member[Any] | None] = contextvars.ContextVar("member", default=None)
"""The run that is at work."""


def working_seconds() -> float:
    """A clock that stands while a run beside others waits for its turn; elsewhere that of ``time.perf_counter``."""
    member = _HERE.get()
    return time.perf_counter() if member is None else member.seconds()


def member_here() -> Member[Any] | None:
    """The run that is at work; None where no runs are side by side."""
    return _HERE.get()
