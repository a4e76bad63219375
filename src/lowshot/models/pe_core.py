"""PE-Core (Perception Encoder, arXiv 2504.13181): a CLIP whose image tower turns queries and keys by their places.

Nobody else's package is needed: the modules are plain ones with transformers' names of a CLIP, so that blocks, adapters
and everything else treat them as one. timm, which open_clip runs this tower with, has queries, keys and values in one
linear layer; here they are three.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .clip import ClipConfig, TwoTowers, VisionModel

TOWERS: dict[str, dict[str, int]] = {
    "vit_pe_core_tiny_patch16_384": {"hidden_size": 192, "num_attention_heads": 3, "patch_size": 16},
    "vit_pe_core_small_patch16_384": {"hidden_size": 384, "num_attention_heads": 6, "patch_size": 16},
    "vit_pe_core_base_patch16_224": {"hidden_size": 768, "num_attention_heads": 12, "patch_size": 16},
    "vit_pe_core_large_patch14_336": {
        **{"hidden_size": 1024, "num_attention_heads": 16, "patch_size": 14},
        "num_hidden_layers": 24,
    },
}
"""timm's names of the image towers, as far as they differ: those with a class token, which the largest has not."""
POOL = "map"
"""timm's name of the way in which they pool: by attention."""
_DEPTH = 12
_POOL_HEADS = 8
_TEMPERATURE = 10_000.0


class PoolingHead(nn.Module):
    """One trained query that looks at all tokens, then an MLP.

    Args:
        config: Of the vision tower.
    """

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.heads = config.pooling_heads
        self.latent = nn.Parameter(torch.randn(1, 1, width))
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(width, width) for _ in range(3))
        self.out_proj = nn.Linear(width, width)
        self.layer_norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """``(B, L, D)`` to ``(B, D)``."""
        query, key, value = (
            projection(inputs).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projection, inputs in (
                (self.q_proj, self.latent.expand(tokens.shape[0], -1, -1)),  # len would be fixed in an exported graph
                (self.k_proj, tokens),
                (self.v_proj, tokens),
            )
        )
        mixed = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        pooled: Tensor = self.out_proj(mixed)
        pooled = pooled + self.fc2(functional.gelu(self.fc1(self.layer_norm(pooled))))
        return pooled[:, 0]


class PeVisionModel(VisionModel):
    """The image tower without its projection.

    Args:
        config: Its configuration.
    """

    rotary: Tensor

    def __init__(self, config: ClipConfig) -> None:
        super().__init__(config)
        self.head = PoolingHead(config)
        self._side = config.image_size // config.patch_size
        self._head_width = config.hidden_size // config.num_attention_heads
        self.turn()

    def turn(self) -> None:
        """Compute the turns of its tokens, which are in no checkpoint."""
        self.register_buffer("rotary", turns(self._side, self._head_width), persistent=False)


class PeCore(TwoTowers):
    """The whole model."""

    def __init__(self, config: ClipConfig) -> None:
        vision = config.vision_config
        super().__init__(config, PeVisionModel(vision), nn.Linear(vision.hidden_size, config.projection_dim))


def turns(side: int, width: int) -> Tensor:
    """Cosine and sine of each token's angles, ``(2, 1 + side * side, width)``: the class token is not turned.

    Half of a head's numbers are turned by a patch's column, half by its row, both counted from 1, at frequencies that
    fall from 1 in steps of the same ratio; numbers lie in pairs that are turned together.

    Args:
        side: Patches of an image's side.
        width: Numbers of an attention head.
    """
    frequencies = _TEMPERATURE ** -(torch.arange(width // 4) / (width // 4))
    places = torch.arange(side) + 1.0
    rows, columns = torch.meshgrid(places, places, indexing="ij")
    angles = torch.stack([columns, rows], -1).flatten(0, 1)[:, :, None] * frequencies  # (N, 2, width / 4)
    angles = torch.cat([torch.zeros(1, width // 2), angles.flatten(1)]).repeat_interleave(2, -1)
    return torch.stack([angles.cos(), angles.sin()])


def vision_config(section: Mapping[str, Any], embedding: int) -> dict[str, Any]:
    """The image tower's part of what a config.json of such a model would say.

    Args:
        section: open_clip's ``vision_cfg``, with one of ``TOWERS`` as its image tower.
        embedding: Numbers of an embedding.
    """
    tower = TOWERS[section["timm_model_name"]]
    return {
        "num_hidden_layers": _DEPTH,
        **tower,
        "intermediate_size": 4 * tower["hidden_size"],
        "pooling_heads": _POOL_HEADS,
        "image_size": section["image_size"],
        "num_channels": 3,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-5,
        "projection_dim": embedding,
    }


def shortfalls(section: Mapping[str, Any]) -> list[str]:
    """Sizes of images for which a tower of this name is not read; empty where it is.

    Args:
        section: open_clip's ``vision_cfg``, with one of ``TOWERS`` as its image tower.
    """
    name, side = section["timm_model_name"], section.get("image_size", 224)
    is_own = str(side) == name.rpartition("_")[2]
    return [] if is_own else [f"timm's image tower {name} for images of {side} pixels, not its own size"]


TRUNK = "visual.trunk."
"""How names of timm's image towers begin in open_clip's checkpoints."""
_PLAIN = {
    "pos_embed": "embeddings.position_embedding.weight",
    "cls_token": "embeddings.class_embedding",
    "patch_embed.proj.weight": "embeddings.patch_embedding.weight",
    "attn_pool.latent": "head.latent",
}
_MODULES = {
    "norm_pre": "pre_layrnorm",
    "norm": "post_layernorm",
    "attn_pool.q": "head.q_proj",
    "attn_pool.proj": "head.out_proj",
    "attn_pool.norm": "head.layer_norm",
    "attn_pool.mlp.fc1": "head.fc1",
    "attn_pool.mlp.fc2": "head.fc2",
}
_IN_BLOCK = {"norm1": "layer_norm1", "norm2": "layer_norm2", "attn.proj": "self_attn.out_proj"}
_BLOCK = re.compile(r"blocks\.(\d+)\.(.+)")


def vision_tensors(name: str, value: Tensor) -> dict[str, Tensor]:
    """One tensor of the image tower under its name here, those of several layers in one as several.

    Args:
        name: open_clip's.
        value: The tensor.

    Returns:
        Nothing where the name is none of the image tower's.
    """
    if not name.startswith(TRUNK):
        return {}
    inside = name.removeprefix(TRUNK)
    module, _, kind = inside.rpartition(".")
    if inside in _PLAIN:
        shape = {"cls_token": value.shape[-1:], "pos_embed": value.shape[-2:]}.get(inside, value.shape)
        return {f"vision_model.{_PLAIN[inside]}": value.reshape(shape)}
    if module == "head":
        return {f"visual_projection.{kind}": value}
    if module == "attn_pool.kv":
        return {f"vision_model.head.{x}_proj.{kind}": part for x, part in zip("kv", value.chunk(2), strict=True)}
    if module in _MODULES:
        return {f"vision_model.{_MODULES[module]}.{kind}": value}
    if (block := _BLOCK.fullmatch(module)) is None:
        return {}
    layer = f"vision_model.encoder.layers.{block[1]}"
    if block[2] == "attn.qkv":
        return {f"{layer}.self_attn.{x}_proj.{kind}": part for x, part in zip("qkv", value.chunk(3), strict=True)}
    return {f"{layer}.{_IN_BLOCK.get(block[2], block[2])}.{kind}": value}
