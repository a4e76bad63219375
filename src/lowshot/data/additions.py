"""Labelled images that a classifier is taught besides what it knows: of one class, or of several."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .assembling import Reading
from .folder import classes_in
from .listing import FileList, kind_of
from .sources import examples_of_arrays, task_from
from .task import Examples, JoinedImages, Label


@dataclasses.dataclass(frozen=True)
class Addition:
    """Images and their classes.

    Args:
        name: Name of the data.
        class_names: One or more, in label order.
        examples: The images; each class has some.
        class_labels: As for ``Task``.
        template: As for ``Task``.
    """

    name: str
    class_names: tuple[str, ...]
    examples: Examples
    class_labels: tuple[Label, ...] = ()
    template: str | None = None


def addition_from(
    data: Any,
    labels: Any = None,
    on_bad_image: str = "error",
    warn: list[str] | None = None,
    root: str | os.PathLike[str] | None = None,
    several: str | None = None,
) -> Addition:
    """Make an addition of whatever a caller of ``FewShotClassifier.add`` has.

    ``data`` is a folder of images, which is a class by its name; a folder of such folders; or as for ``task_from``, of
    which it is the training split. The rest is as for ``task_from``.

    Raises:
        DataError: It cannot be used.
    """
    reading = Reading(on_bad_image, [] if warn is None else warn, root, several)
    if labels is not None and not isinstance(data, str | os.PathLike):
        values, names, examples = examples_of_arrays(data, labels, reading)
        return Addition("images", names, examples, () if list(names) == values else tuple(values))
    if labels is None and isinstance(data, str | os.PathLike) and kind_of(Path(data)) == "folder":
        listed = classes_in(Path(data), reading.warn)
        if listed is not None and (several is None or len(listed[1]) == 1):  # else an image may be in two of them
            folder, classes = listed
            names = tuple(classes)
            examples = reading.good(FileList.of(folder, classes, names).examples(), names)
            examples = examples if several is None else examples.of_several(len(names))
            return Addition(Path(data).resolve().name, names, examples)
    task = task_from(data, labels, on_bad_image, reading.warn, root, several)
    return Addition(task.name, task.class_names, task.train, task.class_labels, task.template)


def joined(first: Examples, second: Examples, labels: Sequence[int] | NDArray[np.int64]) -> Examples:
    """Return the examples of both, those of the second with other labels."""
    return Examples(
        JoinedImages(first.images, second.images),
        np.concatenate([first.labels, np.asarray(labels, dtype=np.int64)]),
        (*first.identities, *second.identities),
    )
