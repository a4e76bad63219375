"""timm's plain ViTs and DINOv2s as those of transformers, read without timm.

timm has one class for dozens of ViTs, and says by the name of an architecture how they differ. Here are those that
transformers' ViT or DINOv2 computes to the last operation: a class token, one layer for queries, keys and values,
GELU, and the class token behind the last norm as the embedding. Others are refused by name.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from .checkpoint_files import CheckpointFiles
from .families import FAMILIES, empty_model
from .open_clip import MOST_LAYERS, Pixels, naming, refuse_others, tensors_in

PREFIX = "timm:"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_SIZES = {
    "tiny": (192, 12, 3),
    "small": (384, 12, 6),
    "base": (768, 12, 12),
    "large": (1024, 24, 16),
    "huge": (1280, 32, 16),
}
"""In a name: width, depth and heads."""
_PLAIN = re.compile(r"(vit|deit)_(?P<size>tiny|small|base|large|huge)_patch(?P<patch>8|14|16|32)_(?P<side>\d+)")
_DINOV2 = re.compile(r"vit_(?P<size>small|base|large)_patch(?P<patch>14)(_reg(?P<registers>4))?_dinov2")
_DINOV2_SIDE = 518
_ARGUMENTS = {"img_size", "patch_size", "embed_dim", "depth", "num_heads", "mlp_ratio", "qkv_bias", "dynamic_img_size"}
"""Of timm's constructor: those that a configuration may have beside the name of its architecture."""
READ = (
    "vit_{tiny,small,base,large,huge}_patch{8,14,16,32}_SIDE, deit_... and vit_{small,base,large}_patch14[_reg4]_dinov2"
)


@dataclasses.dataclass(frozen=True)
class TimmCheckpoint:
    """A folder or repository that timm's ``push_to_hf_hub`` or ``save_for_hf`` wrote.

    Args:
        files: Where its files are.
        settings: Its config.json.
    """

    files: CheckpointFiles
    settings: Mapping[str, Any]

    @property
    def id(self) -> str:
        """A folder's full path, or the repository."""
        return self.files.place

    @property
    def revision(self) -> str | None:
        """The commit that the Hub's files are of; None where they lie in a folder."""
        return self.files.commit_of(self._weights())

    def config(self) -> dict[str, Any]:
        """The config.json of the same model in transformers format.

        Raises:
            InputError: transformers' ViT and DINOv2 are not this model, or the configuration is damaged.
        """
        with naming(self.files.model):
            name, given = str(self.settings["architecture"]), self._of("model_args")
            known = _PLAIN.fullmatch(name) or _DINOV2.fullmatch(name)
            other = sorted(given.keys() - _ARGUMENTS)
            pool = self.settings.get("global_pool") or "token"
            if known is None or other or pool != "token":
                why = f"has {', '.join(other)}" if other else f"pools by {pool!r}" if pool != "token" else "is another"
                raise InputError(
                    f"timm's architecture {name!r} {why}, and lowshot reads those of timm that transformers' ViT or "
                    f"DINOv2 is: {READ}; expected one of them, or the model in transformers format"
                )
            parts = known.groupdict()
            width, depth, heads = _SIZES[parts["size"]]
            width = _whole(given, "embed_dim", width)
            config = {
                "hidden_size": width,
                "num_hidden_layers": min(_whole(given, "depth", depth), MOST_LAYERS),
                "num_attention_heads": _whole(given, "num_heads", heads),
                "image_size": _whole(given, "img_size", self._side(int(parts.get("side") or _DINOV2_SIDE))),
                "patch_size": _whole(given, "patch_size", int(parts["patch"])),
                "qkv_bias": bool(given.get("qkv_bias", True)),
                "hidden_act": "gelu",
                "layer_norm_eps": 1e-6,
            }
            ratio = _whole(given, "mlp_ratio", 4)
            if "registers" not in parts:
                return {**config, "model_type": "vit", "intermediate_size": int(ratio * width)}
            if parts["registers"] is None:
                return {**config, "model_type": "dinov2", "mlp_ratio": ratio, "use_mask_token": False}
            registers = {"num_register_tokens": int(parts["registers"])}
            return {**config, "model_type": "dinov2_with_registers", "mlp_ratio": ratio, **registers}

    def read(self) -> tuple[Any, None, Pixels]:
        """The model on the CPU in float32, no tokenizer, and its pixels.

        Raises:
            InputError: As ``config``; or files are missing or damaged, or the weights are of another model.
        """
        config = self.config()
        with naming(self.files.model):
            pretrained = self._of("pretrained_cfg") or self.settings
            squash = pretrained.get("crop_mode") == "squash"
            words = {name: pretrained.get(name) for name in ("mean", "std", "interpolation")}
            pixels = Pixels.of({**words, "resize_mode": "squash" if squash else "shortest"})
            return _model(config, tensors_in(self._weights())), None, pixels

    def _side(self, usual: int) -> int:
        """The side of the images that the positions in the weights are of."""
        size = self._of("pretrained_cfg").get("input_size") or self.settings.get("input_size") or [3, usual, usual]
        if not isinstance(size, list) or len(size) != 3 or size[0] != 3 or size[1] != size[2]:
            raise InputError(f"input_size is {size!r}; expected [3, S, S]")
        return int(size[1])

    def _of(self, name: str) -> Mapping[str, Any]:
        part = self.settings.get(name) or {}
        if not isinstance(part, Mapping):
            raise InputError(f"config.json has {name} {part!r}; expected settings by their names")
        return part

    def _weights(self) -> Path:
        return self.files.weights(WEIGHTS, "timm's")


