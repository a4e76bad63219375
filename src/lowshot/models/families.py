"""The kinds of model that there are, by ``model_type``; those with a text tower are here too."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..settings import Tower
from .blocks import Attention, Rotary, run_blocks
from .family import Family, TextAttention
from .image_families import ConvolutionalFamily, Dinov2Family, Dinov2RegistersFamily, Dinov3Family, ViTFamily
from .layout import BERT_BLOCK, CLIP_BLOCK, TowerLayout
from .mobileclip import MobileClip
from .pe_core import PeCore


class ClipFamily(Family):
    """CLIP (arXiv 2103.00020); LAION's too."""

    model_class = "CLIPModel"
    vision = TowerLayout(
        "vision_model.encoder.layers", CLIP_BLOCK, ("vision_model.post_layernorm", "visual_projection")
    )
    text = TowerLayout("text_model.encoder.layers", CLIP_BLOCK, ("text_model.final_layer_norm", "text_projection"))
    token_embedding = "text_model.embeddings.token_embedding"
    text_attention: TextAttention = "causal"
    reads_end_of_text = True
    image_token: int | None = 0
    text_start = 1
    half = "fp16"  # OpenAI's checkpoints are in it, and CLIP-LoRA trains in it

    def end_of_text(self, text: Any, largest: int) -> int:
        """In OpenAI's first configurations stands 2, which means the largest id: right for OpenAI's vocabulary."""
        return largest if text.eos_token_id == 2 else int(text.eos_token_id)

    def embed_images(self, model: Any, pixels: Tensor) -> Tensor:
        embedded: Tensor = model.vision_model.pre_layrnorm(super().embed_images(model, pixels))
        return embedded

    def text_token(self, model: Any, ids: Tensor) -> Tensor:
        """The first end-of-text token; in OpenAI's first configurations, whose id of it is wrong, the largest id."""
        end = model.text_model.eos_token_id
        return ids.argmax(-1) if end == 2 else (ids == end).int().argmax(-1)


class SiglipFamily(Family):
    """SigLIP (arXiv 2303.15343); the SigLIP 2 models of fixed resolution too."""

    model_class = "SiglipModel"
    vision = TowerLayout(
        "vision_model.encoder.layers", CLIP_BLOCK, ("vision_model.post_layernorm", "vision_model.head")
    )
    text = TowerLayout("text_model.encoder.layers", CLIP_BLOCK, ("text_model.final_layer_norm", "text_model.head"))
    token_embedding = "text_model.embeddings.token_embedding"
    text_attention: TextAttention = "padded"
    image_token = None
    text_start = 0
    half = "bf16"  # trained in it, on TPUs: nobody says that all activations are below float16's largest number

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


class MetaClip2Family(ClipFamily):
    """MetaCLIP 2 (arXiv 2507.22062): CLIP's towers with the vocabulary of XLM-V."""

    model_class = "MetaClip2Model"
    half = "bf16"  # its training configuration says amp_bf16

    def end_of_text(self, text: Any, largest: int) -> int:  # noqa: ARG002 - 2 is the end-of-text token's own id here
        return int(text.eos_token_id)

    def text_token(self, model: Any, ids: Tensor) -> Tensor:
        """The first end-of-text token."""
        ends: Tensor = ids == model.text_model.eos_token_id
        return ends.int().argmax(-1)


class ChineseClipFamily(ClipFamily):
    """Chinese CLIP (arXiv 2211.01335): CLIP's vision tower and the text tower of a Chinese RoBERTa."""

    model_class = "ChineseCLIPModel"
    text = TowerLayout("text_model.encoder.layer", BERT_BLOCK, ("text_projection",))
    token_embedding = "text_model.embeddings.word_embeddings"
    text_attention: TextAttention = "masked"
    reads_end_of_text = False

    def text_token(self, model: Any, ids: Tensor) -> Tensor:  # noqa: ARG002 - it is the first of every prompt
        return torch.zeros(len(ids), dtype=torch.int64, device=ids.device)


