"""How a batch is cut up where the recipe does not say."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from ..config import EngineConfig
from ..models import Backbone
from .step import Passes

ACTIVATIONS_AT_ONCE = 1 << 29
"""Bytes of activations of one pass that a CPU handles well: larger passes gain nothing and touch fresh memory."""
KEPT_PER_TOKEN_AND_WIDTH = 16
"""Tensors as wide as the residual stream that a block keeps for each token: two norms' inputs, the adapters' three
inputs, query, key, value, the mixed values, four for the MLP's inner activation, and what rounding up adds."""


def activation_bytes(backbone: Backbone, tower: str, tokens: int) -> int:
    """What a training pass keeps for one sequence of so many tokens, bytes."""
    config = getattr(backbone.model.config, f"{tower}_config")
    width, depth = int(config.hidden_size), int(config.num_hidden_layers)
    return tokens * width * depth * KEPT_PER_TOKEN_AND_WIDTH * backbone.dtype.itemsize


def choose_passes(backbone: Backbone, tokens: Mapping[str, Tensor], engine: EngineConfig, batch_size: int) -> Passes:
    """What the recipe says, else as much at once as keeps a pass within ``ACTIVATIONS_AT_ONCE``."""
    prompts, length = tokens["input_ids"].shape
    image = activation_bytes(backbone, "vision", backbone.image_tokens)
    prompt = activation_bytes(backbone, "text", length)
    return Passes(
        images=engine.images_per_pass or min(batch_size, max(1, ACTIVATIONS_AT_ONCE // image)),
        prompts=engine.prompts_per_pass or min(prompts, max(1, ACTIVATIONS_AT_ONCE // prompt)),
    )
