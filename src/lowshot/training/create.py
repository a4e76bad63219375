"""From a recipe to the learner of its method."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, cast

from ..errors import InputError
from ..methods import METHODS, ZERO_SHOT, MethodSpec, imported, settled_spec
from ..models import Backbone, Towers
from ..settings import Recipe
from .learner import Learner


class _TakesRows(Protocol):
    """A learner of trained towers, whose classes can have rows of their own."""

    def with_rows(self, prompts: Sequence[str | Sequence[str]]) -> Learner:
        """See ``WeightsLearner``."""


def create_learner(
    backbone: Backbone, prompts: Sequence[str | Sequence[str]], recipe: Recipe, *, with_rows: bool = False
) -> Learner:
    """Bind the recipe's method to a backbone and to classes.

    Args:
        backbone: Changed in place.
        prompts: Of each class one, or several whose embeddings are averaged.
        recipe: Method, training and precision.
        with_rows: Whether what it will load has a row for each class, since some were set on top of the towers.

    Raises:
        LongPromptError: A prompt is longer than the text tower takes.
        InputError: The settings do not fit this backbone.
    """
    spec = settled_spec(recipe.method.method)
    refuse_unfit(backbone, recipe.model.model, spec)
    if recipe.model.beside is not None and not spec.is_without_text(has_blocks=False):
        raise InputError(
            f"beside is {recipe.model.beside!r}, but method {spec.name} has no use for features that prompts say "
            f"nothing of; expected one of {_able(has_blocks=False)}"
        )
    kind: Callable[..., Learner] = imported(spec.learner, "lowshot.training")
    learner = kind(backbone, prompts, recipe)
    if not with_rows:
        return learner
    if spec.kind == "features" or spec.why_no_rows:
        raise InputError(f"method {spec.name} has no classes on top of its towers; expected a record without on_top")
    return cast(_TakesRows, learner).with_rows(prompts)


def refuse_unfit(towers: Towers, model: str, spec: MethodSpec) -> None:
    """Refuse a method that an image encoder without a text tower has no place for.

    Args:
        towers: The model's.
        model: Its name, for the message.
        spec: The method.

    Raises:
        InputError: It needs class prompts, or transformer blocks, and there are none.
    """
    has_blocks = towers.depths["vision"] > 0
    if towers.has_text or spec.is_without_text(has_blocks=has_blocks):
        return
    why, lacks = "needs what the prompts of the classes say", "no text tower"
    if spec.name == ZERO_SHOT:
        why = "knows classes by their names alone"
    elif spec.without_text:
        why, lacks = "trains transformer blocks", "none"
    raise InputError(
        f"method {spec.name} {why}, and model {model} has {lacks}; expected one of {_able(has_blocks=has_blocks)}, or "
        "another model"
    )


def refuse_other_classes(backbone: Backbone) -> None:
    """Refuse to judge classes that there are no shots of, where no text tower reads their names.

    Raises:
        InputError: None does.
    """
    if not backbone.has_text:
        raise InputError(
            f"model {backbone.identity.id} reads no class names, so that it knows a class by its shots alone "
            "and cannot judge others; expected a model with a text tower, or the protocol few-shot"
        )


def _able(*, has_blocks: bool) -> str:
    """The methods that can do without a text tower."""
    return ", ".join(name for name, row in METHODS.items() if row.is_without_text(has_blocks=has_blocks))
