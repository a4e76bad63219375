"""Images of many requests decoded on a few threads, the requests taking turns.

How much is decoded at once is bounded: by the pixels of all requests together, which is time, and by the bytes of one
image, which is memory. Images that are large are never on all threads, so that a small one waits for small ones alone.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, InvalidStateError
from typing import Generic, NamedTuple, TypeVar

from ..data.decoding import decoded_size
from ..errors import LowshotError
from .limits import Limits
from .refusals import Busy, Draining, Refusal

_Result = TypeVar("_Result")
_THREADS = 2
_LARGE_BYTES = 24 << 20  # decoded: a photograph of 12 megapixels in JPEG takes 21 MB, and a fifth of a second
_LARGE_FILES_BYTES = 4 << 20  # whose headers may take 0.8 s: Pillow looks for a marker of a JPEG byte by byte


class _Task(NamedTuple):
    """Work on one image, or on the headers of a request's images."""

    work: Callable[[], object]
    is_large: bool
    future: Future[object]


class Decoder(Generic[_Result]):
    """Decodes images for many requests; all of it but the work is called on the event loop.

    Args:
        crop: What is done to each image's file, on one of the threads.
        limits: How much may be decoded.
    """

    def __init__(self, crop: Callable[[bytes], _Result], limits: Limits) -> None:
        self._crop = crop
        self._limits = limits
        self._pixels = 0
        self._requests: collections.deque[collections.deque[_Task]] = collections.deque()
        self._large_under_way = 0
        self._closing = False
        self._changed = threading.Condition()
        for number in range(_THREADS):
            threading.Thread(target=self._work, name=f"decoding-{number}", daemon=True).start()

    @property
    def pixels(self) -> int:
        """Pixels of all images that are being decoded or wait for it."""
        return self._pixels

    async def crops(self, contents: Sequence[bytes]) -> list[_Result | Refusal | LowshotError]:
        """Decode a request's images; in the place of one that cannot be decoded, or is too large, the reason.

        If the caller is cancelled, what has not begun is dropped.

        Raises:
            Refusal: The images have too many pixels together, or those of all requests have.
        """
        is_large = sum(map(len, contents)) > _LARGE_FILES_BYTES
        [sizes] = await self._done([(lambda: [_size(content) for content in contents], is_large)])
        assert isinstance(sizes, list)
        reasons = [size if isinstance(size, LowshotError) else self._too_large(size[1]) for size in sizes]
        good = [place for place, reason in enumerate(reasons) if reason is None]
        with self._counted(sum(sizes[place][0] for place in good)):
            found = await self._done(
                [(functools.partial(self._crop, contents[place]), sizes[place][1] > _LARGE_BYTES) for place in good]
            )
        crops = dict(zip(good, found, strict=True))
        return [crops[place] if reason is None else reason for place, reason in enumerate(reasons)]  # type: ignore[misc]

    def close(self) -> None:
        """Decode nothing more."""
        with self._changed:
            self._closing = True
            left = [task for tasks in self._requests for task in tasks]
            self._requests.clear()
            self._changed.notify_all()
        for task in left:
            task.future.cancel()

    @contextlib.contextmanager
    def _counted(self, pixels: int) -> Iterator[None]:
        """Count a request's pixels for the length of a block; refuse it where there are too many."""
        most, all_at_once = self._limits.request_pixels, self._limits.pixels_in_flight
        if pixels > most:
            raise Refusal(
                413, "too_large", f"the images have {pixels:,} pixels together; expected at most {most:,}: send fewer"
            )
        if self._pixels + pixels > all_at_once:
            raise Busy("the images that are being decoded have too many pixels together")
        self._pixels += pixels
        try:
            yield
        finally:
            self._pixels -= pixels

    def _too_large(self, size: int) -> Refusal | None:
        most = self._limits.decoded_bytes
        if size <= most:
            return None
        problem = f"image takes {size:,} bytes decoded; expected at most {most:,}: send a smaller one"
        return Refusal(413, "too_large", problem)

    async def _done(self, works: Sequence[tuple[Callable[[], object], bool]]) -> list[object]:
        """Results of one request's works, in order; errors of images in their places."""
        tasks = collections.deque(_Task(work, is_large, Future()) for work, is_large in works)
        futures = [asyncio.wrap_future(task.future) for task in tasks]  # to cancel one is to cancel what it wraps
        with self._changed:
            if self._closing:
                raise Draining
            if tasks:
                self._requests.append(tasks)
                self._changed.notify_all()
        results = await asyncio.gather(*futures, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, LowshotError):
                raise result
        return results

    def _work(self) -> None:
        while (task := self._next()) is not None:
            if task.future.set_running_or_notify_cancel():
                try:
                    result = task.work()
                except BaseException as error:
                    task.future.set_exception(error)
                else:
                    with contextlib.suppress(InvalidStateError):
                        task.future.set_result(result)
            if task.is_large:
                with self._changed:
                    self._large_under_way -= 1
                    self._changed.notify_all()
            del task

    def _next(self) -> _Task | None:
        """The next image of the request whose turn it is; waits for one. None when there will be no more."""
        with self._changed:
            while not self._closing:
                for _ in range(len(self._requests)):
                    tasks = self._requests.popleft()
                    if tasks[0].is_large and self._large_under_way >= _THREADS - 1:
                        self._requests.append(tasks)
                        continue
                    task = tasks.popleft()
                    if tasks:
                        self._requests.append(tasks)
                    self._large_under_way += task.is_large
                    return task
                self._changed.wait()
            return None


def _size(content: bytes) -> tuple[int, int] | LowshotError:
    try:
        return decoded_size(content)
    except LowshotError as error:
        return error
