"""Micro-batches: images of many requests and many adapters go through the model together.

One thread owns the model. Requests take turns, a row each, so that a small one does not wait for all of a large one; a
batch is as many rows as fit, and no more than are computed in half a second. When the model is idle, an image waits a
few milliseconds for others; while it is busy, those that come meanwhile are the next batch.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future, InvalidStateError
from typing import Generic, TypeVar

from ..errors import LowshotError, RunError
from .refusals import Busy, Draining
from .turns import Turns, results_of

_Image = TypeVar("_Image")
_Query = TypeVar("_Query", bound=Hashable)
_Answer = TypeVar("_Answer")
_BATCH_SECONDS = 0.5  # that a batch may take, so that whoever comes meanwhile is not kept waiting for more
_SMOOTHING = 0.1  # share of the last batch in the known time of an image


@dataclasses.dataclass(eq=False)
class _Row(Generic[_Image, _Query, _Answer]):
    image: _Image
    query: _Query
    future: Future[_Answer]


class Batcher(Generic[_Image, _Query, _Answer]):
    """Puts rows of many callers into batches. All of it may be called from any thread.

    Args:
        predict: From 1 to ``batch_images`` images, and the query about each, to an answer for each, which may be an
            error; called from one thread alone.
        batch_images: Rows of a batch at most.
        batch_seconds: How long a row waits for others at most while the model is idle.
        capacity: Rows that are reserved at once at most.
        observe: Told of each batch: rows, seconds.
    """

    def __init__(
        self,
        predict: Callable[[Sequence[_Image], Sequence[_Query]], Sequence[_Answer | LowshotError]],
        *,
        batch_images: int,
        batch_seconds: float,
        capacity: int,
        observe: Callable[[int, float], None] | None = None,
    ) -> None:
        self._predict = predict
        self._batch_images = batch_images
        self._batch_seconds = batch_seconds
        self._capacity = capacity
        self._observe = observe
        self._turns = Turns[_Row[_Image, _Query, _Answer]]()
        self._changed = threading.Condition()
        self._reserved = 0
        self._seconds_per_image = 0.0
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Rows that are reserved now: being decoded, in the line, or in the model."""
        return self._reserved

    @contextlib.contextmanager
    def reserved(self, rows: int) -> Iterator[None]:
        """Hold room for rows for the length of a block, before they are decoded, so that what waits is bounded."""
        with self._changed:
            if self._closing:
                raise Draining
            if self._reserved + rows > self._capacity:
                seconds = self._reserved * self._seconds_per_image
                raise Busy(f"{self._reserved} images wait already, and at most {self._capacity} may", seconds)
            self._reserved += rows
        try:
            yield
        finally:
            with self._changed:
                self._reserved -= rows

    async def predict(self, rows: Sequence[tuple[_Image, _Query]]) -> list[_Answer | LowshotError]:
        """Answers in the order of the rows; an error in the place of a row that it befell.

        If the caller is cancelled, those of its rows that are still in the line are dropped.

        Args:
            rows: Each an image and the query about it.
        """
        line: list[_Row[_Image, _Query, _Answer]] = [_Row(image, query, Future()) for image, query in rows]
        with self._changed:
            self._turns.add(line)
            self._changed.notify_all()
        return await results_of(row.future for row in line)

    def close(self, seconds: float) -> bool:
        """Take no more, finish the line, stop; whether that was done in time. What was not is answered by an error."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(seconds)
        with self._changed:
            left = self._turns.clear()
        for row in left:
            _fail(row, RunError("the server stopped before this image's turn came"))
        return not self._thread.is_alive()

    def _work(self) -> None:
        is_first = True  # which is no measure of the others: it loads the adapter, and a GPU starts with it
        while batch := self._next():
            started = time.perf_counter()
            for row, answer in zip(batch, self._answers(batch), strict=True):
                if isinstance(answer, LowshotError):
                    _fail(row, answer)
                else:
                    with contextlib.suppress(InvalidStateError):  # cancelled meanwhile
                        row.future.set_result(answer)
            seconds = time.perf_counter() - started
            if not is_first:
                latest = seconds / len(batch)
                known = self._seconds_per_image or latest
                self._seconds_per_image = known + _SMOOTHING * (latest - known)
            is_first = False
            if self._observe is not None:
                self._observe(len(batch), seconds)

    def _next(self) -> list[_Row[_Image, _Query, _Answer]]:
        """The next batch; waits for one. Empty when all is done and no more will come."""
        with self._changed:
            while True:
                while not self._turns and not self._closing:
                    self._changed.wait()
                self._gather()
                batch: list[_Row[_Image, _Query, _Answer]] = []
                while len(batch) < self._most and (row := self._turns.next()) is not None:
                    if not row.future.cancelled():
                        batch.append(row)
                if batch or (self._closing and not self._turns):
                    return batch

    @property
    def _most(self) -> int:
        """Rows of the next batch at most."""
        seconds = self._seconds_per_image
        return max(1, min(self._batch_images, int(_BATCH_SECONDS / seconds))) if seconds else self._batch_images

    def _gather(self) -> None:
        """Wait a little for a full batch; whoever waited while the model was busy has waited already."""
        until = time.monotonic() + self._batch_seconds
        while (waiting := len(self._turns)) < self._most and not self._closing:
            left = until - time.monotonic()
            # Everyone who holds room and is not in the line yet is still decoding: with nobody else, do not wait.
            if left <= 0 or self._reserved <= waiting:
                return
            self._changed.wait(left)

    def _answers(self, batch: Sequence[_Row[_Image, _Query, _Answer]]) -> Sequence[_Answer | LowshotError]:
        """Answers of all together; where that fails, query by query, so that one adapter's fault is nobody else's."""
        try:
            return self._predict([row.image for row in batch], [row.query for row in batch])
        except Exception as error:
            queries = list(dict.fromkeys(row.query for row in batch))
            if len(queries) == 1:
                if isinstance(error, LowshotError):
                    return [error] * len(batch)
                failed = RunError(f"predicting failed: {type(error).__name__}")  # callers learn the kind alone
                failed.__cause__ = error
                return [failed] * len(batch)
        by_place: dict[int, _Answer | LowshotError] = {}
        for query in queries:
            places = [place for place, row in enumerate(batch) if row.query == query]
            by_place.update(zip(places, self._answers([batch[place] for place in places]), strict=True))
        return [by_place[place] for place in range(len(batch))]


def _fail(row: _Row[_Image, _Query, _Answer], error: LowshotError) -> None:
    with contextlib.suppress(InvalidStateError):
        row.future.set_exception(error)
