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
from .catalogue import CATALOGUE, read_data_set
from .folder import read_folder
from .hub import PREFIX, read_hub
from .images import MemoryImages, as_pixels, content_hash
from .shards import SUFFIX as SHARD
from .shards import holds_shards, read_shards
from .tables import READERS as TABLES
from .tables import read_table
from .task import Examples, Pixels, Task


def load_task(
    data: str | os.PathLike[str],
    on_bad_image: str = "error",
    warn: list[str] | None = None,
    root: str | os.PathLike[str] | None = None,
) -> Task:
    """Images to learn from and to test on, by a name or a path.

    ============================ =======================================================================
    a built-in task              ``digits``
    a data set of the catalogue  ``caltech101``, below ``root``
    the Hugging Face Hub         ``hf:ID``, ``hf:ID#CONFIGURATION`` or ``hf:FOLDER``
    a table                      a file ``.csv``, ``.jsonl`` or ``.parquet``
    shards                       a file ``.tar``, or a folder of them
    a folder                     ``<class>/*`` or ``{train,val,test}/<class>/*``
    ============================ =======================================================================

    A string that is both a name and a path is the name; write ``./digits`` or pass a ``Path`` for the path.

    Args:
        data: What to read.
        on_bad_image: ``skip`` decodes every image now and leaves out those that cannot be. ``error`` decodes none, and
            such an image stops whoever asks for it; but files that a table names must be there. ``later`` is ``error``
            without that, for who wants to look at each image.
        warn: Receives a line for everything that a person should know.
        root: Where the catalogue's data sets are; else the folder that ``LOWSHOT_DATA`` names.

    Raises:
        UnknownNameError: Neither a name nor an existing path.
        DataError: It cannot be used.
        MissingExtraError: It needs a package that is not installed.
    """
    if isinstance(data, str):
        if data in BUILTIN_TASKS:
            return builtin_task(data)
        if data in CATALOGUE:
            return read_data_set(data, root, on_bad_image, warn)
        if data.startswith(PREFIX):
            return read_hub(data, on_bad_image, warn)
        if not data or (Path(data).name == data and not Path(data).exists()):  # "" would be the current folder
            raise UnknownNameError("task, data set or folder", data, [*BUILTIN_TASKS, *CATALOGUE])
    path = Path(data)
    if path.suffix.lower() in TABLES and not path.is_dir():
        return read_table(path, on_bad_image, warn)
    if (path.suffix == SHARD and path.is_file()) or (path.is_dir() and holds_shards(path)):
        return read_shards(path, on_bad_image, warn)
    return read_folder(path, on_bad_image, warn)


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
