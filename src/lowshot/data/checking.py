"""Every image of a task looked at: is it there, can it be decoded, is it anywhere else as well?"""

from __future__ import annotations

import contextlib
import dataclasses
import os

from ..errors import DataError
from ..progress import Track, silent
from .ahead import computed_ahead
from .damage import examined, name_of
from .images import Examined, FileImages
from .listing import kind_of
from .task import Images, Task

_AHEAD = 256


@dataclasses.dataclass(frozen=True)
class Checked:
    """The faults of a task's images.

    Args:
        images: Images that were looked at.
        missing: Identity of every file that is not there, after its split.
        corrupt: What is wrong with every image that cannot be decoded.
        damaged: What is wrong with every image that is decoded all the same.
        copies: Images that show the same as another one in another split or class, a line for each.
    """

    images: int
    missing: tuple[str, ...]
    corrupt: tuple[str, ...]
    copies: tuple[str, ...]
    damaged: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class _Item:
    split: str
    classes: str
    identity: str
    images: Images
    index: int

    def examined(self) -> tuple[_Item, Examined | DataError]:
        """Return the item with what was seen of it, or with why it cannot be decoded."""
        try:
            return self, examined(self.images, self.index)
        except DataError as error:
            return self, error

    @property
    def name(self) -> str:
        """Its split and its file, or else its identity."""
        return f"{self.split}: {name_of(self.images, self.index, self.identity)}"


def check_images(task: Task, track: Track = silent) -> Checked:
    """Decode every image of a task, on all cores; memory does not grow with the images but for about 400 bytes each.

    Copies are told by their pixels, so the same picture in another lossless format is found too.
    """
    missing, corrupt, damaged = [], [], []
    first: dict[str, _Item] = {}
    elsewhere: dict[str, _Item] = {}
    items = (
        _Item(split, ", ".join(task.names_at(split, index)), identity, examples.images, index)
        for split, examples in task.splits().items()
        for index, identity in enumerate(examples.identities)
    )
    total = sum(map(len, task.splits().values()))
    with contextlib.closing(computed_ahead(_Item.examined, items, os.cpu_count() or 1, _AHEAD)) as seen:
        for item, result in track(seen, what=f"checking {task.name}", total=total):
            if isinstance(result, Examined):
                if result.faults:
                    damaged.append(f"{item.name} {'; '.join(result.faults)}")
                before = first.setdefault(result.content, item)
                if (before.split, before.classes) != (item.split, item.classes):
                    elsewhere.setdefault(result.content, item)
            elif isinstance(item.images, FileImages) and kind_of(item.images.source(item.index)) == "nothing":
                missing.append(f"{item.split}: {item.identity}")
            else:
                corrupt.append(f"{item.split}: {result}")
    pairs = [(first[content], elsewhere[content]) for content in first if content in elsewhere]
    copies = [" and ".join(f"{i.identity} ({i.split}, {i.classes})" for i in pair) for pair in pairs]
    copies = [f"{names} show the same" for names in copies]
    return Checked(total, tuple(missing), tuple(corrupt), tuple(copies), tuple(damaged))
