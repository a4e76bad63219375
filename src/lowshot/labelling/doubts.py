"""Labels that are doubted: each image is held out in turn, and judged by a classifier that has not seen its label."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

import numpy as np

from ..data import Task, bad_images_explained, task_from
from ..errors import DataError, InputError
from ..evaluation import fold_of_each, held_out_scores
from ..fitting import lesson_of
from ..methods import method_spec
from ..models import KeptBackbone
from ..progress import Track, silent
from ..settings import Recipe
from ..threads import cpu_threads
from ..torch_state import own_torch_state
from .naming import file_of
from .noise import label_noise

DOUBTED = 0.5
"""Probability of being wrong from which a label is doubted: more likely wrong than right."""
FOLDS = 8
"""Parts that the images are held out in, if there are as many of each class."""


@dataclasses.dataclass(frozen=True)
class Doubt:
    """A label that is more likely wrong than right."""

    image: str
    """The image's file, or its number where it has none."""
    index: int
    """Its number among the training images, from 0."""
    label: str
    """The class it is said to be of."""
    looks_like: str
    """The class among the others that is most probable."""
    probability: float
    """Probability that the label is wrong."""


@dataclasses.dataclass(frozen=True)
class Doubts:
    """The labels that held-out images speak against, and how many labels are wrong in all."""

    images: int
    """Images that were looked at."""
    rate: float
    """Share of all labels that are estimated to be wrong, doubted or not."""
    agreement: float
    """Share of held-out images whose label is the most probable class: how much the classifier knows at all."""
    doubts: tuple[Doubt, ...]
    """The most doubtful label first."""


@own_torch_state()
def doubted_labels(
    data: str | os.PathLike[str] | Task | Sequence[object],
    recipe: Recipe,
    labels: Sequence[object] | None = None,
    *,
    folds: int = FOLDS,
    track: Track = silent,
    warn: list[str] | None = None,
) -> Doubts:
    """Find the training images whose label is more likely wrong than right.

    The recipe's method learns from all folds but one and judges that one, in turn. What it says of each label, and how
    many labels are wrong in all, is told apart by ``label_noise``.

    Args:
        data: A built-in task, a folder, a table and so on, as ``FewShotClassifier.fit`` takes it, or images.
        recipe: Model, method and all other settings. A method on frozen features takes seconds, ``gda`` is the default
            of ``lowshot doubt``; one inside the towers trains once for each fold.
        labels: The class of each image, where ``data`` is images.
        folds: Parts that the images are held out in, 2 or more.
        track: Shows progress.
        warn: Receives a line for each thing that a person should know.

    Raises:
        DataError: The data cannot be used, or no class has two images and the method learns.
        InputError: The settings cannot be used.
    """
    recipe.data.refuse_several("doubt")
    if folds < 2:
        raise InputError(f"folds is {folds}; expected 2 or more")
    warn = [] if warn is None else warn
    with cpu_threads(recipe.engine.threads), bad_images_explained(recipe.data.on_bad_image):
        task = task_from(data, labels, recipe.data.on_bad_image, warn, recipe.data.root)
        lesson = lesson_of(task, {}, recipe, warn.extend, KeptBackbone().load)
        examples = lesson.examples
        if examples.has_repeats:
            raise DataError("the draw has some images several times; leave shots out to look at each image once")
        fold_of = None
        if method_spec(recipe.method.method).learns:
            fold_of = fold_of_each(examples.labels, min(folds, int(np.bincount(examples.labels).max())))
            if lone := int((fold_of < 0).sum()):
                warn.append(f"{lone} class(es) have one image, which is not looked at: nothing else shows the class")
        scores, given = held_out_scores(
            lesson.untrained, examples, fold_of, track=track, together=lesson.recipe.engine.together
        )
    rows = np.arange(len(examples)) if fold_of is None else np.argsort(fold_of, kind="stable")[(fold_of < 0).sum() :]
    noise = label_noise(scores, given)
    others = scores.copy()
    others[np.arange(len(given)), given] = -np.inf
    doubts = [
        Doubt(
            image=str(file_of(examples.images, int(rows[each])) or f"image {number}"),
            index=number,
            label=task.class_names[given[each]],
            looks_like=task.class_names[int(others[each].argmax())],
            probability=float(noise.probabilities[each]),
        )
        for each in np.argsort(-noise.probabilities, kind="stable")
        for number in [int(lesson.draw.indices[rows[each]])]
        if noise.probabilities[each] > DOUBTED
    ]
    return Doubts(len(given), noise.rate, float((scores.argmax(1) == given).mean()), tuple(doubts))