def _whole(given: Mapping[str, Any], name: str, usual: int) -> int:
    """One of timm's arguments that is a whole number.

    Raises:
        InputError: It is none.
    """
    value = given.get(name) or usual
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != int(value) or value < 1:
        raise InputError(f"config.json has {name} {value!r} in model_args; expected a whole number")
    return int(value)


def timm_files(model: str) -> CheckpointFiles | None:
    """The repository that ``timm:NAME`` means; None for any other name."""
    if not model.startswith(PREFIX):
        return None
    return CheckpointFiles(model, f"timm/{model.removeprefix(PREFIX)}", on_hub=True)


def _model(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Any:
    """The model of transformers with timm's tensors.

    Raises:
        InputError: They are not the tensors that the configuration needs.
    """
    model = empty_model(config)
    expected = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    turned: dict[str, Tensor] = {}
    unknown = []
    for name, tensor in tensors.items():
        if name.startswith("head."):
            continue
        parts = _renamed(name, tensor.detach().to("cpu", torch.float32), config["model_type"])
        turned |= parts
        if not parts:
            unknown.append(name)
    # What transformers' model has and timm's computes without adds nothing to what it says.
    positions = "embeddings.position_embeddings"
    if positions in turned and "embeddings.register_tokens" in expected:  # timm has that of the class token within it
        turned[positions] = torch.nn.functional.pad(turned[positions], (0, 0, 1, 0))
    if "embeddings.mask_token" in expected:  # of pre-training
        turned["embeddings.mask_token"] = torch.zeros(expected["embeddings.mask_token"])
    refuse_others(turned, expected, unknown)
    model.load_state_dict({name: turned[name].contiguous() for name in expected}, assign=True)
    return model


def _renamed(name: str, value: Tensor, kind: str) -> dict[str, Tensor]:
    """One tensor under its new name, that of queries, keys and values as three; empty where the name is unknown."""
    layout = FAMILIES[kind].vision
    module, _, field = name.rpartition(".")
    if name in _EMBEDDINGS:
        return {f"embeddings.{_EMBEDDINGS[name]}": value}
    if module in ("patch_embed.proj", "norm"):
        place = "embeddings.patch_embeddings.projection" if module == "patch_embed.proj" else layout.after[-1]
        return {f"{place}.{field}": value}
    block = re.fullmatch(r"blocks\.(\d+)\.(.+)", module)
    if block is None:
        return {}
    layer, inside, parts = f"{layout.blocks}.{block[1]}", block[2], layout.block
    if inside == "attn.qkv" and len(value) % 3 == 0:
        places = (parts.query, parts.key, parts.value)
        return {f"{layer}.{each}.{field}": part for each, part in zip(places, value.chunk(3), strict=True)}
    places_of = {"norm1": parts.attention_norm, "norm2": parts.mlp_norm, "attn.proj": parts.out}
    places_of |= {"mlp.fc1": parts.first, "mlp.fc2": parts.second}
    places_of |= {"ls1": parts.attention_gain, "ls2": parts.mlp_gain}
    place = places_of.get(inside, "")
    return {f"{layer}.{place}.{'lambda1' if field == 'gamma' else field}": value} if place else {}


_EMBEDDINGS = {"cls_token": "cls_token", "pos_embed": "position_embeddings", "reg_token": "register_tokens"}
