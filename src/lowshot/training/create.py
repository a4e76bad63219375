"""From a recipe to the learner of its method."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..errors import InputError
from ..methods import METHODS, ZERO_SHOT, MethodSpec, imported, settled_spec
from ..models import Backbone, Towers
from ..settings import Recipe
from .learner import Learner


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
    able = ", ".join(name for name, row in METHODS.items() if row.without_text)
    raise InputError(
        f"method {spec.name} {why}, and model {model} has no text tower; expected one of {able}, or another model"
    )
