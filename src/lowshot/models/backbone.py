"""One backbone: two towers that put images and prompts into the same space."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import DataError

if TYPE_CHECKING:
    from transformers import CLIPModel, PreTrainedTokenizerBase

Tower = Literal["vision", "text"]
_PROJECTIONS = {"q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj", "o": "self_attn.out_proj"}


@dataclasses.dataclass(frozen=True)
class Identity:
    """Which weights these are.

    Args:
        id: ``builtin``, a Hub id or a folder.
        revision: Commit on the Hub, where there is one.
        weights_sha256: Hash of all weights in full precision.
    """

    id: str
    revision: str | None
    weights_sha256: str
    settings_sha256: str
    """Of what else decides what the weights compute: activation, heads, end-of-text token, pixels, vocabulary."""


def weights_sha256(model: nn.Module) -> str:
    """Hash of names, shapes and float32 values of all parameters: the same for a checkpoint in any file layout."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        digest.update(f"{name} {tuple(parameter.shape)}\n".encode())
        digest.update(parameter.detach().to("cpu", torch.float32).contiguous().numpy().data)
    return digest.hexdigest()


def settings_sha256(model: CLIPModel, tokenizer: PreTrainedTokenizerBase, pixels: Sequence[float]) -> str:
    """Hash of the settings beside the weights: the same weights with another activation are another function.

    Args:
        model: The model.
        tokenizer: Its tokenizer; what it makes of a few words stands for its rules.
        pixels: Mean and deviation that pixels are normalised with.
    """
    text, vision = model.config.text_config, model.config.vision_config
    shared = ("hidden_act", "layer_norm_eps", "num_attention_heads")
    settings = {
        "text": [getattr(text, name) for name in (*shared, "eos_token_id")],
        "vision": [getattr(vision, name) for name in (*shared, "image_size", "patch_size")],
        "pixels": [round(float(value), 6) for value in pixels],
        "tokens": tokenizer(["a photo of a cat.", "Łódź, 7 猫s"])["input_ids"],
        "vocabulary": sorted(tokenizer.get_vocab().items()),
    }
    return hashlib.sha256(json.dumps(settings).encode()).hexdigest()


@dataclasses.dataclass
class Backbone:
    """A CLIP model with its tokenizer and the preprocessing it was trained with.

    Args:
        model: The transformers model, frozen, in evaluation mode.
        tokenizer: Its tokenizer.
        mean: Per-channel mean its pixels are normalised with.
        std: Per-channel deviation.
        identity: Which weights these are.
    """

    model: CLIPModel
    tokenizer: PreTrainedTokenizerBase
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    identity: Identity

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return torch.device(self.model.device)

    @property
    def image_size(self) -> int:
        """Side of the square images the vision tower takes, pixels."""
        return int(self.model.config.vision_config.image_size)

    @property
    def depths(self) -> dict[Tower, int]:
        """Number of layers of each tower."""
        config = self.model.config
        return {"vision": config.vision_config.num_hidden_layers, "text": config.text_config.num_hidden_layers}

    def __post_init__(self) -> None:
        self.model.requires_grad_(False).eval()
        self.parameters = sum(p.numel() for p in self.model.parameters())
        """Parameters of the model as it was loaded, before any adapter or quantisation."""

    def module_name(self, tower: Tower, layer: int, projection: str) -> str:
        """Dotted name of one attention projection inside ``model``."""
        return f"{tower}_model.encoder.layers.{layer}.{_PROJECTIONS[projection]}"

    def encoder_linears(self) -> list[str]:
        """Dotted names of all linear layers inside both towers' transformer blocks: what quantisation replaces."""
        return [n for n, m in self.model.named_modules() if isinstance(m, nn.Linear) and ".encoder.layers." in n]

    @contextlib.contextmanager
    def training(self) -> Iterator[None]:
        """Training mode (dropout of adapters on) for the length of a block."""
        self.model.train()
        try:
            yield
        finally:
            self.model.eval()

    def tokenize(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """Token ids and mask, ``(P, L)``, padded to the longest prompt only.

        Padding to CLIP's full 77 tokens would change nothing but the cost: attention is causal and the embedding is
        read at the end-of-text token, so no token after it has any influence.

        Raises:
            DataError: A prompt is longer than the text tower takes; the message quotes it.
        """
        limit = self.model.config.text_config.max_position_embeddings
        tokens = self.tokenizer(list(prompts), padding=True, return_tensors="pt")
        lengths = tokens["attention_mask"].sum(1)
        if int(lengths.max()) > limit:
            worst = int(lengths.argmax())
            raise DataError(
                f"prompt {prompts[worst]!r} has {int(lengths[worst])} tokens; expected at most {limit}: "
                "shorten the class name"
            )
        return {name: tokens[name].to(self.device) for name in ("input_ids", "attention_mask")}

    def encode_prompts(self, tokens: dict[str, Tensor]) -> Tensor:
        """Unit embeddings ``(P, D)`` of tokenised prompts."""
        return functional.normalize(self.model.get_text_features(**tokens).pooler_output, dim=-1)

    def encode_images(self, images: Tensor) -> Tensor:
        """Unit embeddings ``(B, D)`` of images ``(B, 3, image_size, image_size)`` with values in [0, 1]."""
        mean, std = (torch.tensor(v, device=self.device).view(3, 1, 1) for v in (self.mean, self.std))
        pixels = (images.to(self.device) - mean) / std
        return functional.normalize(self.model.get_image_features(pixel_values=pixels).pooler_output, dim=-1)

    def logits(self, images: Tensor, classes: Tensor) -> Tensor:
        """Cosine similarities times the model's logit scale (100 in OpenAI's CLIP), ``(B, C)``.

        Args:
            images: Unit embeddings ``(B, D)``.
            classes: Unit embeddings ``(C, D)``.
        """
        scale: Tensor = self.model.logit_scale.detach().exp()
        return scale * images @ classes.T
