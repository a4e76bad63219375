"""Requests whose items are worked on by threads: they take turns, and each waits for all of its own results."""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Generic, TypeVar

from ..errors import LowshotError

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Turns(Generic[_Item]):
    """Items that wait, those of a request together; one of each is taken in turn, so that a small request is soon done.

    Threads that share it need a lock.
    """

    def __init__(self) -> None:
        self._requests: collections.deque[collections.deque[_Item]] = collections.deque()

    def __len__(self) -> int:
        return sum(map(len, self._requests))

    def add(self, items: Iterable[_Item]) -> None:
        """Let the items of a request wait."""
        if request := collections.deque(items):
            self._requests.append(request)

    def next(self, may: Callable[[_Item], bool] = lambda _: True) -> _Item | None:
        """Take the next item of the first request whose next item may be taken; None where there is none."""
        for _ in range(len(self._requests)):
            request = self._requests.popleft()
            item = request.popleft() if may(request[0]) else None
            if request:
                self._requests.append(request)
            if item is not None:
                return item
        return None

    def clear(self) -> list[_Item]:
        """Take all items at once."""
        items = [item for request in self._requests for item in request]
        self._requests.clear()
        return items


async def results_of(futures: Iterable[Future[_Result]]) -> list[_Result | LowshotError]:
    """The results of a request's items, in order; one of our own errors in the place of an item that it befell.

    If the caller is cancelled, so are the items that have not begun.
    """
    waited = [asyncio.wrap_future(future) for future in futures]  # to cancel one is to cancel what it wraps
    results: list[_Result | LowshotError] = []
    for result in await asyncio.gather(*waited, return_exceptions=True):
        if isinstance(result, BaseException) and not isinstance(result, LowshotError):
            raise result
        results.append(result)
    return results
