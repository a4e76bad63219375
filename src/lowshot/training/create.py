"""From a recipe to the learner of its method."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..errors import InputError
from ..methods import METHODS, ZERO_SHOT, MethodSpec, imported, settled_spec
from ..models import Backbone, Towers
from ..settings import Recipe
from .learner import Learner

_ABLE = ", ".join(name for name, row in METHODS.items() if row.without_text)


def create_learner(backbone: Backbone, prompts: Sequence[str | Sequence[str]], recipe: Recipe) -> Learner:
    """Bind the recipe's method to a backbone and to classes.

    Args:
        backbone: Changed in place.
        prompts: Of each class one, or several whose embeddings are averaged.
        recipe: Method, training and precision.

    Raises:
        LongPromptError: A prompt is longer than the text tower takes.
        InputError: The settings do not fit this backbone.
    """
    spec = settled_spec(recipe.method.method)
    refuse_without_text(backbone, recipe.model.model, spec)
    if recipe.model.beside is not None and not spec.without_text:
        raise InputError(
            f"beside is {recipe.model.beside!r}, but method {spec.name} has no use for features that prompts say "
            f"nothing of; expected one of {_ABLE}"
        )
    kind: Callable[..., Learner] = imported(spec.learner, "lowshot.training")
    return kind(backbone, prompts, recipe)


def refuse_without_text(towers: Towers, model: str, spec: MethodSpec) -> None:
    """Refuse a method that needs class prompts where there is no text tower to read them.

    Args:
        towers: The model's.
        model: Its name, for the message.
        spec: The method.

    Raises:
        InputError: It needs them.
    """
    if towers.has_text or spec.without_text:
        return
    why = "adapts both towers of a CLIP, or what its prompts say"
    if spec.name == ZERO_SHOT:
        why = "knows classes by their names alone"
    raise InputError(
        f"method {spec.name} {why}, and model {model} has no text tower; expected one of {_ABLE}, or another model"
    )
