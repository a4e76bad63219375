"""MobileCLIP and MobileCLIP2 (arXiv 2311.17049, 2508.20691), sizes S0 to S2: a CLIP whose image tower is a FastViT.

A FastViT (arXiv 2303.14189) is convolutions, and at its end a few transformer blocks. Of those alone adapters see the
linear layers. Nobody else's package is needed: the modules are plain ones with transformers' names of a CLIP.

Checkpoints hold the tower as it was trained: each convolution as a sum of several, each with a batch norm behind it.
All that is linear, so it is read as one convolution, the same function: section 3.2 of that paper.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import InputError
from .clip import ClipConfig, Mlp, SelfAttention, TwoTowers
from .pe_core import TRUNK

TOWERS: dict[str, dict[str, Any]] = {
    "fastvit_mci0": {"layers": (2, 6, 10, 2), "widths": (64, 128, 256, 512), "stem_stride": 2},
    "fastvit_mci1": {"layers": (4, 12, 20, 4), "widths": (64, 128, 256, 512), "stem_stride": 2},
    "fastvit_mci2": {"layers": (4, 12, 24, 4), "widths": (80, 160, 320, 640), "stem_stride": 2},
}
"""timm's names of the image towers: blocks and channels of their four stages, of which the last has attention, and the
stride of each of the first two convolutions."""
_HEAD_WIDTH = 32
_MLP_RATIO = 3
_WIDER = 2
"""How many channels the last convolution makes of one."""
_NORM_EPSILON = 1e-5
_WEIGHED_FROM = 2
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
            Narrowing(widths[stage - 1], widths[stage], is_weighed=stage >= _WEIGHED_FROM) for stage in range(1, 4)
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


class _Encoder(nn.Module):
    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList([_Block(config) for _ in range(config.num_hidden_layers)])


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
        self.encoder = _Encoder(config)
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
        "layer_norm_eps": _NORM_EPSILON,
        "projection_dim": embedding,
    }


def _patch(tower: Mapping[str, Any]) -> int:
    """Pixels of a token's side: each of three later convolutions halves the sides, too."""
    return int(8 * tower["stem_stride"] ** 2)


def shortfalls(section: Mapping[str, Any]) -> list[str]:
    """What a tower of this name has besides that is not read; empty where nothing is missing.

    Args:
        section: open_clip's ``vision_cfg``, with one of ``TOWERS`` as its image tower.
    """
    name, side = section["timm_model_name"], section.get("image_size", 224)
    patch, needs = _patch(TOWERS[name]), []
    if section.get("timm_pool") != "avg":
        needs.append(f"timm's image tower {name} that pools by {section.get('timm_pool')!r}, not by the mean (avg)")
    if section.get("timm_proj"):
        needs.append(f"timm's image tower {name} with a projection of type {section['timm_proj']!r}")
    if not isinstance(side, int) or side < patch or side % patch:
        needs.append(f"timm's image tower {name} for images of {side} pixels, which is no multiple of {patch}")
    return needs


class _Folded(NamedTuple):
    """A convolution, or several whose outputs are added, as one."""

    weight: Tensor
    bias: Tensor

    def __add__(self, other: _Folded) -> _Folded:  # type: ignore[override]
        """The sum of both outputs; the smaller kernel lies in the middle of the larger."""
        small, large = sorted((self.weight, other.weight), key=lambda weight: weight.shape[-1])
        margin = (large.shape[-1] - small.shape[-1]) // 2
        return _Folded(large + functional.pad(small, [margin] * 4), self.bias + other.bias)

    def times(self, gain: Tensor) -> _Folded:
        """Its output times a factor for each channel."""
        return _Folded(self.weight * gain.reshape(-1, 1, 1, 1), self.bias * gain.flatten())


