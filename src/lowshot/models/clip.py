"""The built-in CLIP without transformers: plain modules that have its names, in its order, and a tokenizer.

transformers takes longer to import than the built-in model takes to learn a head and predict with it. Of its forward
passes nothing is missed: ``families`` embeds inputs with the modules here, ``blocks`` runs the blocks.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from ..randomness import seeded
from .quick_gelu import QuickGeluActivation


class ClipConfig(dict[str, Any]):
    """Settings by the names they have in config.json, as attributes and as keys: PEFT asks a mapping."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> ClipConfig:
        """A configuration of settings; those of the towers are configurations in it."""
        return cls(
            {name: cls.from_dict(value) if isinstance(value, dict) else value for name, value in settings.items()}
        )

    @classmethod
    def read(cls, folder: Path) -> ClipConfig:
        """The configuration in a folder."""
        return cls.from_dict(json.loads((folder / "config.json").read_text(encoding="utf-8")))


class ClipTokenizer:
    """As much of a tokenizer of transformers as a backbone asks for.

    Args:
        folder: Has its tokenizer.json.
        end: Id of the end-of-text token, with which prompts are padded too.
    """

    def __init__(self, folder: Path, end: int) -> None:
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.eos_token_id = end

    def __call__(
        self, text: str | Sequence[str], *, add_special_tokens: bool = True, padding: bool = False, **_: object
    ) -> dict[str, Any]:
        """``input_ids`` of a text or of several; padded to the longest they are a tensor, with their mask."""
        if isinstance(text, str):
            return {"input_ids": self._tokenizer.encode(text, add_special_tokens=add_special_tokens).ids}
        encoded = self._tokenizer.encode_batch(list(text), add_special_tokens=add_special_tokens)
        rows = [encoding.ids for encoding in encoded]
        if not padding:
            return {"input_ids": rows}
        ids = pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=self.eos_token_id)
        mask = pad_sequence([torch.ones(len(row), dtype=torch.int64) for row in rows], batch_first=True)
        return {"input_ids": ids, "attention_mask": mask}

    def get_vocab(self) -> Mapping[str, int]:
        """Token -> id."""
        vocabulary: Mapping[str, int] = self._tokenizer.get_vocab(with_added_tokens=True)
        return vocabulary


class _TextEmbeddings(nn.Module):
    """Token ids ``(P, L)`` to what enters the first block, ``(P, L, D)``."""

    position_ids: Tensor

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position_embedding = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        _number_positions(self, config.max_position_embeddings)

    def forward(self, input_ids: Tensor) -> Tensor:
        positions: Tensor = self.position_embedding(self.position_ids[:, : input_ids.shape[-1]])
        embedded: Tensor = self.token_embedding(input_ids) + positions
        return embedded


class VisionEmbeddings(nn.Module):
    """Normalised pixels ``(B, 3, S, S)`` to the class token and the patches, ``(B, L, D)``."""

    position_ids: Tensor

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        size, width = config.patch_size, config.hidden_size
        self.class_embedding = nn.Parameter(torch.randn(width))
        self.patch_embedding = nn.Conv2d(config.num_channels, width, size, stride=size, bias=False)
        count = (config.image_size // size) ** 2 + 1
        self.position_embedding = nn.Embedding(count, width)
        _number_positions(self, count)

    def forward(self, pixels: Tensor) -> Tensor:
        patches = self.patch_embedding(pixels).flatten(2).transpose(1, 2)
        # Not len, which would be fixed in an exported graph.
        tokens = torch.cat([self.class_embedding.expand(pixels.shape[0], 1, -1), patches], dim=1)
        embedded: Tensor = tokens + self.position_embedding(self.position_ids)
        return embedded


def _number_positions(embeddings: nn.Module, count: int) -> None:
    embeddings.register_buffer("position_ids", torch.arange(count).expand(1, -1), persistent=False)


class SelfAttention(nn.Module):
    """The linear layers of a block's attention, by transformers' names."""

    def __init__(self, width: int, heads: int, *, is_biased: bool = True) -> None:
        super().__init__()
        self.head_dim = width // heads
        self.scale = self.head_dim**-0.5
        self.k_proj = nn.Linear(width, width, is_biased)
        self.v_proj = nn.Linear(width, width, is_biased)
        self.q_proj = nn.Linear(width, width, is_biased)
        self.out_proj = nn.Linear(width, width)


_ACTIVATIONS: dict[str, type[nn.Module]] = {"quick_gelu": QuickGeluActivation, "gelu": nn.GELU}


class Mlp(nn.Module):
    """The linear layers of a block's MLP, by transformers' names."""

    def __init__(self, width: int, inner: int, activation: nn.Module) -> None:
        super().__init__()
        self.activation_fn = activation
        self.fc1 = nn.Linear(width, inner)
        self.fc2 = nn.Linear(inner, width)


class _Block(nn.Module):
    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        self.self_attn = SelfAttention(config.hidden_size, config.num_attention_heads)
        self.layer_norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = Mlp(config.hidden_size, config.intermediate_size, _ACTIVATIONS[config.hidden_act]())
        self.layer_norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)


class Encoder(nn.Module):
    """A tower's transformer blocks.

    Args:
        config: Of the tower.
        block: Their class.
    """

    def __init__(self, config: ClipConfig, block: Callable[[ClipConfig], nn.Module] = _Block) -> None:
        super().__init__()
        self.layers = nn.ModuleList(block(config) for _ in range(config.num_hidden_layers))


class TextModel(nn.Module):
    """A text tower without its projection."""

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        self.embeddings = _TextEmbeddings(config)
        self.encoder = Encoder(config)
        self.final_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.eos_token_id = config.eos_token_id


class VisionModel(nn.Module):
    """The image tower without its projection.

    Args:
        config: Its configuration.
    """

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        self.embeddings = VisionEmbeddings(config)
        self.pre_layrnorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.encoder = Encoder(config)
        self.post_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)


class TwoTowers(nn.Module):
    """CLIP's text tower beside an image tower; weights are drawn from torch's generator until others are loaded.

    Args:
        config: Of the whole model.
        vision_model: The image tower without its projection.
        visual_projection: From there to embeddings.
    """

    is_gradient_checkpointing = False  # PEFT asks for it
    config_class = ClipConfig
    vision_model: Any

    def __init__(self, config: ClipConfig, vision_model: nn.Module, visual_projection: nn.Linear) -> None:
        super().__init__()
        self.config = config
        self.logit_scale = nn.Parameter(torch.tensor(config.get("logit_scale_init_value", math.log(1 / 0.07))))
        self.text_model = TextModel(config.text_config)
        self.vision_model = vision_model
        self.visual_projection = visual_projection
        self.text_projection = nn.Linear(config.text_config.hidden_size, config.projection_dim, bias=False)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.logit_scale.device


class Clip(TwoTowers):
    """A CLIP."""

    def __init__(self, config: ClipConfig) -> None:
        vision = config.vision_config
        super().__init__(config, VisionModel(vision), nn.Linear(vision.hidden_size, config.projection_dim, bias=False))


def read_clip(folder: Path) -> tuple[Clip, ClipTokenizer]:
    """The model in a folder, and its tokenizer."""
    config = ClipConfig.read(folder)
    with seeded(0):
        model = Clip(config)
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return model, ClipTokenizer(folder, config.text_config.eos_token_id)
