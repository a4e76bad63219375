"""MobileCLIP and MobileCLIP2 (arXiv 2311.17049, 2508.20691), sizes S0 to S2: a CLIP whose image tower is a FastViT.

A FastViT (arXiv 2303.14189) is convolutions, and at its end a few transformer blocks. Of those alone adapters see the
linear layers. Nobody else's package is needed: the modules are plain ones with transformers' names of a CLIP.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .clip import ClipConfig, Encoder, Mlp, SelfAttention, TwoTowers

TOWERS: dict[str, dict[str, Any]] = {
    "fastvit_mci0": {"layers": (2, 6, 10, 2), "widths": (64, 128, 256, 512), "stem_stride": 2},
    "fastvit_mci1": {"layers": (4, 12, 20, 4), "widths": (64, 128, 256, 512), "stem_stride": 2},
    "fastvit_mci2": {"layers": (4, 12, 24, 4), "widths": (80, 160, 320, 640), "stem_stride": 2},
}
"""timm's names of the image towers: blocks and channels of their four stages, of which the last has attention, and the
stride of each of the first two convolutions."""
POOL = "avg"
"""timm's name of the way in which they pool: by the mean."""
_HEAD_WIDTH = 32
_MLP_RATIO = 3
_WIDER = 2
"""How many channels the last convolution makes of one."""
NORM_EPSILON = 1e-5
WEIGHED_FROM = 2
"""The first stage before which channels are weighed."""


