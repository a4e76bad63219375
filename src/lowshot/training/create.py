"""From a recipe to the learner of its method."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..methods import imported, settled_spec
from ..models import Backbone
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
    kind: Callable[..., Learner] = imported(settled_spec(recipe.method.method).learner, "lowshot.training")
    return kind(backbone, prompts, recipe)
