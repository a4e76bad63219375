"""Telling a person how far long work is: a bar on a terminal, plain lines in a log, silence by default."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

_Item = TypeVar("_Item")
_SECONDS_BETWEEN_LINES = 10.0


class Track(Protocol):
    """Yields what it is given and shows the progress."""

    def __call__(self, items: Iterable[_Item], /, *, what: str, total: int) -> Iterator[_Item]: ...


def silent(items: Iterable[_Item], /, *, what: str, total: int) -> Iterator[_Item]:  # noqa: ARG001
    """Show nothing: the library's default."""
    yield from items


def shown(items: Iterable[_Item], /, *, what: str, total: int) -> Iterator[_Item]:
    """Show progress on standard error: a bar if that is a terminal, else a line every ten seconds."""
    if sys.stderr.isatty():
        from tqdm import tqdm

        yield from tqdm(items, desc=what, total=total, leave=False, dynamic_ncols=True)
    else:
        yield from _lines(items, what, total)


def _lines(items: Iterable[_Item], what: str, total: int) -> Iterator[_Item]:
    started = said = time.monotonic()
    for done, item in enumerate(items):
        now = time.monotonic()
        if done and now - said >= _SECONDS_BETWEEN_LINES:
            said = now
            left = (now - started) / done * (total - done)
            sys.stderr.write(f"{what}: {done} of {total}, {left:.0f} s left\n")
        yield item
