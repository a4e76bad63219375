"""Images that mean nothing to the built-in model, which knows characters alone."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from ..data import BUILTIN_TASKS
from ..evaluation import log_probabilities
from ..methods import ZERO_SHOT
from ..progress import silent
from ..settings import preset_recipe
from .lesson import Lesson

ANOTHER_MODEL = "openai/clip-vit-base-patch16"
"""What photographs are learnt with."""
_ERRORS = 2
"""Standard errors above chance that tell recognition from guessing."""


def foreign_notes(lesson: Lesson) -> list[str]:
    """What to know where the built-in model recognises the shots by their classes' names no better than guessing would.

    It has learnt which characters have which names. So it recognises of its own tasks, and of whatever is like them,
    far more images than chance has, from one of each class on; of photographs it does not. Nothing is asked of pixels.

    Returns:
        One line; none for another model, and where it does recognise them.

    Raises:
        DataError: An image cannot be read.
    """
    recipe, task, examples = lesson.recipe, lesson.task, lesson.examples
    if recipe.model.model != "builtin" or task.name in BUILTIN_TASKS:
        return []
    unlearnt = preset_recipe("builtin", ZERO_SHOT).replace(device=recipe.model.device)
    learner = dataclasses.replace(lesson, recipe=unlearnt).untrained()
    table = log_probabilities(learner, examples.images, learner.backbone.image_size, track=silent)
    right, count, chance = int(np.sum(table.argmax(1) == examples.labels)), len(examples), 1 / len(task.class_names)
    if right == count or right > count * chance + _ERRORS * math.sqrt(count * chance * (1 - chance)):
        return []
    return [
        f"the built-in model knows characters alone; by the names of these {len(task.class_names)} classes it "
        f"recognises {right} of {count} images, which guessing may do. For photographs: lowshot fit DATA --model "
        f"{ANOTHER_MODEL}"
    ]
