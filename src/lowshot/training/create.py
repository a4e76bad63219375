"""From a recipe to the learner of its method."""

from __future__ import annotations

from collections.abc import Sequence

from ..methods import settled_spec
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
    spec = settled_spec(recipe.method.method)
    if spec.kind == "features":
        from .head_learner import HeadLearner

        return HeadLearner(backbone, prompts, recipe)
    if spec.has_classifier:
        from .two_stage import TwoStageLearner

        return TwoStageLearner(backbone, prompts, recipe)
    if spec.name == "plot++":
        from .plot import PlotLearner

        return PlotLearner(backbone, prompts, recipe)
    from .weights import WeightsLearner

    return WeightsLearner(backbone, prompts, recipe)
