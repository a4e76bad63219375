"""Runs side by side, each written as if it were alone.

Each run has a thread of its own, and one of them works at a time, so that nothing here is a race. A run hands over
where it waits for the others, as it does where the gradients of a step are asked for (``joined``). When its turn comes
again all others have come as far, or to their ends. What a run does besides, from its images to its checkpoint, it does
by itself: it may be longer than others, be interrupted, diverge or end alone.
"""

from __future__ import annotations

import collections
import contextvars
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, Generic, TypeVar

import torch

from ..progress import Track

THREADS = "lowshot run"
"""Name of their threads."""
_GLANCE_SECONDS = 0.5
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Abandoned(BaseException):
    """Another run has failed, or nobody waits for this one any more. No run but one of ``Company`` ever meets it."""


class Company(Generic[_Result]):
    """Runs that are side by side.

    Args:
        most: How many at most.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._turns: collections.deque[Member[_Result]] = collections.deque()
        """Runs that have not ended. The first of them works, or it is the turn of whoever waits for results."""
        self._ended: Member[_Result] | None = None
        self._to_main, self._is_here = threading.Semaphore(0), True
        self.groups: dict[object, list[Any]] = {}
        """What steps must have in common to be computed together -> those who do; see ``joined``."""
        self.is_over = False

    def results(self, works: Iterable[Callable[[], _Result]]) -> Generator[_Result, None, None]:
        """Do works, each a run from its beginning to its end, and yield what each returns as it ends.

        A work is asked for when there is room for it, and begins when its turn comes. Closing the iterator, or an
        exception in it or in a work, ends the others: their states are written first.

        Args:
            works: The works. Where there is one at a time it is done by the caller's own thread.
        """
        left = iter(works)
        if self.most == 1:
            yield from (work() for work in left)
            return
        try:
            while True:
                while len(self._turns) < self.most and (work := next(left, None)) is not None:
                    self._turns.append(Member(self, work))
                if not self._turns:
                    return
                ended = self._next_to_end()
                if ended.error is not None:
                    raise ended.error
                yield ended.result
        finally:
            self.is_over = True
            while self._turns:
                self._next_to_end()

    def watched(self, track: Track) -> Track:
        """The same for works, which end at the next item where nobody waits for them any more.

        Python interrupts no thread but the first one.
        """

        def until_over(items: Iterable[_Item], /, *, what: str, total: int) -> Iterator[_Item]:
            for item in track(items, what=what, total=total):
                if self.is_over:
                    raise Abandoned
                yield item

        return until_over

    def _next_to_end(self) -> Member[_Result]:
        """Wait for a run to end; the turn is here again then."""
        if self._is_here:
            self._turns[0].go_on()
        self._is_here = False
        while not self._to_main.acquire(timeout=_GLANCE_SECONDS):
            pass  # a signal may have come, which some systems tell of between two waits alone
        self._is_here = True
        ended = self._ended
        assert ended is not None
        ended.join()
        return ended

    def hand_over(self, member: Member[_Result]) -> None:
        """Let every other run go on to where it hands over, then return.

        Raises:
            Abandoned: The run is to end here.
        """
        if not self.is_over and len(self._turns) > 1:
            self._turns.rotate(-1)
            self._turns[0].go_on()
            member.wait()
        if self.is_over:
            raise Abandoned

    def end(self, member: Member[_Result]) -> None:
        """Leave; whoever waits for results is told."""
        self._turns.remove(member)
        self._ended = member
        self._to_main.release()


class Member(Generic[_Result]):
    """A run, and its thread."""

    result: _Result

    def __init__(self, company: Company[_Result], work: Callable[[], _Result]) -> None:
        self.company = company
        self.error: BaseException | None = None
        self.is_at_work = False
        self._work = work
        self._turn = threading.Semaphore(0)
        self._seconds, self._since = 0.0, 0.0
        is_used = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        self._device = torch.cuda.current_device() if is_used else None
        context = contextvars.copy_context()
        # What a run is about when the process ends is lost, as it would be without a thread.
        self._thread = threading.Thread(target=context.run, args=(self._run,), name=THREADS, daemon=True)
        self._thread.start()

    def go_on(self) -> None:
        """Give it the turn; the caller waits for its own then."""
        self._turn.release()

    def join(self) -> None:
        """Wait for the thread of a run that has ended."""
        self._thread.join()

    def wait(self) -> None:
        """Wait for the turn."""
        self._seconds, self.is_at_work = self.seconds(), False
        self._turn.acquire()
        self.is_at_work, self._since = True, time.perf_counter()

    def seconds(self) -> float:
        """Time that this run has worked, with its share of what was computed together."""
        return self._seconds + (time.perf_counter() - self._since if self.is_at_work else 0.0)

    def add_seconds(self, seconds: float) -> None:
        """Count time that another run has worked for this one; less than none where this one has for others."""
        self._seconds += seconds

    def _run(self) -> None:
        self.wait()
        _HERE.set(self)
        try:
            if self._device is not None:  # each thread has its own
                torch.cuda.set_device(self._device)
            if not self.company.is_over:
                self.result = self._work()
        except BaseException as error:
            self.error = error
        finally:
            self.company.end(self)


_HERE: contextvars.ContextVar[Member[Any] | None] = contextvars.ContextVar("member", default=None)
"""The run of this thread."""


def working_seconds() -> float:
    """A clock that stands while a run beside others waits for its turn; elsewhere that of ``time.perf_counter``."""
    member = _HERE.get()
    return time.perf_counter() if member is None else member.seconds()


def member_here() -> Member[Any] | None:
    """The run of this thread; None where no runs are side by side."""
    return _HERE.get()
