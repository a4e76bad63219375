"""open_clip's and OpenAI's tensors as those of transformers' CLIP.

What open_clip computes in its own layers beside a CLIP's is folded into them: a layer scale multiplies the rows of the
linear layer before it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...errors import InputError
from ..pe_core import TRUNK, vision_tensors

_BLOCK = re.compile(r"(visual\.|text\.)?transformer\.resblocks\.(\d+)\.(.+)")
_PLAIN = {
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    **{f"visual.ln_pre.{each}": f"vision_model.pre_layrnorm.{each}" for each in ("weight", "bias")},
    **{f"visual.ln_post.{each}": f"vision_model.post_layernorm.{each}" for each in ("weight", "bias")},
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    **{f"ln_final.{each}": f"text_model.final_layer_norm.{each}" for each in ("weight", "bias")},
    "logit_scale": "logit_scale",
}
_TURNED = {"visual.proj": "visual_projection.weight", "text_projection": "text_projection.weight"}
"""Products ``x @ proj`` there, linear layers here."""
_IN_BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_SCALE = ".scale"
_SCALED = {"ls_1.gamma": "self_attn.out_proj", "ls_2.gamma": "mlp.fc2"}
_NOT_WEIGHTS = {"attn_mask", "input_resolution", "context_length", "vocab_size"}
"""Buffers that older checkpoints have beside their weights."""


def state_dict_of(checkpoint: Any) -> dict[str, Tensor]:
    """The tensors of a checkpoint by their names, also of one that training wrote, perhaps by several processes.

    Raises:
        InputError: It holds something else.
    """
    tensors = checkpoint.get("state_dict", checkpoint) if isinstance(checkpoint, Mapping) else checkpoint
    if not isinstance(tensors, Mapping) or not tensors:
        raise InputError(f"it holds a {type(tensors).__name__}; expected tensors by their names")
    for name, value in tensors.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise InputError(f"it holds {name!r}, a {type(value).__name__}; expected tensors by their names alone")
    prefix = "module." if all(name.startswith("module.") for name in tensors) else ""
    return {name.removeprefix(prefix): value for name, value in tensors.items()}


def clip_tensors(
    tensors: Mapping[str, Tensor],
    expected: Mapping[str, tuple[int, ...]],
    of_images: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """The tensors under transformers' names, float32.

    Args:
        tensors: Under open_clip's names, those of the text tower with ``text.`` before them or without.
        expected: What the model has: transformers' name -> shape.
        of_images: Those of the image tower under the model's names, where they have been turned already.

    Raises:
        InputError: One is missing, there is one more, or one is of another shape than the configuration says.
    """
    turned: dict[str, Tensor] = dict(of_images or {})
    unknown = []
    for name, tensor in tensors.items():
        if of_images is not None and name.startswith(TRUNK):
            continue
        if name.removeprefix("text.") in _NOT_WEIGHTS:
            continue
        parts = _renamed(name, tensor.detach().to("cpu", torch.float32))
        turned |= parts
        if not parts:
            unknown.append(name)
    scales = {name: turned.pop(name) for name in [*turned] if name.endswith(_SCALE)}
    refuse_others(turned, expected, unknown)
    for name, scale in scales.items():
        for kind in ("weight", "bias"):
            tensor = turned[f"{name.removesuffix(_SCALE)}.{kind}"]
            if scale.shape != tensor.shape[:1]:
                shapes = tuple(scale.shape), tuple(tensor.shape[:1])
                raise InputError(f"{name} has shape {shapes[0]} in its weights; its configuration needs {shapes[1]}")
            turned[f"{name.removesuffix(_SCALE)}.{kind}"] = tensor * (scale[:, None] if tensor.ndim == 2 else scale)
    return {name: turned[name].contiguous() for name in expected}


def _renamed(name: str, value: Tensor) -> dict[str, Tensor]:
    """One tensor under its new name, that of queries, keys and values as three; empty where the name is unknown."""
    plain = name.removeprefix("text.")
    if plain in _PLAIN:
        return {_PLAIN[plain]: value.reshape(()) if plain == "logit_scale" and value.numel() == 1 else value}
    if plain in _TURNED and value.ndim == 2:
        return {_TURNED[plain]: value.T}
    if of_trunk := vision_tensors(name, value):
        return of_trunk
    block = _BLOCK.fullmatch(name)
    if block is None:
        return {}
    layer, inside = f"{'vision' if block[1] == 'visual.' else 'text'}_model.encoder.layers.{block[2]}", block[3]
    if inside in ("attn.in_proj_weight", "attn.in_proj_bias") and len(value) % 3 == 0:
        kind = inside.removeprefix("attn.in_proj_")
        return {f"{layer}.self_attn.{x}_proj.{kind}": part for x, part in zip("qkv", value.chunk(3), strict=True)}
    if inside in _SCALED:
        return {f"{layer}.{_SCALED[inside]}{_SCALE}": value}
    module, _, kind = inside.rpartition(".")
    return {f"{layer}.{_IN_BLOCK[module]}.{kind}": value} if module in _IN_BLOCK else {}


def refuse_others(turned: dict[str, Tensor], expected: Mapping[str, tuple[int, ...]], unknown: list[str]) -> None:
    """Refuse tensors that are not those of a model.

    Args:
        turned: Under the model's names.
        expected: What the model has: name -> shape.
        unknown: Names for which it has none.

    Raises:
        InputError: One is missing, there is one more, or one is of another shape.
    """
    unknown += sorted({*turned} - {*expected})
    missing = sorted({*expected} - {*turned})
    if missing:
        raise InputError(f"its weights lack {len(missing)} of the model's tensors, such as {missing[0]}")
    if unknown:
        raise InputError(f"its weights have {len(unknown)} tensor(s) that the model has not, such as {min(unknown)}")
    for name, shape in expected.items():
        if tuple(turned[name].shape) != shape:
            raise InputError(
                f"{name} has shape {tuple(turned[name].shape)} in its weights; its configuration needs {shape}"
            )


def openai_config(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The configuration of OpenAI's models, which say it by the shapes of their tensors alone.

    As OpenAI's package does: heads of 64, QuickGELU, everything else read off.

    Raises:
        InputError: They are not the tensors of a ViT of OpenAI's.
    """
    if "visual.layer1.0.conv1.weight" in tensors:
        raise InputError("it is a ResNet of OpenAI's, which transformers' CLIP is not; expected one of its ViT")
    axes = {"visual.conv1.weight": 4, "visual.proj": 2, "visual.positional_embedding": 2, "text_projection": 2}
    for name, count in (axes | {"positional_embedding": 2, "token_embedding.weight": 2}).items():
        if name not in tensors or tensors[name].ndim != count:
            has = f"{name} of shape {tuple(tensors[name].shape)}" if name in tensors else f"no tensor {name}"
            raise InputError(f"it has {has}; expected one of OpenAI's models, or a folder with open_clip_config.json")
    vision_width, _, patch_size, _ = tensors["visual.conv1.weight"].shape
    positions, text_width = len(tensors["visual.positional_embedding"]), tensors["text_projection"].shape[0]
    embedding, side = tensors["text_projection"].shape[1], math.isqrt(max(0, positions - 1))
    if side < 1 or side * side + 1 != positions:
        raise InputError(f"visual.positional_embedding has {positions} rows; expected a square number and one")

    def tower(prefix: str, width: int) -> dict[str, Any]:
        layers = {block[2] for name in tensors if (block := _BLOCK.fullmatch(name)) and (block[1] or "") == prefix}
        inner = tensors.get(f"{prefix}transformer.resblocks.0.mlp.c_fc.bias", torch.empty(4 * width)).numel()
        return {
            "hidden_size": width,
            "intermediate_size": inner,
            "num_hidden_layers": len(layers),
            "num_attention_heads": max(1, width // 64),
            "hidden_act": "quick_gelu",
            "layer_norm_eps": 1e-5,
            "projection_dim": embedding,
        }

    vocabulary, context = len(tensors["token_embedding.weight"]), len(tensors["positional_embedding"])
    return {
        "model_type": "clip",
        "projection_dim": embedding,
        "vision_config": {
            **tower("visual.", vision_width),
            "image_size": patch_size * side,
            "patch_size": patch_size,
        },
        "text_config": {
            **tower("", text_width),
            "vocab_size": vocabulary,
            "max_position_embeddings": context,
            "eos_token_id": 2,
        },
    }
