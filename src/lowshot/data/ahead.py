"""Work on images done on threads before its results are asked for."""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from ..progress import Track
from .decoding import content_hash, load_picture
from .images import MemoryImages
from .picture import LEAST_SIDE
from .store import source_of
from .task import Images, Pixels, place_of

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_LOOKING_THREADS = 4


def computed_ahead(
    work: Callable[[_Item], _Result], items: Iterable[_Item], workers: int = 2, ahead: int = 8
) -> Generator[_Result, None, None]:
    """Yield the result of each item in order, computed while the caller works on those before.

    Pillow decodes without Python's lock, so threads suffice. They begin when the first result is asked for and end with
    the last one, with an error, or when the iterator is closed.

    Args:
        work: Done on several threads at once, such as the decoding of an image.
        items: Of any number; one is asked for when there is room for its result.
        workers: Threads.
        ahead: Results under way or waiting for the caller, at most: what bounds the memory.

    Raises:
        DataError: An image cannot be decoded; the results before it came first.
    """
    waiting: collections.deque[Future[_Result]] = collections.deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="decoding") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) == ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def looked_at(images: Images, look: Callable[[Images, int], _Result], track: Track) -> Iterator[_Result]:
    """Yield what a look at each image gives, in order; they are decoded on a few threads and let go at once.

    Raises:
        DataError: An image cannot be decoded.
    """
    rows = range(len(images))
    with contextlib.closing(computed_ahead(lambda row: look(images, row), rows, _LOOKING_THREADS, ahead=64)) as results:
        yield from track(results, what="reading images", total=len(rows))


def image_content(images: Images, index: int) -> str:
    """Return the hash of what an image shows in its full size, also where it is decoded smaller.

    Raises:
        DataError: It cannot be decoded.
    """
    return content_of(images, index, images[index])


def content_of(images: Images, index: int, pixels: Pixels) -> str:
    """Return the same of an image that is decoded to these pixels.

    Raises:
        DataError: It cannot be decoded in full size.
    """
    images, index = place_of(images, index)
    if isinstance(images, MemoryImages) and images.examined:
        return images.examined[index].content
    source = source_of(images, index) if min(pixels.shape[:2]) >= LEAST_SIDE else None  # else it is not reduced
    return content_hash(pixels) if source is None else load_picture(source, whole=True).content()


def content_hashes(images: Images, track: Track) -> tuple[str, ...]:
    """Return the content hash of every image, in order.

    Raises:
        DataError: An image cannot be decoded.
    """
    return tuple(looked_at(images, image_content, track))
