"""Shortfalls of a classifier that has been judged: something simpler does better, or it is sure without reason."""

from __future__ import annotations

from ..data import Examples, Task
from ..errors import InputError
from ..evaluation import left_to_judge, pixel_accuracy, probabilities
from ..methods import ZERO_SHOT
from ..progress import silent
from ..records import RunRecord
from ..settings import preset_for
from ..training import Learner, create_learner
from .auto import concrete
from .lesson import LoadBackbone

_FAR_TOO_SURE = 0.2
"""Mean confidence above the accuracy, from which on it is told."""
_SECONDS = 20.0
"""Judging that took longer is not done once more to compare."""


def shortfalls(learner: Learner, record: RunRecord, task: Task, load: LoadBackbone) -> list[str]:
    """The shortfalls of a classifier, one line each.

    Args:
        learner: The classifier's.
        record: With its measures.
        task: What it was judged on.
        load: Gives a backbone for a model and a device.

    Raises:
        InputError: Nothing was judged yet.
        DataError: An image cannot be read.
    """
    if record.has_several and record.metrics:  # which nothing simpler was asked about
        return []
    if "acc1" not in record.metrics:
        raise InputError("this classifier was not judged yet; call evaluate first")
    lines, metrics = list[str](), record.metrics
    accuracy, highest = metrics["acc1"], metrics["acc1_interval"][1]
    sure = sum(images * confidence for images, confidence, _ in metrics["reliability"]) / metrics["images"]
    if not record.calibration and sure - accuracy > _FAR_TOO_SURE:
        lines.append(
            f"it is {sure:.1%} sure on average and right in {accuracy:.1%}: --calibration-folds 4 makes it as sure as "
            "it may be"
        )
    if record.evaluation_seconds > _SECONDS:
        return lines
    judged = left_to_judge(task, record, silent)[1]
    drawn = set(record.draw)
    shots = task.train.subset([row for row, name in enumerate(task.train.identities) if name in drawn])
    # None where it is not known what was learnt from, or those are too many.
    pixels = pixel_accuracy(shots, judged, len(task.class_names)) if len(shots) else None
    if pixels is not None and pixels > highest:
        lines.append(
            f"accuracy {accuracy:.1%} is below the {pixels:.1%} of logistic regression on 32 x 32 pixels: the model "
            "tells little of such images; try another --model"
        )
    names = _of_names(learner, record, judged, load)
    if names is not None and names > highest:
        lines.append(
            f"accuracy {accuracy:.1%} is below the {names:.1%} of the class names alone: what was learnt does harm; "
            "try --method zero-shot, or more shots"
        )
    return lines


def _of_names(learner: Learner, record: RunRecord, judged: Examples, load: LoadBackbone) -> float | None:
    """The accuracy of zero-shot; None for zero-shot itself, and where no text tower reads the names."""
    recipe = learner.recipe
    if recipe.method.method == ZERO_SHOT or not learner.backbone.has_text:
        return None
    unlearnt = concrete(recipe, preset_for(recipe.model.model, None), ZERO_SHOT)
    unlearnt = unlearnt.replace(beside=None)
    names = create_learner(load(unlearnt.model.model, recipe.model.device), record.prompts, unlearnt)
    table = probabilities(names, judged.images)
    return float((table.argmax(1) == judged.labels).mean())