class AltClipFamily(ChineseClipFamily):
    """AltCLIP (arXiv 2211.06679): CLIP's vision tower and the text tower of XLM-R."""

    model_class = "AltCLIPModel"
    text = TowerLayout(
        "text_model.roberta.encoder.layers",
        BERT_BLOCK,
        ("text_model.pre_LN", "text_model.transformation", "text_projection"),
    )
    token_embedding = "text_model.roberta.embeddings.word_embeddings"

    def context_length(self, text: Any) -> int:
        """The places up to the padding token's id are RoBERTa's for padding."""
        return int(text.max_position_embeddings) - int(text.pad_token_id) - 1

    def embed_text(self, model: Any, ids: Tensor) -> Tensor:
        embedded: Tensor = model.text_model.roberta.embeddings(input_ids=ids)
        return embedded


class OwnFamily(ClipFamily):
    """A kind that transformers has not: its modules are lowshot's, and their forward pass is that of the blocks."""

    model_class = ""

    def run_images(self, model: Any, pixels: Tensor) -> Tensor:
        hidden = run_blocks(
            list(model.get_submodule(self.vision.blocks)),
            self.embed_images(model, pixels),
            layout=self.vision.block,
            attention=Attention(causal=False, rotary=self.rotary(model, "vision")),
            token=None,
        )
        return self.finish_images(model, hidden)


class PeCoreFamily(OwnFamily):
    """PE-Core (arXiv 2504.13181), read from open_clip's checkpoints."""

    own_class = PeCore
    vision = TowerLayout(
        "vision_model.encoder.layers",
        CLIP_BLOCK,
        ("vision_model.post_layernorm", "vision_model.head", "visual_projection"),
    )
    image_token = None
    half = "bf16"

    def rotary(self, model: Any, tower: Tower) -> Rotary | None:
        return None if tower == "text" else Rotary(model.vision_model.rotary)


class MobileClipFamily(OwnFamily):
    """MobileCLIP and MobileCLIP2 (arXiv 2311.17049, 2508.20691), sizes S0 to S2, read from open_clip's checkpoints."""

    own_class = MobileClip
    vision = TowerLayout(
        "vision_model.encoder.layers",
        dataclasses.replace(CLIP_BLOCK, attention_gain="gain1", mlp_gain="gain2"),
        ("vision_model.head", "visual_projection"),
    )
    text_attention: TextAttention = "padded"
    image_token = None
    half = "bf16"  # nobody says that all activations are below float16's largest number

    def first_weight(self, model: Any) -> Tensor:
        weight: Tensor = model.vision_model.embeddings.places.weight
        return weight

    def image_tokens(self, model: Any) -> int:
        vision = model.config.vision_config
        return (int(vision.image_size) // int(vision.patch_size)) ** 2

    def embed_images(self, model: Any, pixels: Tensor) -> Tensor:
        return Family.embed_images(self, model, pixels)  # without CLIP's norm before the blocks


CONVOLUTIONAL = "efficientnet-lite"
"""The kind of model that is in no folder, and so is named by no config.json."""
FAMILIES: dict[str, Family] = {
    "clip": ClipFamily(),
    "siglip": SiglipFamily(),
    "siglip2": NaflexFamily(),
    "metaclip_2": MetaClip2Family(),
    "chinese_clip": ChineseClipFamily(),
    "altclip": AltClipFamily(),
    "pe_core": PeCoreFamily(),
    "mobileclip": MobileClipFamily(),
    "vit": ViTFamily(),
    "dinov2": Dinov2Family(),
    "dinov2_with_registers": Dinov2RegistersFamily(),
    "dinov3_vit": Dinov3Family(),
    CONVOLUTIONAL: ConvolutionalFamily(),
}
"""By ``model_type`` of config.json."""
IN_FOLDERS = tuple(kind for kind, family in FAMILIES.items() if family.model_class)
"""Those that transformers has a class for."""


def empty_model(config: Mapping[str, Any]) -> Any:
    """A model of a configuration, in float32 on torch's meta device: it has no weights yet."""
    kind, family = model_class(config["model_type"]), FAMILIES[config["model_type"]]
    with torch.device("meta"):
        return kind(kind.config_class.from_dict(dict(config)), **family.options).float()


def model_class(kind: str) -> Any:
    """The class of a kind's models, transformers' or lowshot's own; its ``config_class`` is that of configurations."""
    family = FAMILIES[kind]
    if family.own_class is not None:
        return family.own_class
    import transformers

    return getattr(transformers, family.model_class)