class TrunkTensors:
    """timm's tensors of an image tower, as they are turned into those of ``MobileClip``.

    Args:
        tensors: All of a checkpoint's.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._left = {name: tensor for name, tensor in tensors.items() if name.startswith(TRUNK)}

    def turned(self, config: Mapping[str, Any]) -> dict[str, Tensor]:
        """Every tensor of the image tower under its name here.

        Args:
            config: The vision tower's, as ``vision_config`` makes it.

        Raises:
            InputError: One is missing or is one too many, or the shapes of some do not fit each other.
        """
        try:
            parts = self._trunk(config) | self._blocks(config) | self._end()
        except RuntimeError as error:
            raise InputError(f"its image tower's tensors do not fit each other: {error}") from None
        unknown = sorted(name for name in self._left if not name.endswith(".num_batches_tracked"))
        if unknown:
            raise InputError(f"its weights have {len(unknown)} tensor(s) that the model has not, such as {unknown[0]}")
        return {
            f"{module}.{kind}".strip("."): tensor.float()
            for module, part in parts.items()
            for kind, tensor in (part._asdict() if isinstance(part, _Folded) else {"": part}).items()
        }

    def _trunk(self, config: Mapping[str, Any]) -> dict[str, _Folded | Tensor]:
        trunk = "vision_model.embeddings"
        parts: dict[str, _Folded | Tensor] = {
            f"{trunk}.stem.0": self._several("stem.0"),
            f"{trunk}.stem.2": self._several("stem.1"),
            f"{trunk}.stem.4": self._several("stem.2", identity=self._dense, scaled=False),
        }
        for stage, count in enumerate(config["layers"]):
            if stage > 0:
                name, own = f"stages.{stage}.downsample.proj", f"{trunk}.narrowings.{stage - 1}"
                parts[f"{own}.large"] = self._normed(f"{name}.0.large_conv") + self._normed(f"{name}.0.small_conv")
                parts[f"{own}.across"] = self._several(f"{name}.1", identity=self._dense, scaled=False)
                if stage >= _WEIGHED_FROM:
                    parts |= self._channel_weights(f"{name}.0.se", f"{own}.weights")
            if stage == len(config["layers"]) - 1:
                continue
            for number in range(count):
                name, own = f"stages.{stage}.blocks.{number}", f"{trunk}.stages.{stage}.{number}"
                parts[f"{own}.mix"] = self._mixer(f"{name}.token_mixer")
                parts[f"{own}.near"] = self._normed(f"{name}.mlp.conv")
                parts[f"{own}.fc1"] = self._plain(f"{name}.mlp.fc1")
                parts[f"{own}.fc2"] = self._plain(f"{name}.mlp.fc2").times(self._take(f"{name}.layer_scale.gamma"))
        places = self._plain(f"stages.{len(config['layers']) - 1}.pos_emb.pos_enc")
        parts[f"{trunk}.places"] = places + self._unchanged(len(places.bias))
        return parts

    def _blocks(self, config: Mapping[str, Any]) -> dict[str, _Folded | Tensor]:
        parts: dict[str, _Folded | Tensor] = {}
        for number in range(config["num_hidden_layers"]):
            name, own = f"stages.{len(config['layers']) - 1}.blocks.{number}", f"vision_model.encoder.layers.{number}"
            for projection, weight in zip("qkv", self._take(f"{name}.token_mixer.qkv.weight").chunk(3), strict=True):
                parts[f"{own}.self_attn.{projection}_proj.weight"] = weight
            parts[f"{own}.self_attn.out_proj"] = self._plain(f"{name}.token_mixer.proj")
            parts[f"{own}.layer_norm1"] = self._norm(f"{name}.norm")
            parts[f"{own}.layer_norm2.convolution"] = self._normed(f"{name}.mlp.conv")
            for layer, gain in (("1", "layer_scale_1"), ("2", "layer_scale_2")):
                weight, bias = self._plain(f"{name}.mlp.fc{layer}")
                parts[f"{own}.mlp.fc{layer}"] = _Folded(weight.flatten(1), bias)
                parts[f"{own}.gain{layer}.weight"] = self._take(f"{name}.{gain}.gamma").flatten()
        return parts

    def _end(self) -> dict[str, _Folded | Tensor]:
        return {
            "vision_model.head.convolution": self._several("final_conv"),
            **self._channel_weights("final_conv.se", "vision_model.head.weights"),
            "visual_projection": self._plain("head.fc"),
        }

    def _take(self, name: str) -> Tensor:
        try:
            return self._left.pop(f"{TRUNK}{name}").detach().to("cpu", torch.float64)
        except KeyError:
            raise InputError(f"its weights lack tensors of the model, such as {TRUNK}{name}") from None

    def _plain(self, name: str) -> _Folded:
        return _Folded(self._take(f"{name}.weight"), self._take(f"{name}.bias"))

    def _norm(self, name: str) -> _Folded:
        """A batch norm as factor and summand."""
        weight, bias, mean, variance = (
            self._take(f"{name}.{each}") for each in ("weight", "bias", "running_mean", "running_var")
        )
        factor = weight / (variance + _NORM_EPSILON).sqrt()
        return _Folded(factor, bias - mean * factor)

    def _normed(self, name: str) -> _Folded:
        """A convolution and the batch norm behind it."""
        factor, summand = self._norm(f"{name}.bn")
        return _Folded(self._take(f"{name}.conv.weight") * factor.reshape(-1, 1, 1, 1), summand)

    def _several(self, name: str, *, identity: Any = None, scaled: bool = True) -> _Folded:
        """Branches side by side: a convolution, one of a single pixel, and the input itself, each with a batch norm."""
        folded = self._normed(f"{name}.conv_kxk.0")
        if scaled:
            folded = folded + self._normed(f"{name}.conv_scale")
        if identity is not None:
            factor, summand = self._norm(f"{name}.identity")
            folded = folded + _Folded(identity(factor), summand)
        return folded

    def _mixer(self, name: str) -> _Folded:
        """One convolution for x + gain (mixed(x) - normed(x))."""
        mixed = self._several(f"{name}.mixer", identity=self._apart)
        factor, summand = self._norm(f"{name}.norm.identity")
        difference = mixed + _Folded(-self._apart(factor), -summand)
        return difference.times(self._take(f"{name}.layer_scale.gamma")) + self._unchanged(len(summand))

    def _channel_weights(self, name: str, own: str) -> dict[str, _Folded]:
        return {f"{own}.{layer}": self._plain(f"{name}.{layer}") for layer in ("fc1", "fc2")}

    @staticmethod
    def _dense(factor: Tensor) -> Tensor:
        return torch.diag(factor)[:, :, None, None]

    @staticmethod
    def _apart(factor: Tensor) -> Tensor:
        return factor[:, None, None, None]

    def _unchanged(self, channels: int) -> _Folded:
        return _Folded(
            self._apart(torch.ones(channels, dtype=torch.float64)), torch.zeros(channels, dtype=torch.float64)
        )
