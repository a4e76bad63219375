"""What the kinds of model differ in, and what comes before and after a tower's transformer blocks."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


@dataclasses.dataclass(frozen=True)
class Family:
    """One kind of model. ``model`` is transformers' model of this kind throughout.

    Args:
        model_class: Name of transformers' class.
        causal_text: Whether a text token sees only those before it and the embedding is read at the end-of-text
            token. Then padding has no influence and is left out; otherwise prompts are padded to the full context,
            without a mask, as they were in training.
        image_size: Side of the square images in pixels, from the vision tower's configuration.
        embed_images: (model, normalised pixels ``(B, 3, S, S)``) to what enters the first block, ``(B, L, D)``.
        finish_images: (model, what leaves the last block) to embeddings ``(B, E)``. It is given ``(B, L, D)``, or
            ``(B, 1, D)`` where the embedding is read at one token.
        image_token: The token the embedding is read at; None where it is read from all.
        embed_text: (model, token ids ``(P, L)``) to ``(P, L, D)``.
        finish_text: (model, the token the embedding is read at ``(P, 1, D)``) to embeddings ``(P, E)``.
        text_token: (model, token ids ``(P, L)``) to the place of that token, ``(P,)``.
        text_start: How many tokens every prompt begins with, before its words.
    """

    model_class: str
    causal_text: bool
    image_size: Callable[[Any], int]
    embed_images: Callable[[Any, Tensor], Tensor]
    finish_images: Callable[[Any, Tensor], Tensor]
    image_token: int | None
    embed_text: Callable[[Any, Tensor], Tensor]
    finish_text: Callable[[Any, Tensor], Tensor]
    text_token: Callable[[Any, Tensor], Tensor]
    text_start: int


def _embed_text(model: Any, ids: Tensor) -> Tensor:
    embedded: Tensor = model.text_model.embeddings(input_ids=ids)
    return embedded


def _clip_embed_images(model: Any, pixels: Tensor) -> Tensor:
    vision = model.vision_model
    embedded: Tensor = vision.pre_layrnorm(vision.embeddings(pixels))
    return embedded


def _clip_finish_images(model: Any, hidden: Tensor) -> Tensor:
    finished: Tensor = model.visual_projection(model.vision_model.post_layernorm(hidden[:, 0]))
    return finished


def _clip_finish_text(model: Any, hidden: Tensor) -> Tensor:
    finished: Tensor = model.text_projection(model.text_model.final_layer_norm(hidden[:, 0]))
    return finished


def _clip_text_token(model: Any, ids: Tensor) -> Tensor:
    """The first end-of-text token; in OpenAI's first configurations, whose id of it is wrong, the largest id."""
    end = model.text_model.eos_token_id
    return ids.argmax(-1) if end == 2 else (ids == end).int().argmax(-1)


def _siglip_embed_images(model: Any, pixels: Tensor) -> Tensor:
    embedded: Tensor = model.vision_model.embeddings(pixels)
    return embedded


def _siglip_finish_images(model: Any, hidden: Tensor) -> Tensor:
    vision = model.vision_model
    finished: Tensor = vision.head(vision.post_layernorm(hidden))
    return finished


def _siglip_finish_text(model: Any, hidden: Tensor) -> Tensor:
    finished: Tensor = model.text_model.head(model.text_model.final_layer_norm(hidden[:, 0]))
    return finished


def _last_token(model: Any, ids: Tensor) -> Tensor:  # noqa: ARG001 - it is the last in every model
    return torch.full((len(ids),), ids.shape[1] - 1, device=ids.device)


def _naflex_side(vision: Any) -> int:
    return int(vision.patch_size) * math.isqrt(vision.num_patches)


def _naflex_embed_images(model: Any, pixels: Tensor) -> Tensor:
    """Patches ``(B, N, p * p * 3)``, row by row, each pixel's channels side by side: transformers' order.

    A square image fills all N places: none is padding, so there is no mask to give.
    """
    vision = model.config.vision_config
    side, patch = math.isqrt(vision.num_patches), vision.patch_size
    cut = pixels.reshape(len(pixels), -1, side, patch, side, patch)  # (B, 3, rows, p, columns, p)
    patches = cut.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)
    shapes = torch.full((len(pixels), 2), side)  # on the CPU: transformers reads them, and a device would be waited for
    embedded: Tensor = model.vision_model.embeddings(patches, shapes)
    return embedded


def _pixel_side(vision: Any) -> int:
    return int(vision.image_size)


_SIGLIP = Family(
    "SiglipModel",
    causal_text=False,
    image_size=_pixel_side,
    embed_images=_siglip_embed_images,
    finish_images=_siglip_finish_images,
    image_token=None,
    embed_text=_embed_text,
    finish_text=_siglip_finish_text,
    text_token=_last_token,
    text_start=0,
)

FAMILIES = {
    "clip": Family(
        "CLIPModel",
        causal_text=True,
        image_size=_pixel_side,
        embed_images=_clip_embed_images,
        finish_images=_clip_finish_images,
        image_token=0,
        embed_text=_embed_text,
        finish_text=_clip_finish_text,
        text_token=_clip_text_token,
        text_start=1,
    ),
    "siglip": _SIGLIP,
    "siglip2": dataclasses.replace(
        _SIGLIP, model_class="Siglip2Model", image_size=_naflex_side, embed_images=_naflex_embed_images
    ),
}
"""By ``model_type`` of config.json: CLIP (arXiv 2103.00020; LAION's too), SigLIP (arXiv 2303.15343; the SigLIP 2 models
of fixed resolution too) and SigLIP 2 NaFlex (arXiv 2502.14786)."""
