"""Trained tokens as an adapter like any other."""

from __future__ import annotations

from typing import Any, cast

from torch import nn

from ...errors import InputError
from ...randomness import seeded
from ...settings import MethodConfig
from ..adapter import ParameterAdapter
from ..placement import Place
from .tokens import TextContext, VisionContext

VISION_TOKENS = 2
"""Tokens of a prompt of the vision tower: PLOT++'s (CHENGY12/PLOT, plot-pp/scripts)."""


class ContextAdapter(ParameterAdapter):
    """The tokens that a prompt learner trains at the inputs of the towers.

    Args:
        model: The model, with the tokens in it.
        text: Those before the words.
        vision: Those behind the patches, if there are any.
    """

    def __init__(self, model: nn.Module, text: TextContext, vision: VisionContext | None = None) -> None:
        trained = {"text": text.vectors} | ({} if vision is None else {"vision": vision.vectors})
        super().__init__(model, trained)
        self.text = text
        self.vision = vision

    def merge(self) -> nn.Module:
        raise InputError("trained tokens are inputs of the towers: no weights can hold them, so they cannot be merged")


def add_text_tokens(model: nn.Module, method: MethodConfig, place: Place, *, seed: int) -> ContextAdapter:
    """Put fresh trained tokens before the words; arguments are those of ``add_adapter``."""
    return _add_tokens(model, method, place, seed, in_both=False)


def add_tokens_of_both(model: nn.Module, method: MethodConfig, place: Place, *, seed: int) -> ContextAdapter:
    """Put fresh trained tokens before the words and behind the patches; arguments are those of ``add_adapter``."""
    return _add_tokens(model, method, place, seed, in_both=True)


def _add_tokens(model: nn.Module, method: MethodConfig, place: Place, seed: int, *, in_both: bool) -> ContextAdapter:
    model.requires_grad_(False)
    embedding = cast(nn.Embedding, model.get_submodule(place.token_embedding))
    with seeded(seed):
        text = TextContext(embedding, max(1, len(method.openings)), method.context)
        vision = None
        if in_both:
            patches, width = cast(Any, model).vision_model.embeddings, cast(Any, model).config.vision_config.hidden_size
            vision = patches.context = VisionContext(patches, method.vision_prompts, VISION_TOKENS, width)
    model.set_submodule(place.token_embedding, text)
    return ContextAdapter(model, text, vision)
