"""Differences between the kinds of model: what comes before and after a tower's transformer blocks, and their names."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..settings import Tower
from .blocks import Attention, Rotary, run_blocks
from .layout import BERT_BLOCK, CLIP_BLOCK, DINOV2_BLOCK, DINOV3_BLOCK, VIT_BLOCK, TowerLayout, gated
from .mobileclip import MobileClip
from .pe_core import PeCore

TextAttention = Literal["causal", "masked", "padded"]


class Family(Protocol):
    """One kind of model. ``model`` is transformers' model of this kind throughout."""

    model_class: str
    """Name of transformers' class."""
    own_class: type[nn.Module] | None = None
    """lowshot's own class of a model that transformers has none of."""
    options: Mapping[str, Any] = {}
    """What its constructor is told beside the configuration."""
    has_text: bool = True
    """Whether there is a text tower. What is said of texts here is of no meaning where there is none."""
    vision: TowerLayout
    text: TowerLayout
    token_embedding: str
    """Dotted name of the text tower's embedding of token ids."""
    text_attention: TextAttention
    """What a text token sees: with ``causal`` itself and those before it, with ``masked`` all tokens of its prompt, and
    with ``padded`` all places of the full context, padding included, as in training. Only there does padding count."""
    image_token: int | None
    """The token that an image's embedding is read at; None where it is read from all."""
    feature_map: str = ""
    """Dotted name of the module whose outputs ``(B, C, h, w)`` are averaged over all places to an embedding of C
    numbers; empty where there is no such thing."""
    reads_end_of_text: bool = False
    """Whether a prompt's embedding is read at its end-of-text token, which ``end_of_text`` says."""
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

    def context_length(self, text: Any) -> int:
        """Tokens of a prompt at most, from the text tower's configuration."""
        return int(text.max_position_embeddings)

    def end_of_text(self, text: Any, largest: int) -> int:  # noqa: ARG002 - what one family decides by
        """The id of the token that a prompt's embedding is read at, where it is its end-of-text token.

        Args:
            text: The text tower's configuration.
            largest: The largest id of the vocabulary.
        """
        return int(text.eos_token_id)

    def vision_layout(self, vision: Any) -> TowerLayout:  # noqa: ARG002 - what some families decide by
        """Where the parts of the vision tower are, from its configuration."""
        return self.vision

    def depth(self, vision: Any) -> int:
        """Transformer blocks of the vision tower, from its configuration; 0 where it is run as a whole."""
        return int(vision.num_hidden_layers)

    def inner_width(self, vision: Any) -> int:
        """Numbers of a token within an MLP of the vision tower."""
        return int(vision.intermediate_size)

    def image_settings(self, vision: Any) -> list[Any]:
        """Whatever else decides what an image encoder without text computes, beside its weights."""
        return [vision.image_size]

    def first_weight(self, model: Any) -> Tensor:
        """A weight that no quantisation replaces, and to which the patches are added: its type is computed in."""
        weight: Tensor = model.vision_model.embeddings.position_embedding.weight
        return weight

    def image_tokens(self, model: Any) -> int:
        """Tokens of one image."""
        return len(model.vision_model.embeddings.position_embedding.weight)

    def embed_images(self, model: Any, pixels: Tensor) -> Tensor:
        """Normalised pixels ``(B, 3, S, S)`` to what enters the first block, ``(B, L, D)``."""

    def rotary(self, model: Any, tower: Tower) -> Rotary | None:  # noqa: ARG002 - what some families decide by
        """What turns queries and keys in a tower's blocks; None where nothing does."""
        return None

    def run_images(self, model: Any, pixels: Tensor) -> Tensor:
        """Normalised pixels to embeddings ``(B, E)`` by the model's own forward pass, which torch's exporter knows."""
        embedded: Tensor = model.get_image_features(pixel_values=pixels).pooler_output
        return embedded

    def finish_images(self, model: Any, hidden: Tensor) -> Tensor:
        """Embeddings ``(B, E)`` of what leaves the last block: ``(B, L, D)``, or ``(B, 1, D)`` of one token."""
        return _through(model, self.vision.after, hidden if self.image_token is None else hidden[:, 0])

    def embed_text(self, model: Any, ids: Tensor) -> Tensor:
        """Token ids ``(P, L)`` to what enters the first block, ``(P, L, D)``."""
        embedded: Tensor = model.text_model.embeddings(input_ids=ids)
        return embedded

    def finish_text(self, model: Any, hidden: Tensor) -> Tensor:
        """Embeddings ``(P, E)`` of the token that they are read at, ``(P, 1, D)``."""
        return _through(model, self.text.after, hidden[:, 0])

    def text_token(self, model: Any, ids: Tensor) -> Tensor:
        """The place of that token, ``(P,)``, in token ids ``(P, L)``."""


def _through(model: nn.Module, names: Sequence[str], hidden: Tensor) -> Tensor:
    """What leaves the last of a model's modules when what enters the first is ``hidden``."""
    for name in names:
        hidden = model.get_submodule(name)(hidden)
    return hidden


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
        vision = model.vision_model
        embedded: Tensor = vision.pre_layrnorm(vision.embeddings(pixels))
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

    def embed_images(self, model: Any, pixels: Tensor) -> Tensor:
        embedded: Tensor = model.vision_model.embeddings(pixels)
        return embedded

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
        embedded: Tensor = model.vision_model.embeddings(pixels)
        return embedded


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
        return self.run_images(model, pixels)[:, None]

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


_OF_DINOV2 = 224

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


def model_class(kind: str) -> Any:
    """The class of a kind's models, transformers' or lowshot's own; its ``config_class`` is that of configurations."""
    family = FAMILIES[kind]
    if family.own_class is not None:
        return family.own_class
    import transformers

    return getattr(transformers, family.model_class)