def _depthwise(channels: int, size: int, *, out: int | None = None, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, out or channels, size, stride, size // 2, groups=channels)


class ChannelWeights(nn.Module):
    """Multiplies each channel by a weight in (0, 1) that is computed of all channels' means (arXiv 1709.01507).

    Args:
        channels: Of what it is given.
        inner: Numbers between its two layers.
    """

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, inner, 1)
        self.fc2 = nn.Conv2d(inner, channels, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        """``(B, C, H, W)`` to the same shape."""
        means = pixels.mean((2, 3), keepdim=True)
        weighed: Tensor = pixels * self.fc2(self.fc1(means).relu()).sigmoid()
        return weighed


class Narrowing(nn.Module):
    """From one stage to the next: half the side, other channels."""

    def __init__(self, before: int, after: int, *, is_weighed: bool) -> None:
        super().__init__()
        self.large = _depthwise(before, 7, out=after, stride=2)
        self.weights = ChannelWeights(after, max(8, (after + 16) // 32 * 8)) if is_weighed else nn.Identity()
        self.across = nn.Conv2d(after, after, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        """``(B, C, H, W)`` to ``(B, C', H / 2, W / 2)``."""
        wider = functional.gelu(self.weights(self.large(pixels)))
        return functional.gelu(self.across(wider))


class ConvolutionalBlock(nn.Module):
    """A convolution that mixes places, then an MLP over channels behind another one: y = mix(x); y + MLP(near(y))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mix = _depthwise(width, 3)
        self.near = _depthwise(width, 7)
        self.fc1 = nn.Conv2d(width, _MLP_RATIO * width, 1)
        self.fc2 = nn.Conv2d(_MLP_RATIO * width, width, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        """``(B, C, H, W)`` to the same shape."""
        mixed: Tensor = self.mix(pixels)
        added: Tensor = self.fc2(functional.gelu(self.fc1(self.near(mixed))))
        return mixed + added


class Trunk(nn.Module):
    """All before the blocks with attention: normalised pixels ``(B, 3, S, S)`` to tokens ``(B, L, D)``."""

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        widths, layers = config.widths, config.layers
        first = widths[0]
        self.stem = nn.Sequential(
            nn.Conv2d(3, first, 3, config.stem_stride, 1),
            nn.GELU(),
            _depthwise(first, 3, stride=config.stem_stride),
            nn.GELU(),
            nn.Conv2d(first, first, 1),
        )
        self.stages = nn.ModuleList(
            nn.Sequential(*(ConvolutionalBlock(width) for _ in range(count)))
            for width, count in zip(widths[:-1], layers[:-1], strict=True)
        )
        self.narrowings = nn.ModuleList(
            Narrowing(widths[stage - 1], widths[stage], is_weighed=stage >= WEIGHED_FROM) for stage in range(1, 4)
        )
        self.places = _depthwise(widths[-1], 7)

    def forward(self, pixels: Tensor) -> Tensor:
        hidden = functional.gelu(self.stem(pixels))
        for stage, narrowing in zip(self.stages, self.narrowings, strict=True):
            hidden = narrowing(stage(hidden))
        tokens: Tensor = self.places(hidden).flatten(2).transpose(1, 2)
        return tokens


class Scale(nn.Module):
    """A factor for each channel, and a summand unless there is none."""

    def __init__(self, width: int, *, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None

    def forward(self, tokens: Tensor) -> Tensor:
        """``(..., D)`` to the same shape."""
        scaled: Tensor = tokens * self.weight
        return scaled if self.bias is None else scaled + self.bias


class Nearby(nn.Module):
    """A depthwise convolution over tokens that lie in a square; tokens behind those have no place, and see themselves.

    Args:
        width: D.
        side: Of the square.
    """

    def __init__(self, width: int, side: int) -> None:
        super().__init__()
        self.convolution = _depthwise(width, 7)
        self._side = side

    def forward(self, tokens: Tensor) -> Tensor:
        """``(N, L, D)`` to the same shape."""
        square, behind = tokens[:, : self._side**2], tokens[:, self._side**2 :]
        pixels = square.transpose(1, 2).unflatten(2, (self._side, self._side))  # type: ignore[no-untyped-call]
        near: Tensor = self.convolution(pixels).flatten(2).transpose(1, 2)
        if behind.shape[1] == 0:
            return near
        middle, bias = self.convolution.weight[:, 0, 3, 3], self.convolution.bias
        assert bias is not None
        return torch.cat([near, behind * middle + bias], 1)


class _Block(nn.Module):
    """A transformer block whose MLP sees what lies near a token; batch norms are scales."""

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.layer_norm1 = Scale(width, bias=True)
        self.self_attn = SelfAttention(width, config.num_attention_heads, is_biased=False)
        self.gain1 = Scale(width, bias=False)
        self.layer_norm2 = Nearby(width, config.image_size // config.patch_size)
        self.mlp = Mlp(width, config.intermediate_size, nn.GELU())
        self.gain2 = Scale(width, bias=False)


class Pooling(nn.Module):
    """From the tokens of an image to one vector: a convolution, weights of channels, the mean over all places.

    Args:
        config: Of the vision tower.
    """

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        self._side, wide = config.image_size // config.patch_size, _WIDER * config.hidden_size
        self.convolution = _depthwise(config.hidden_size, 3, out=wide)
        self.weights = ChannelWeights(wide, max(1, round(wide / 16)))

    def forward(self, tokens: Tensor) -> Tensor:
        """``(B, L, D)`` to ``(B, 2 D)``; tokens behind those of the image are left out."""
        square = tokens[:, : self._side**2].transpose(1, 2)
        pixels = square.unflatten(2, (self._side, self._side))  # type: ignore[no-untyped-call]
        pooled: Tensor = functional.gelu(self.weights(self.convolution(pixels))).mean((2, 3))
        return pooled


class VisionModel(nn.Module):
    """The image tower without its projection.

    Args:
        config: Its configuration.
    """

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        self.embeddings = Trunk(config)
        self.encoder = Encoder(config, _Block)
        self.head = Pooling(config)


class MobileClip(TwoTowers):
    """The whole model."""

    def __init__(self, config: ClipConfig) -> None:
        vision = config.vision_config
        super().__init__(config, VisionModel(vision), nn.Linear(_WIDER * vision.hidden_size, config.projection_dim))


def vision_config(section: Mapping[str, Any], embedding: int) -> dict[str, Any]:
    """The image tower's part of what a config.json of such a model would say.

    Args:
        section: open_clip's ``vision_cfg``, with one of ``TOWERS`` as its image tower.
        embedding: Numbers of an embedding.
    """
    tower = TOWERS[section["timm_model_name"]]
    width = tower["widths"][-1]
    return {
        **tower,
        "hidden_size": width,
        "intermediate_size": _MLP_RATIO * width,
        "num_hidden_layers": tower["layers"][-1],
        "num_attention_heads": width // _HEAD_WIDTH,
        "image_size": section["image_size"],
        "patch_size": _patch(tower),
        "num_channels": 3,
        "hidden_act": "gelu",
        "layer_norm_eps": NORM_EPSILON,
        "projection_dim": embedding,
    }


def _patch(tower: Mapping[str, Any]) -> int:
    """Pixels of a token's side: each of three later convolutions halves the sides, too."""
    return int(8 * tower["stem_stride"] ** 2)


def shortfalls(section: Mapping[str, Any]) -> list[str]:
    """Sizes of images for which a tower of this name is not read; empty where it is.

    Args:
        section: open_clip's ``vision_cfg``, with one of ``TOWERS`` as its image tower.
    """
    name, side = section["timm_model_name"], section.get("image_size", 224)
    patch = _patch(TOWERS[name])
    fits = isinstance(side, int) and side >= patch and side % patch == 0
    return [] if fits else [f"timm's image tower {name} for images of {side} pixels, which is no multiple of {patch}"]
