"""Classes fewer: a lesson without the shots of some, or an adapter that stays as it is and knows them no more."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from numpy.typing import NDArray

from ..data import MemoryImages
from ..errors import InputError, UnknownNameError
from ..on_top import OnTop
from ..records import RunRecord
from ..several_labels import Presence
from ..training import Learner
from ..training.kept_images import KeptImages
from .fit import Fitted
from .further import changed_lesson
from .lesson import Lesson

if TYPE_CHECKING:
    from ..training.weights import WeightsLearner


def left_without(class_names: Sequence[str], classes: Sequence[str]) -> list[int]:
    """The numbers of the classes that are left without some, ascending.

    Raises:
        UnknownNameError: There is no such class.
        InputError: Fewer than two are left.
    """
    for name in classes:
        if name not in class_names:
            raise UnknownNameError("class", name, class_names)
    left = [label for label, name in enumerate(class_names) if name not in classes]
    if len(left) < 2:
        raise InputError(
            f"without {', '.join(map(repr, dict.fromkeys(classes)))} {len(left)} class(es) would be left; expected at "
            "least 2"
        )
    return left


def without(lesson: Lesson, left: Sequence[int]) -> Lesson:
    """The lesson with these of its classes alone, ascending, and with their shots.

    Where images have several labels all shots stay: one that showed other classes alone shows none of these.
    """
    task, images = lesson.task, lesson.examples.images
    rows, labels = _of_classes(lesson.examples.labels, left)
    examples = dataclasses.replace(lesson.examples.subset(rows), labels=labels)
    if isinstance(images, KeptImages):
        examples = dataclasses.replace(examples, images=KeptImages(images.shots.subset(rows), MemoryImages([])))
    return changed_lesson(
        lesson,
        [task.class_names[label] for label in left],
        [task.class_labels[label] for label in left] if task.class_labels else (),
        tuple(lesson.prompts[label] for label in left),
        examples,
        tuple(lesson.contents[row] for row in rows),
    )


def _of_classes(labels: NDArray[np.int64], left: Sequence[int]) -> tuple[list[int], NDArray[np.int64]]:
    """The rows of the images of some classes, and the labels that these have where there are no other classes.

    Args:
        labels: Class of each image, ``(N,)``, or ``(N, C)`` where images have several labels: then all images stay.
        left: The classes, ascending.
    """
    if labels.ndim == 2:
        return list(range(len(labels))), labels[:, left]
    rows = np.flatnonzero(np.isin(labels, left))
    return rows.tolist(), np.searchsorted(left, labels[rows])


def fewer(record: RunRecord, learner: Learner, left: Sequence[int]) -> Fitted:
    """An adapter with some of its classes alone, for which nothing is learnt anew.

    Args:
        record: The adapter's.
        learner: It, with trained towers, or of several labels.
        left: The numbers of the classes that are left, ascending.

    Raises:
        InputError: It has classes on top, and none of those that the towers were trained for is left.
    """
    changed = record.of_classes(left)
    if record.presence:
        presence = Presence.from_dict(record.presence, len(record.classes))
        changed = dataclasses.replace(changed, presence=presence.of_classes(left).to_dict())
    if record.on_top:
        changed, grown = _rows_fewer(record, changed, cast("WeightsLearner", learner), left)
    else:
        grown = learner.with_prompts(changed.prompts)
    notes = []
    if record.calibration or changed.temperature != record.temperature:
        notes.append("what held-out shots told was of other classes: the calibration is dropped")
    if record.belonging:
        notes.append("images of none of the classes are not told any more: what tells them was learnt of other classes")
    return Fitted(grown, dataclasses.replace(changed, adapter_bytes=grown.adapter_bytes), tuple(notes))


def _rows_fewer(
    record: RunRecord, changed: RunRecord, learner: WeightsLearner, left: Sequence[int]
) -> tuple[RunRecord, Learner]:
    """The record and the learner where classes were set on top: the rows that are left, and the images kept of them."""
    on_top = OnTop.from_dict(record.on_top, len(record.classes))
    if left[0] >= record.tower_classes:
        raise InputError(
            "no class would be left that the towers were trained for, and nothing else stands on them; fit the others "
            "anew: lowshot fit DATA"
        )
    with torch.no_grad():
        rows = learner.encode_classes()[list(left)]
    kept, images, known_images = learner.kept, on_top.images, 0
    if kept is not None:
        some, labels = _of_classes(kept.labels.numpy(), left)
        towers, learnt = record.taught_to_towers, record.learnt[: -len(kept)]
        own = [row for row in some if row < images]
        draw, contents = record.draw[len(towers) :], record.learnt[-len(kept) :]
        changed = dataclasses.replace(
            changed,
            draw=(*towers, *(draw[row] for row in own)),
            learnt=(*learnt, *(contents[row] for row in some)),
        )
        kept = dataclasses.replace(kept.subset(some), labels=torch.from_numpy(labels))
        images, known_images = len(own), len(some) - len(own)
    count = sum(label >= record.tower_classes for label in left)
    if not count:
        changed = dataclasses.replace(changed, on_top={})
        has_text = learner.backbone.has_text
        return changed, learner.with_prompts(changed.prompts) if has_text else learner.with_rows(changed.prompts, rows)
    on_top = OnTop(count, images, known_images, on_top.blend, record.temperature)
    return dataclasses.replace(changed, on_top=on_top.to_dict()), learner.with_rows(changed.prompts, rows, kept)
