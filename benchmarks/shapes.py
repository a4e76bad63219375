"""The shapes that are measured: a CLIP with random weights, its prompts and pictures, and the arithmetic of a step.

Speed and memory do not depend on what the weights are, so nothing has to be downloaded.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import CLIPConfig, CLIPModel

CONTEXT = 77
"""Tokens that the published procedure pads every prompt to."""
BEFORE, NAME, AFTER = 5, 3, 2
"""Tokens of a prompt: start and `a photo of a`, a name of three tokens, a full stop and the end."""
PROMPT_TOKENS = BEFORE + NAME + AFTER


@dataclasses.dataclass(frozen=True)
class TowerShape:
    """The transformer blocks of one tower."""

    width: int
    inner: int
    """Width inside the MLP."""
    heads: int
    layers: int

    def config(self) -> dict[str, int]:
        """As transformers calls it."""
        return {
            "hidden_size": self.width,
            "intermediate_size": self.inner,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
        }

    def products(self, tokens: int, keys: int, one_leaves: int | None) -> float:
        """Multiplications of a forward pass.

        Args:
            tokens: All tokens together.
            keys: Tokens that each of them looks at.
            one_leaves: Number of sequences, where only one token of each is of interest: the last block then needs
                queries, output and MLP for that one alone. None where all tokens go all the way.
        """
        keys_and_values = 2 * self.width**2
        query_to_mlp = 2 * self.width**2 + 2 * self.width * self.inner + 2 * keys * self.width
        last = tokens if one_leaves is None else one_leaves
        return tokens * (self.layers * keys_and_values + (self.layers - 1) * query_to_mlp) + last * query_to_mlp


@dataclasses.dataclass(frozen=True)
class Shape:
    """A CLIP."""

    title: str
    vision: TowerShape
    text: TowerShape
    image_size: int
    patch_size: int
    embedding: int
    """Width of the space that images and prompts share."""
    vocabulary: int

    @property
    def image_tokens(self) -> int:
        """Patches, and the token that the embedding is read at."""
        return (self.image_size // self.patch_size) ** 2 + 1

    def config(self) -> CLIPConfig:
        """As transformers has it."""
        from transformers import CLIPConfig

        pixels = {"patch_size": self.patch_size, "image_size": self.image_size}
        words = {
            "vocab_size": self.vocabulary,
            "max_position_embeddings": CONTEXT,
            "bos_token_id": self.vocabulary - 2,
            "eos_token_id": self.vocabulary - 1,
        }
        shared = {"projection_dim": self.embedding}
        return CLIPConfig(
            vision_config={**self.vision.config(), **pixels, **shared},
            text_config={**self.text.config(), **words, **shared},
            **shared,
        )

    def random_model(self) -> CLIPModel:
        """The model, with weights drawn from torch's random state."""
        from transformers import CLIPModel

        return CLIPModel(self.config())

    def prompts(self, classes: int) -> Tensor:
        """Prompts ``(C, 77)``: ten tokens each, of which the name's three are random, then zeros."""
        import torch

        generator = torch.Generator().manual_seed(0)
        tokens = torch.zeros(classes, CONTEXT, dtype=torch.int64)
        tokens[:, 0] = self.vocabulary - 2
        tokens[:, 1:BEFORE] = torch.arange(1, BEFORE)
        tokens[:, BEFORE : BEFORE + NAME].random_(BEFORE + 1, self.vocabulary - 2, generator=generator)
        tokens[:, PROMPT_TOKENS - 2] = BEFORE
        tokens[:, PROMPT_TOKENS - 1] = self.vocabulary - 1
        return tokens

    def arithmetic(self, classes: int, batch_size: int, *, as_published: bool, weights_trained: bool = False) -> float:
        """Floating-point operations of a step: the towers forward, and back through their activations.

        What the embeddings do not depend on counts for the published procedure, which computes it, and not otherwise:
        the prompts' padding, and the other tokens' way through the last block.

        Args:
            classes: Number of prompts; 0 where they are not encoded at every step.
            batch_size: Number of images.
            as_published: Count what the published procedure computes.
            weights_trained: The gradients of all weights are wanted too.
        """
        images = batch_size * self.image_tokens
        if as_published:
            products = self.vision.products(images, self.image_tokens, None)
            products += self.text.products(classes * CONTEXT, CONTEXT, None)
        else:
            products = self.vision.products(images, self.image_tokens, batch_size)
            if classes:
                products += self.text.products(classes * PROMPT_TOKENS, PROMPT_TOKENS, classes)
        return 2.0 * products * (3 if weights_trained else 2)


class PromptTokens:
    """Stands for a tokenizer: whatever it is asked, it has the tokens of ``Shape.prompts``."""

    def __init__(self, shape: Shape, classes: int) -> None:
        self.ids = shape.prompts(classes)[:, :PROMPT_TOKENS]

    def __call__(self, _prompts: list[str], **options: Any) -> dict[str, Any]:
        import torch

        if "return_tensors" not in options:
            return {"input_ids": self.ids.tolist()}
        return {"input_ids": self.ids, "attention_mask": torch.ones_like(self.ids)}


def vit_b16() -> Shape:
    """CLIP ViT-B/16 as OpenAI published it."""
    return Shape(
        title="ViT-B/16, random",
        vision=TowerShape(width=768, inner=3072, heads=12, layers=12),
        text=TowerShape(width=512, inner=2048, heads=8, layers=12),
        image_size=224,
        patch_size=16,
        embedding=512,
        vocabulary=49408,
    )


def smoke() -> Shape:
    """A CLIP so small that a step takes milliseconds: its figures mean nothing."""
    return Shape(
        title="smoke",
        vision=TowerShape(width=64, inner=128, heads=4, layers=2),
        text=TowerShape(width=32, inner=64, heads=2, layers=2),
        image_size=32,
        patch_size=8,
        embedding=32,
        vocabulary=64,
    )


SHAPES = {"vit-b16": vit_b16, "smoke": smoke}
