"""MobileCLIP's image tower as checkpoints hold it, turned into the one that is run.

It is in them as it was trained: each convolution as a sum of several, each with a batch norm behind it. All that is
linear, so it is read as one convolution, the same function: section 3.2 of arXiv 2303.14189.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ..errors import InputError
from .mobileclip import NORM_EPSILON, WEIGHED_FROM
from .pe_core import TRUNK


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
            parts = self._trunk(config) | self._blocks(config)
            parts |= self._channel_weights("final_conv.se", "vision_model.head.weights")
            parts["vision_model.head.convolution"] = self._several("final_conv")
            parts["visual_projection"] = self._plain("head.fc")
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
                if stage >= WEIGHED_FROM:
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
        factor = weight / (variance + NORM_EPSILON).sqrt()
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
