"""The share of a data set that is on this machine, as far as can be told without decoding an image."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

from ...errors import DataError
from ..assembling import Reading
from ..formats import is_image
from ..images import FileImages
from ..listing import kind_of, visible_entries
from ..task import Task
from .facts import DataSet
from .places import Place, find, synset_folders
from .reading import lacks, read_data_set, wrong_sizes


@dataclasses.dataclass(frozen=True)
class State:
    """The share of a data set that is there.

    Args:
        name: ``installed``: everything is there. ``incomplete``: some of it is. ``absent``: no image is.
        place: Its place; None if it is absent, or cannot be read.
        missing: Its lacks and faults, a line each; empty if it is installed or absent.
    """

    name: Literal["installed", "incomplete", "absent"]
    place: Place | None = None
    missing: tuple[str, ...] = ()


def state_of(row: DataSet, root: Path) -> State:
    """Tell whether a data set is there, and whether all of it is.

    Every file of its lists is looked for. ImageNet has no lists: its images are counted, by their names.
    """
    place = None
    try:
        place = find(row, root)
        if place is None:
            return State("absent")
        missing = [f"{name} is not there" for name in lacks(row, place)]
        if not missing and row.layout == "imagenet":
            for folder, images in ((place.images / "train", row.sizes.train), (place.images / "val", row.sizes.test)):
                synsets = synset_folders(folder) if folder.is_dir() else []
                counts = [sum(is_image(entry.name) for entry in visible_entries(synset)) for synset in synsets]
                empty, lost = row.classes - sum(count > 0 for count in counts), (images or 0) - sum(counts)
                if empty > 0:
                    missing.append(f"{empty:,} of {row.classes:,} classes have no image in {folder}")
                elif lost > 0:
                    missing.append(f"{lost:,} of {images:,} images are not in {folder}")
        elif not missing:
            task = read_data_set(row.name, Reading(root=place.root))
            missing = [*missing_images(task), *wrong_sizes(row, task)]
    except DataError as error:
        return State("incomplete", place, (str(error),))
    return State("incomplete" if missing else "installed", place, tuple(missing))


def missing_images(task: Task) -> list[str]:
    """Return a line for each split of a task that has images whose files are not there."""
    lines = []
    for split, examples in task.splits().items():
        images = examples.images
        paths = map(images.source, range(len(images))) if isinstance(images, FileImages) else ()
        missing = [path for path in paths if kind_of(path) != "file"]
        if missing:
            lines.append(f"{len(missing):,} of {len(images):,} images in {split} are not there, such as {missing[0]}")
    return lines
