"""The tasks that are learnt and judged under each protocol of few-shot papers; no image is decoded.

few-shot: all classes are learnt and judged.
base-to-new: the first half of the classes is learnt; each half is judged in its own label space.
cross-dataset, domain-generalisation: all classes are learnt; other data sets, the targets, are judged too, each in its
own label space.
"""

from __future__ import annotations

import dataclasses
import math
import shlex

import numpy as np

from ..errors import DataError, InputError
from ..settings import DataConfig
from .sources import load_task
from .task import Examples, Task

NEW = "new"
"""The name of the classes that were not learnt, beside the base classes."""
_IMAGENET = "imagenet"  # what the papers transfer from


def base_and_new(task: Task) -> tuple[Task, Task]:
    """Return the two halves of a task's classes, each with labels from 0: one to learn, one that is only judged.

    The first ceil(n / 2) classes in label order are the base classes (CoCoOp, arXiv 2203.05557, section 4.1; CoOp's
    ``subsample_classes`` sorts the labels, not the names). Images keep their order and identities.

    Raises:
        DataError: There are fewer than four classes, so that one half would have less than two.
    """
    classes = len(task.class_names)
    if classes < 4:
        raise DataError(
            f"{task.name} has {classes} classes; protocol base-to-new needs 4 or more: two to learn and two new ones"
        )
    base = math.ceil(classes / 2)
    return _part(task, "base", range(base)), _part(task, NEW, range(base, classes))


def learnt_part(task: Task, config: DataConfig) -> Task:
    """Return the task as far as it is learnt under the protocol.

    Raises:
        DataError: It has too few classes.
    """
    return base_and_new(task)[0] if config.protocol == "base-to-new" else task


def other_tasks(task: Task, config: DataConfig, warn: list[str]) -> dict[str, Task]:
    """Return the tasks that are judged besides the learnt classes, by name: the new classes, or the targets.

    Args:
        task: The task that is learnt from, with all its classes.
        config: Protocol, targets, and where data sets are.
        warn: Receives a line for everything that a person should know.

    Raises:
        InputError: There are no targets, and none are usual.
        DataError: The task has too few classes, targets cannot be read (all of them are named at once), or one has no
            image to judge.
    """
    match config.protocol:
        case "few-shot":
            others = {}
        case "base-to-new":
            others = {NEW: base_and_new(task)[1]}
        case "cross-dataset" | "domain-generalisation":
            others, unread = {}, dict[str, InputError]()
            for name in config.targets or default_targets(config.protocol, task.name):
                try:
                    others[name] = load_task(name, config.on_bad_image, warn, config.root, config.several)
                except InputError as error:
                    unread[name] = error
            if unread:
                first, why = next(iter(unread.items()))
                count = f"{len(unread)} of {len(others) + len(unread)} targets cannot be read: {', '.join(unread)}"
                rest = f"; to go on with the others: --targets {shlex.join(others)}" if others else ""
                raise DataError(f"{count}; {first}: {why}{rest}")
    for other in others.values():
        if not len(other.train if other.test is None else other.test):
            raise DataError(f"{other.name} has no images to judge")
    return others


def default_targets(protocol: str, data: str) -> tuple[str, ...]:
    """Return the targets that papers (CoOp, arXiv 2109.01134; CoCoOp, arXiv 2203.05557) transfer to from ``data``.

    For ImageNet they are the catalogue's other ten data sets, or its four shifts, which have no training images.

    Raises:
        InputError: ``data`` is another data set, which the papers transfer nothing from.
    """
    if data != _IMAGENET:
        raise InputError(
            f"protocol {protocol} needs targets, data sets to judge as well: --targets NAME... "
            f"({data} has no usual ones, only {_IMAGENET} has)"
        )
    shifts = protocol == "domain-generalisation"
    from .catalogue import CATALOGUE

    return tuple(name for name, row in CATALOGUE.items() if (row.sizes.train is None) == shifts and name != _IMAGENET)


def _part(task: Task, name: str, classes: range) -> Task:
    validation, test = (None if s is None else _examples_of(s, classes) for s in (task.validation, task.test))
    return dataclasses.replace(
        task,
        name=f"{task.name} ({name})",
        class_names=task.class_names[classes.start : classes.stop],
        class_labels=task.class_labels[classes.start : classes.stop],
        train=_examples_of(task.train, classes),
        validation=validation,
        test=test,
    )


def _examples_of(split: Examples, classes: range) -> Examples:
    rows = np.flatnonzero((split.labels >= classes.start) & (split.labels < classes.stop))
    part = split.subset(rows)
    return dataclasses.replace(part, labels=part.labels - classes.start)
