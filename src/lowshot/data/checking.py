"""Every image of a task looked at: is it there, can it be decoded, is it anywhere else as well?"""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from ..errors import DataError
from ..progress import Track, silent
from .images import FileImages, content_hash
from .listing import kind_of
from .task import Images, Task

_BATCH = 256


@dataclasses.dataclass(frozen=True)
class Checked:
    """What was found.

    Args:
        images: Images that were looked at.
        missing: Identity of every file that is not there, after its split.
        corrupt: What is wrong with every image that cannot be decoded.
        copies: Images that show the same as another one in another split or class, a line for each.
    """

    images: int
    missing: tuple[str, ...]
    corrupt: tuple[str, ...]
    copies: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class _Item:
    split: str
    label: int
    identity: str
    images: Images
    index: int


def check_images(task: Task, track: Track = silent) -> Checked:
    """Decode every image of a task, on all cores; memory does not grow with the images but for about 400 bytes each.

    Copies are told by their pixels, so the same picture in another lossless format is found too.
    """
    missing, corrupt = [], []
    first: dict[str, _Item] = {}
    elsewhere: dict[str, _Item] = {}
    total = sum(map(len, task.splits().values()))
    for item, content, error in track(_looked_at(task), what=f"checking {task.name}", total=total):
        if error is None:
            before = first.setdefault(content, item)
            if (before.split, before.label) != (item.split, item.label):
                elsewhere.setdefault(content, item)
        elif _is_missing(item):
            missing.append(f"{item.split}: {item.identity}")
        else:
            corrupt.append(f"{item.split}: {error}")
    copies = [_show_the_same(task, first[content], elsewhere[content]) for content in first if content in elsewhere]
    return Checked(total, tuple(missing), tuple(corrupt), tuple(copies))


def _items(task: Task) -> Iterator[_Item]:
    for split, examples in task.splits().items():
        for index, identity in enumerate(examples.identities):
            yield _Item(split, int(examples.labels[index]), identity, examples.images, index)


def _looked_at(task: Task) -> Iterator[tuple[_Item, str, DataError | None]]:
    """Each item with the hash of what it shows, or with what is wrong with it."""
    items = _items(task)
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes without Python's lock
        while batch := list(itertools.islice(items, _BATCH)):
            for item, (content, error) in zip(batch, pool.map(_look, batch), strict=True):
                yield item, content, error


def _look(item: _Item) -> tuple[str, DataError | None]:
    try:
        return content_hash(item.images[item.index]), None
    except DataError as error:
        return "", error


def _is_missing(item: _Item) -> bool:
    return isinstance(item.images, FileImages) and kind_of(item.images.paths[item.index]) == "nothing"


def _show_the_same(task: Task, *items: _Item) -> str:
    names = (f"{item.identity} ({item.split}, {task.class_names[item.label]})" for item in items)
    return f"{' and '.join(names)} show the same"
