"""From a task and a recipe to all that is to be learnt; no backbone is loaded for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from ..data import Draw, Examples, Prompts, Task, decoded_once, draw_from, learnt_part, long_prompts_named, prompts_for
from ..errors import InputError
from ..methods import method_spec
from ..models import Backbone, load_backbone, resolve_adapter_precision, resolve_precision
from ..settings import SETTINGS, Decides, Recipe, parse_bytes
from ..training import Learner, create_learner
from ..training.prompts import refuse_alike

LoadBackbone: TypeAlias = Callable[[str, str], Backbone]
"""From a model and a device to a backbone that is nobody else's."""


@dataclasses.dataclass(frozen=True)
class Lesson:
    """A task's shots and class prompts, and the recipe to learn them by."""

    task: Task
    """The data's classes that are learnt, under the recipe's protocol."""
    others: Mapping[str, Task]
    """Tasks that the protocol judges besides, by name."""
    recipe: Recipe
    """Its draw is one that says the same on every machine."""
    draw: Draw
    prompts: Prompts
    examples: Examples
    """The shots, decoded once."""
    load: LoadBackbone
    contents: tuple[str, ...] = ()
    """Hashes of what the shots show, where they have been looked at already."""
    told_apart: set[str] = dataclasses.field(default_factory=set)
    """Models whose tokenizers have been asked whether they tell the prompts apart; copies of a lesson share it."""

    def untrained(self) -> Learner:
        """The recipe's method on the backbone as it was loaded.

        Raises:
            LongPromptError: A prompt is longer than the text tower takes.
            DataError: The text tower cannot tell two classes apart.
            InputError: There is no such backbone, or the settings do not fit it.
        """
        recipe = self.recipe
        backbone = self.load(recipe.model.loaded, recipe.model.device)
        # On another device ``auto`` may mean another type.
        precision = resolve_precision(recipe.model.quantize, recipe.model.precision, backbone)
        products = resolve_adapter_precision(recipe.model.adapter_precision, backbone.device)
        recipe = recipe.replace(precision=precision, adapter_precision=products)
        with long_prompts_named(self.task.class_names, self.prompts):
            if recipe.model.model not in self.told_apart:
                refuse_alike(backbone, self.task.class_names, self.prompts)
                self.told_apart.add(recipe.model.model)
            learner = create_learner(backbone, self.prompts, recipe)
        if not backbone.has_text and (words := words_of(recipe)):
            raise InputError(
                f"{words[0].replace('_', '-')} is {getattr(recipe.data, words[0])!r}, but model {recipe.model.model} "
                "has no text tower that would read it; leave it out"
            )
        return learner


def words_of(recipe: Recipe) -> list[str]:
    """The settings that say, otherwise than by default, how to put classes into words."""
    words = [row for row in SETTINGS.values() if row.decides is Decides.WORDS]
    return [row.name for row in words if getattr(recipe.data, row.name) != row.default]


def lesson_of(
    whole: Task,
    others: Mapping[str, Task],
    recipe: Recipe,
    warn: Callable[[Sequence[str]], None],
    load: LoadBackbone = load_backbone,
) -> Lesson:
    """Draw the shots and put the classes into words.

    Args:
        whole: The data, with all of its classes.
        others: What the protocol judges besides; see ``data.other_tasks``.
        recipe: All settings.
        warn: Is told which classes have fewer images than asked for.
        load: Gives a backbone for a model and a device.

    Raises:
        InputError: A training setting is one that the method has no use for.
        DataError: The images cannot be drawn, or the classes not be put into words.
    """
    recipe.refuse_idle_training()
    recipe.refuse_unable()
    if recipe.data.has_several and not len(whole.train):
        raise InputError(
            "classes are names alone, and labels-per-image is several: from where on an image has a label is told by "
            "images; call fit with some, or leave labels-per-image out"
        )
    task = learnt_part(whole, recipe.data)
    if not len(whole.train) and not method_spec(recipe.method.method).learns:  # names alone
        draw = Draw(np.empty(0, dtype=np.int64), 0, {}, recipe.data.draw)
    else:
        draw = draw_from(task, recipe.data.shots, recipe.training.seed, recipe.data.draw, whole)
    recipe = recipe.replace(draw=draw.rule)  # a path says nothing on another machine
    elsewhere = [name for other in others.values() for name in other.class_names]
    prompts = prompts_for(task.class_names, recipe.data, data=task.name, template=task.template, others=elsewhere)
    warn(draw.warnings(task.class_names))
    examples = kept_decoded(task.train.subset(draw.indices), recipe)
    return Lesson(task, others, recipe, draw, prompts, examples, load)


def kept_decoded(examples: Examples, recipe: Recipe) -> Examples:
    """The same examples, each decoded once: training asks for every image hundreds of times."""
    memory, disk = (parse_bytes(field, getattr(recipe.engine, field)) for field in ("image_memory", "image_disk"))
    return dataclasses.replace(examples, images=decoded_once(examples.images, memory, disk))
