"""The kinds of image encoder without a text tower."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..settings import Tower
from .blocks import Rotary
from .family import Family, TextAttention
from .layout import CLIP_BLOCK, DINOV2_BLOCK, DINOV3_BLOCK, VIT_BLOCK, TowerLayout, gated

_OF_DINOV2 = 224
_CPU_IMAGES_AT_ONCE = 4
"""Images that go through convolutions together on a CPU. What lies between two layers of many images is more than an
allocator keeps: each layer then writes into fresh memory, which takes longer than computing it. Fewer are no faster,
and slower where other programs compute too, since threads wait for each other at every layer."""


class ImageFamily(Family):
    """An image encoder without a text tower: nobody asks it about prompts."""

    has_text = False
    text = TowerLayout("", CLIP_BLOCK, ())
    token_embedding = ""
    text_attention: TextAttention = "masked"
    text_start = 0

    def finish_text(self, model: Any, hidden: Tensor) -> Tensor:  # noqa: ARG002
        raise AssertionError("there is no text tower")

    def text_token(self, model: Any, ids: Tensor) -> Tensor:  # noqa: ARG002
        raise AssertionError("there is no text tower")


class ConvolutionalFamily(ImageFamily):
    """EfficientNet-Lite (arXiv 1905.11946).

    It is run as a whole, before the first transformer block as everybody else sees it: there is none to adapt.
    """

    model_class = ""
    vision = ImageFamily.text
    image_token = None
    feature_map = "last"
    half = "fp16"  # ReLU6 and batch norms in its weights bound what it computes; bf16 would leave 8 bits of it

    def depth(self, vision: Any) -> int:  # noqa: ARG002
        return 0

    def first_weight(self, model: Any) -> Tensor:
        weight: Tensor = model.stem.weight
        return weight

    def image_tokens(self, model: Any) -> int:  # noqa: ARG002 - what its embedding is read from
        return 1

    def embed_images(self, model: Any, pixels: Tensor) -> Tensor:
        at_once = _CPU_IMAGES_AT_ONCE if pixels.device.type == "cpu" else len(pixels)
        return torch.cat([self.run_images(model, part) for part in torch.split(pixels, at_once)])[:, None]

    def finish_images(self, model: Any, hidden: Tensor) -> Tensor:  # noqa: ARG002
        return hidden[:, 0]

    def run_images(self, model: Any, pixels: Tensor) -> Tensor:
        features: Tensor = model(pixels)
        return features


class ViTFamily(ImageFamily):
    """ViT (arXiv 2010.11929) as a classifier sees it: the class token behind the last norm, without the pooler."""

    model_class = "ViTModel"
    options: Mapping[str, Any] = {"add_pooling_layer": False}
    vision = TowerLayout("layers", VIT_BLOCK, ("layernorm",))
    image_token = 0
    half = "bf16"  # nobody says that all activations are below float16's largest number

    def image_settings(self, vision: Any) -> list[Any]:
        names = ("hidden_act", "layer_norm_eps", "num_attention_heads", "patch_size")
        return [*(getattr(vision, name) for name in names), self.image_size(vision)]

    def first_weight(self, model: Any) -> Tensor:
        weight: Tensor = model.embeddings.cls_token
        return weight

    def image_tokens(self, model: Any) -> int:
        """The class token, registers if there are any, and the patches."""
        vision = model.config
        patches = (self.image_size(vision) // int(vision.patch_size)) ** 2
        return 1 + int(getattr(vision, "num_register_tokens", 0)) + patches

    def embed_images(self, model: Any, pixels: Tensor) -> Tensor:
        embedded: Tensor = model.embeddings(pixels)
        return embedded

    def run_images(self, model: Any, pixels: Tensor) -> Tensor:
        embedded: Tensor = model(pixels).last_hidden_state[:, 0]
        return embedded


class Dinov2Family(ViTFamily):
    """DINOv2 (arXiv 2304.07193).

    Its last stage of training saw 518 pixels, for dense predictions; its own processor cuts 224.
    """

    model_class = "Dinov2Model"
    options: Mapping[str, Any] = {}
    vision = TowerLayout("encoder.layer", DINOV2_BLOCK, ("layernorm",))

    def vision_layout(self, vision: Any) -> TowerLayout:
        return _with_gate(self.vision) if vision.use_swiglu_ffn else self.vision

    def inner_width(self, vision: Any) -> int:
        """Of a gated MLP it is two thirds, rounded up to a multiple of 8, and there are two of that width."""
        inner = int(vision.hidden_size * vision.mlp_ratio)
        return 2 * ((inner * 2 // 3 + 7) // 8 * 8) if vision.use_swiglu_ffn else inner

    def image_size(self, vision: Any) -> int:
        return min(int(vision.image_size), _OF_DINOV2)


class Dinov2RegistersFamily(Dinov2Family):
    """DINOv2 with registers (arXiv 2309.16588)."""

    model_class = "Dinov2WithRegistersModel"


class Dinov3Family(ViTFamily):
    """DINOv3's ViTs (arXiv 2508.10104).

    Their positions are angles between patches alone: the class token and the registers are not turned. In training
    transformers draws other angles for every pass, which pre-training did and nobody asks of an adapter.
    """

    model_class = "DINOv3ViTModel"
    options: Mapping[str, Any] = {}
    vision = TowerLayout("model.layer", DINOV3_BLOCK, ("norm",))

    def vision_layout(self, vision: Any) -> TowerLayout:
        return _with_gate(self.vision) if vision.use_gated_mlp else self.vision

    def inner_width(self, vision: Any) -> int:
        return int(vision.intermediate_size) * (2 if vision.use_gated_mlp else 1)

    def image_settings(self, vision: Any) -> list[Any]:
        return [*super().image_settings(vision), float(vision.rope_theta)]

    def rotary(self, model: Any, tower: Tower) -> Rotary | None:  # noqa: ARG002 - there is one
        """Angles 2 pi p f of a patch whose centre is at p in [-1, 1], by rows then by columns, twice side by side."""
        vision, frequencies = model.config, model.rope_embeddings.inv_freq
        side = self.image_size(vision) // int(vision.patch_size)
        centres = 2 * torch.arange(0.5, side, device=frequencies.device) / side - 1
        angles = 2 * math.pi * torch.cartesian_prod(centres, centres)[..., None] * frequencies
        turns = functional.pad(angles.flatten(1).tile(2), (0, 0, 1 + int(vision.num_register_tokens), 0))
        return Rotary(torch.stack([turns.cos(), turns.sin()]), by_halves=True)


@functools.cache
def _with_gate(layout: TowerLayout) -> TowerLayout:
    return dataclasses.replace(layout, block=gated(layout.block))
