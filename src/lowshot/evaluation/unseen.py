"""The images of a task that a classifier may be judged on: never those that it has learnt from."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from ..data import Examples, Task, content_hashes
from ..errors import DataError
from ..progress import Track
from ..records import RunRecord


def left_to_judge(task: Task, record: RunRecord, track: Track) -> tuple[str, Examples]:
    """The images of a task to judge: ``test`` and its test split, else ``unseen`` and those that were not learnt from.

    Args:
        task: The data. To know images that were learnt from, all that may be judged are decoded; they are decoded once
            more to be judged unless its images are kept (see ``data.decoded_once``).
        record: The classifier's, with the hashes of what it has learnt from.
        track: Shows progress.

    Raises:
        DataError: Nothing is left.
    """
    if task.test is not None:
        if not len(task.test):
            raise DataError(f"{task.name} has no images to judge: its test split is empty")
        return "test", task.test
    if "imported" in record.provenance:
        raise DataError(f"{task.name} has no test split, and which images the imported adapter learnt is not known")
    learnt = set(record.learnt)
    contents = content_hashes(task.train.images, track)
    unseen = [row for row, content in enumerate(contents) if content not in learnt]
    if not unseen:
        raise DataError(
            f"{task.name}: every image was learnt from, and an accuracy on them would say nothing; "
            "add a test folder, or fit with fewer shots"
        )
    return "unseen", task.train.subset(unseen)


def as_taught(task: Task, taught: Sequence[str]) -> Task:
    """The task with its classes in the order in which they were taught.

    Raises:
        DataError: Its classes are others; the message names one.
    """
    names = list(task.class_names)
    if names == list(taught):
        return task
    differ = sorted(set(names) ^ set(taught))
    if differ:
        # How probable a label must be is known of taught classes alone: of several labels no other can be judged.
        otherwise = (
            "" if task.has_several else ", or --new-classes (new_classes=True from Python), which judges its own"
        )
        raise DataError(
            f"{task.name} has other classes than this adapter, such as {differ[0]!r}; expected the {len(taught)} "
            f"classes it was taught{otherwise}"
        )
    place = np.asarray([taught.index(name) for name in names])
    validation, test = (
        None if split is None else split.relabelled(place, len(taught)) for split in (task.validation, task.test)
    )
    return dataclasses.replace(
        task,
        class_names=tuple(taught),
        class_labels=tuple(task.class_labels[i] for i in np.argsort(place)) if task.class_labels else (),
        train=task.train.relabelled(place, len(taught)),
        validation=validation,
        test=test,
    )
