"""Differences between the kinds of model: all that comes before and after a tower's transformer blocks."""

from __future__ import annotations

import math
from typing import Any, Protocol

import torch
from torch import Tensor


class Family(Protocol):
    """One kind of model. ``model`` is transformers' model of this kind throughout."""

    model_class: str
    """Name of transformers' class."""
    causal_text: bool
    """Whether a text token sees only those before it and the embedding is read at the end-of-text token. Then padding
    has no influence and is left out; otherwise prompts are padded to the full context, without a mask, as they were in
    training."""
    image_token: int | None
    """The token that an image's embedding is read at; None where it is read from all."""
    text_start: int
    """How many tokens every prompt begins with, before its words."""
    half: str
    """The type of half precision that models of this kind are computed in on a GPU.

    ``fp16`` has eight times as many steps between two powers of two as ``bf16``, which holds larger numbers: it is that
    of models whose authors compute in it.
    """

    def image_size(self, vision: Any) -> int:
        """Side of the square images in pixels, from the vision tower's configuration."""
        return int(vision.image_size)

    def embed_images(self, model: Any, pixels: Tensor) -> Tensor:
        """Normalised pixels ``(B, 3, S, S)`` to what enters the first block, ``(B, L, D)``."""

    def finish_images(self, model: Any, hidden: Tensor) -> Tensor:
        """Embeddings ``(B, E)`` of what leaves the last block: ``(B, L, D)``, or ``(B, 1, D)`` of one token."""

    def embed_text(self, model: Any, ids: Tensor) -> Tensor:
        """Token ids ``(P, L)`` to what enters the first block, ``(P, L, D)``."""
        embedded: Tensor = model.text_model.embeddings(input_ids=ids)
        return embedded

    def finish_text(self, model: Any, hidden: Tensor) -> Tensor:
        """Embeddings ``(P, E)`` of the token that they are read at, ``(P, 1, D)``."""

    def text_token(self, model: Any, ids: Tensor) -> Tensor:
        """The place of that token, ``(P,)``, in token ids ``(P, L)``."""


class ClipFamily(Family):
    """CLIP (arXiv 2103.00020); LAION's too."""

    model_class = "CLIPModel"
    causal_text = True
    image_token = 0
    text_start = 1
    half = "fp16"  # OpenAI's checkpoints are in it, and CLIP-LoRA trains in it

    def embed_images(self, model: Any, pixels: Tensor) -> Tensor:
        vision = model.vision_model
        embedded: Tensor = vision.pre_layrnorm(vision.embeddings(pixels))
        return embedded

    def finish_images(self, model: Any, hidden: Tensor) -> Tensor:
        finished: Tensor = model.visual_projection(model.vision_model.post_layernorm(hidden[:, 0]))
        return finished

    def finish_text(self, model: Any, hidden: Tensor) -> Tensor:
        finished: Tensor = model.text_projection(model.text_model.final_layer_norm(hidden[:, 0]))
        return finished

    def text_token(self, model: Any, ids: Tensor) -> Tensor:
        """The first end-of-text token; in OpenAI's first configurations, whose id of it is wrong, the largest id."""
        end = model.text_model.eos_token_id
        return ids.argmax(-1) if end == 2 else (ids == end).int().argmax(-1)


class SiglipFamily(Family):
    """SigLIP (arXiv 2303.15343); the SigLIP 2 models of fixed resolution too."""

    model_class = "SiglipModel"
    causal_text = False
    image_token = None
    text_start = 0
    half = "bf16"  # trained in it, on TPUs: nobody says that all activations are below float16's largest number

    def embed_images(self, model: Any, pixels: Tensor) -> Tensor:
        embedded: Tensor = model.vision_model.embeddings(pixels)
        return embedded

    def finish_images(self, model: Any, hidden: Tensor) -> Tensor:
        vision = model.vision_model
        finished: Tensor = vision.head(vision.post_layernorm(hidden))
        return finished

    def finish_text(self, model: Any, hidden: Tensor) -> Tensor:
        finished: Tensor = model.text_model.head(model.text_model.final_layer_norm(hidden[:, 0]))
        return finished

    def text_token(self, model: Any, ids: Tensor) -> Tensor:  # noqa: ARG002 - it is the last in every model
        return torch.full((len(ids),), ids.shape[1] - 1, device=ids.device)


class NaflexFamily(SiglipFamily):
    """SigLIP 2 NaFlex (arXiv 2502.14786)."""

    model_class = "Siglip2Model"

    def image_size(self, vision: Any) -> int:
        return int(vision.patch_size) * math.isqrt(vision.num_patches)

    def embed_images(self, model: Any, pixels: Tensor) -> Tensor:
        """Cut patches ``(B, N, p * p * 3)``, row by row, each pixel's channels side by side: transformers' order.

        A square image fills all N places: none is padding, so there is no mask to give.
        """
        vision = model.config.vision_config
        side, patch = math.isqrt(vision.num_patches), vision.patch_size
        cut = pixels.reshape(len(pixels), -1, side, patch, side, patch)  # (B, 3, rows, p, columns, p)
        patches = cut.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)
        shapes = torch.full((len(pixels), 2), side)  # on the CPU: transformers reads them without waiting for a device
        embedded: Tensor = model.vision_model.embeddings(patches, shapes)
        return embedded


FAMILIES: dict[str, Family] = {"clip": ClipFamily(), "siglip": SiglipFamily(), "siglip2": NaflexFamily()}
"""By ``model_type`` of config.json."""
