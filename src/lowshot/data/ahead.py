"""Images decoded on threads before they are asked for."""

from __future__ import annotations

import collections
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from .images import is_decoded
from .task import Images, Pixels


def decoded_ahead(
    images: Images, rows: Sequence[int], workers: int = 2, ahead: int = 8
) -> Generator[Pixels, None, None]:
    """The images at these indices, in order, decoded while the caller works on those before.

    Pillow decodes without Python's lock, so threads suffice. They begin with the first image that is asked for and
    end with the last one, with an error, or when the iterator is closed. Images that are decoded already need none.

    Args:
        images: Where the images come from; asked from several threads at once.
        rows: Indices, in any order.
        workers: Threads.
        ahead: Images that are being decoded or wait to be taken, at most: what bounds the memory.

    Raises:
        DataError: An image cannot be decoded; those before it came first.
    """
    if is_decoded(images):
        yield from (images[row] for row in rows)
        return
    waiting: collections.deque[Future[Pixels]] = collections.deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="decoding") as pool:
        try:
            for row in rows:
                waiting.append(pool.submit(images.__getitem__, row))
                if len(waiting) == ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
