"""From what a user names or passes to a task."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError, UnknownNameError
from .builtin import BUILTIN_TASKS, builtin_task
from .folder import read_folder
from .images import MemoryImages, as_pixels, content_hash
from .task import Examples, Pixels, Task


def load_task(data: str | os.PathLike[str], on_bad_image: str = "error", warn: list[str] | None = None) -> Task:
    """A built-in task by its name, or a folder of images.

    A string that is both is the built-in task; write ``./digits`` or pass a ``Path`` for the folder.

    Raises:
        UnknownNameError: Neither a task nor an existing path.
        DataError: The folder cannot be used.
    """
    if isinstance(data, str):
        if data in BUILTIN_TASKS:
            return builtin_task(data)
        if not data or (Path(data).name == data and not Path(data).exists()):  # "" would be the current folder
            raise UnknownNameError("task or folder", data, BUILTIN_TASKS)
    return read_folder(Path(data), on_bad_image, warn)


def task_of_arrays(images: Sequence[Any], labels: Sequence[Any]) -> Task:
    """A task made of images and labels in memory; classes are the labels' sorted distinct values, as strings.

    An image's identity is a hash of its label and pixels, so the draw does not depend on the order of the list.

    Raises:
        DataError: Lengths differ, or an image is of no known kind.
    """
    if len(images) != len(labels):
        raise DataError(f"{len(images)} images have {len(labels)} labels; expected one for each")
    pixels = [as_pixels(image) for image in images]
    names = [str(label) for label in labels]
    class_names = sorted(set(names))
    return Task(
        name="images",
        class_names=tuple(class_names),
        train=Examples(
            images=MemoryImages(pixels),
            labels=np.asarray([class_names.index(name) for name in names], dtype=np.int64),
            identities=_identities(names, pixels),
        ),
    )


def _identities(names: Sequence[str], pixels: Sequence[Pixels]) -> tuple[str, ...]:
    seen: dict[str, int] = {}
    identities = []
    for name, image in zip(names, pixels, strict=True):
        content = hashlib.sha256(f"{name}\0{content_hash(image)}".encode()).hexdigest()[:20]
        seen[content] = seen.get(content, 0) + 1
        identities.append(f"{content}/{seen[content]}")
    return tuple(identities)
