"""The pictures of an adapter that are most like an image, by the backbone's own embeddings."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import functools
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .entries import stamp_of
from .examples import Example, read_examples

_PICTURES_AT_ONCE = 8  # nobody waits for them, so they hold up nobody
_CAPACITY_BYTES = 64 << 20


@dataclasses.dataclass(frozen=True, eq=False)
class Pictures:
    """The pictures of an adapter and how the backbone sees them."""

    examples: Sequence[Example]
    embeddings: NDArray[np.float32]
    """Unit embeddings ``(N, D)``."""

    def nearest(self, embedding: NDArray[np.float32], count: int) -> list[tuple[Example, float]]:
        """The pictures most similar to a unit embedding ``(D,)``, each with its cosine, the most similar first."""
        cosines = self.embeddings @ embedding
        order = np.argsort(-cosines, kind="stable")[:count]
        return [(self.examples[place], float(cosines[place])) for place in order]


class Neighbours:
    """Pictures of the adapters that were asked about last, with their embeddings. Everything is called on the loop.

    Args:
        folder: The adapters' folder.
        embed: Computes unit embeddings for an adapter's name and some image files, leaving out unusable ones.
    """

    def __init__(
        self, folder: Path, embed: Callable[[str, Sequence[bytes]], Awaitable[list[NDArray[np.float32]]]]
    ) -> None:
        self._folder = folder
        self._embed = embed
        self._embeddings: collections.OrderedDict[tuple[str, object], NDArray[np.float32]] = collections.OrderedDict()
        self._embedding: dict[str, asyncio.Task[None]] = {}

    async def pictures(self, name: str) -> Pictures | None:
        """The pictures of an adapter; None where it has none that can be compared.

        Raises:
            Refusal: There is no room to look at them now.
        """
        examples = await asyncio.to_thread(read_examples, self._folder / name)
        if not examples:
            return None
        key = (name, stamp_of(self._folder / name))
        if key not in self._embeddings:
            await asyncio.shield(self.prepare(name))
        embeddings = self._embeddings.get(key)
        if embeddings is None or len(embeddings) != len(examples):
            return None
        self._embeddings.move_to_end(key)
        return Pictures(examples, embeddings)

    def prepare(self, name: str) -> asyncio.Task[None]:
        """Compute the embeddings of an adapter's pictures, once for all who wait for them."""
        if name not in self._embedding:
            task = self._embedding[name] = asyncio.get_running_loop().create_task(self._compute(name))
            task.add_done_callback(functools.partial(self._ended, name))
        return self._embedding[name]

    def _ended(self, name: str, task: asyncio.Task[None]) -> None:
        self._embedding.pop(name, None)
        if not task.cancelled():
            task.exception()  # there may have been no room, which asyncio reports where nobody waits for the pictures

    def close(self) -> None:
        """Give up what is being computed."""
        for task in self._embedding.values():
            task.cancel()

    async def _compute(self, name: str) -> None:
        key = (name, stamp_of(self._folder / name))
        examples = await asyncio.to_thread(read_examples, self._folder / name)
        rows: list[NDArray[np.float32]] = []
        for start in range(0, len(examples), _PICTURES_AT_ONCE):
            batch = examples[start : start + _PICTURES_AT_ONCE]
            rows += await self._embed(name, [await asyncio.to_thread(example.read) for example in batch])
        if not rows or len(rows) < len(examples):
            return
        self._embeddings[key] = np.stack(rows)
        while len(self._embeddings) > 1 and sum(e.nbytes for e in self._embeddings.values()) > _CAPACITY_BYTES:
            self._embeddings.popitem(last=False)
