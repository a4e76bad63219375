"""Accuracy of an export on the images of a task, beside the classifier that it was made from."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data import learnt_part
from ..data.crops import central_crops
from ..data.images import rows_of
from ..evaluation import as_taught, left_to_judge
from ..progress import Track
from ..resizing import Resizing
from ..several_labels import average_precisions, mean_of_known
from .source import Source

BATCH_SIZE = 32
"""Images that are put through an export at once."""


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """Shares of images of a task that are recognised; mean average precisions where images have several labels."""

    task: str
    split: str
    """``test``, or ``unseen`` where there is no test split: the images that were not learnt from."""
    images: int
    before: float
    """By the classifier, a fraction in [0, 1]."""
    after: float
    """By the export."""
    measure: str = "accuracy"
    """The name of both: ``accuracy`` or ``mean average precision``."""


def accuracy(
    source: Source,
    data: Any,
    exported: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    resizing: Resizing,
    track: Track,
) -> Accuracy:
    """Judge classifier and export on the same images, none of which was learnt from.

    Args:
        source: The adapter.
        data: A task, or the name or folder of one, with the classes that were taught.
        exported: Images ``(B, 3, S, S)`` in [0, 1] to probabilities ``(B, C)``.
        resizing: How images of other sizes become those.
        track: Shows progress.

    Raises:
        DataError: The classes differ, or no image is left to judge.
    """
    classifier, record = source.classifier, source.record
    task = as_taught(learnt_part(classifier.task(data), source.recipe.data), record.classes)
    split, examples = left_to_judge(task, record, track)
    before = classifier.predict_proba(examples.images, track=track)
    size, tables = source.probes.shape[1], []
    starts = range(0, len(examples), BATCH_SIZE)
    for start in track(starts, what="judging the export", total=len(starts)):
        rows = range(start, min(start + BATCH_SIZE, len(examples)))
        crops = np.concatenate([central_crops([rows_of(examples.images, row)], size, resizing).numpy() for row in rows])
        tables.append(exported(crops))
    shown, after = examples.labels, np.concatenate(tables)
    if record.has_several:
        precisions = [mean_of_known(average_precisions(table, shown)) for table in (before, after)]
        return Accuracy(task.name, split, len(examples), precisions[0], precisions[1], "mean average precision")
    shares = [float(np.mean(table.argmax(1) == shown)) for table in (before, after)]
    return Accuracy(task.name, split, len(examples), shares[0], shares[1])
