"""Images of many requests decoded on a few threads, the requests taking turns.

How much is decoded at once is bounded: by the pixels of all requests together, which is time, and by the bytes of one
image, which is memory. Images that are large are never on all threads, so that a small one waits for small ones alone.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, InvalidStateError
from typing import Any, Generic, NamedTuple, TypeVar

from ..data.decoding import decoded_size
from ..errors import LowshotError
from .limits import Limits
from .refusals import Busy, Draining, Refusal
from .turns import Turns, results_of

_Result = TypeVar("_Result")
_THREADS = 2
_LARGE_BYTES = 24 << 20  # decoded: a photograph of 12 megapixels in JPEG takes 21 MB, and a fifth of a second
_LARGE_FILES_BYTES = 4 << 20  # whose headers may take 0.8 s: Pillow looks for a marker of a JPEG byte by byte


class _Task(NamedTuple):
    """Work on one image, or on the headers of a request's images."""

    work: Callable[[], Any]
    is_large: bool
    future: Future[Any]


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
        self._turns = Turns[_Task]()
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
        reasons: dict[int, Refusal | LowshotError] = {}
        most, works, pixels = self._limits.decoded_bytes, [], 0
        for place, (content, size) in enumerate(zip(contents, sizes, strict=True)):
            if isinstance(size, LowshotError):
                reasons[place] = size
            elif size[1] > most:
                problem = f"image takes {size[1]:,} bytes decoded; expected at most {most:,}: send a smaller one"
                reasons[place] = Refusal(413, "too_large", problem)
            else:
                pixels += size[0]
                works.append((functools.partial(self._crop, content), size[1] > _LARGE_BYTES))
        with self._counted(pixels):
            crops = iter(await self._done(works))
        return [reasons[place] if place in reasons else next(crops) for place in range(len(contents))]

    def close(self) -> None:
        """Decode nothing more."""
        with self._changed:
            self._closing = True
            left = self._turns.clear()
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

    async def _done(self, works: Sequence[tuple[Callable[[], Any], bool]]) -> list[Any]:
        """Results of one request's works, in order; errors of images in their places."""
        tasks = [_Task(work, is_large, Future()) for work, is_large in works]
        with self._changed:
            if self._closing:
                raise Draining
            self._turns.add(tasks)
            self._changed.notify_all()
        return await results_of(task.future for task in tasks)

    def _work(self) -> None:
        while True:
            with self._changed:
                while (task := self._turns.next(self._may_begin)) is None and not self._closing:
                    self._changed.wait()
                if task is None:
                    return
                self._large_under_way += task.is_large
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

    def _may_begin(self, task: _Task) -> bool:
        return not task.is_large or self._large_under_way < _THREADS - 1


def _size(content: bytes) -> tuple[int, int] | LowshotError:
    try:
        return decoded_size(content)
    except LowshotError as error:
        return error
