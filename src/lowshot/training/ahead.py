"""The batches of the next steps, prepared while this one is computed."""

from __future__ import annotations

import collections
import concurrent.futures
import functools
import itertools
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Protocol

import torch
from torch import Tensor

_BATCHES = 4
"""Prepared ahead of the device at most; each is a batch of cut photographs, some ten megabytes."""
_THREADS = 4
"""A batch of 32 photographs takes one of them about 10 ms."""

CROPS_BYTES = 60 * 10**6
"""Bytes on a device while it makes a batch of crops, at most: the photographs' pixels as floats, and resized one way.
By their shapes; it was not measured."""


@functools.cache
def _stream(device: torch.device, thread: int) -> torch.cuda.Stream:  # noqa: ARG001
    """Return the one stream for all fits of a thread: cuBLAS keeps a workspace for every stream it has seen."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


class Prepared(Protocol):
    """A batch as far as the processor prepares it."""

    def resized(self, device: torch.device) -> Tensor:
        """Return the batch's images, computed on the device; the processor does not wait for them."""


class ImagesAhead:
    """Images by number of a step and its rows, which are there before the device needs them.

    Threads prepare the batches of the next steps on the processor. The device finishes the next one on a stream of its
    own, while it computes the step before. To be closed, which its ``with`` block does.

    Args:
        prepare: (number of a step, rows) to what a thread can do of their images. It depends on nothing else.
        device: Where the images are needed.
        beside: Finish the next batch beside the step, on a stream of its own, which takes memory for both.
    """

    def __init__(
        self, prepare: Callable[[int, Sequence[int]], Prepared], device: torch.device, *, beside: bool = True
    ) -> None:
        self._prepare, self._device, self._beside = prepare, device, beside
        threads = max(1, min(_THREADS, (os.cpu_count() or 2) - 1))
        self._threads = concurrent.futures.ThreadPoolExecutor(threads, thread_name_prefix="crops")
        self._coming: dict[int, tuple[Sequence[int], concurrent.futures.Future[Prepared]]] = {}
        self._finished: dict[int, Tensor] = {}
        self._stream = _stream(device, threading.get_ident()) if beside and device.type == "cuda" else None

    def __enter__(self) -> ImagesAhead:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown(cancel_futures=True)
        self._coming, self._finished = {}, {}

    def watching(self, order: Iterable[Sequence[int]], first: int) -> Iterator[Sequence[int]]:
        """Yield the same batches; those from step ``first`` on are prepared before their turn."""
        numbered = enumerate(order)
        yield from (rows for _, rows in itertools.islice(numbered, first))
        waiting: collections.deque[Sequence[int]] = collections.deque()
        for number, rows in numbered:
            self._coming[number] = rows, self._threads.submit(self._prepare, number, rows)
            waiting.append(rows)
            if len(waiting) > _BATCHES:
                yield waiting.popleft()
        yield from waiting

    def __call__(self, number: int, rows: Sequence[int]) -> Tensor:
        """Return the images of a step's rows, for whatever is launched next on the current stream."""
        announced, prepared = self._coming.pop(number, (None, None))
        images = self._finished.pop(number, None)
        if prepared is None or list(announced or ()) != list(rows):
            images = self._finish(self._prepare(number, rows))  # not those that were announced
        elif images is None:
            images = self._finish(prepared.result())
        if self._stream is not None:
            torch.cuda.current_stream(self._device).wait_stream(self._stream)
        following = self._coming[number + 1][1] if self._beside and number + 1 in self._coming else None
        # An image that cannot be read is an error of its own step.
        is_ready = following is not None and following.done() and following.exception() is None
        if following is not None and is_ready and number + 1 not in self._finished:
            self._finished[number + 1] = self._finish(following.result())
        return images

    def _finish(self, prepared: Prepared) -> Tensor:
        if self._stream is None:
            return prepared.resized(self._device)
        # Behind the step before: what that step copied from may be written over, and no more than one batch waits.
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            return prepared.resized(self._device)
