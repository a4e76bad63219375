"""open_clip's configuration of a model as transformers' configuration of a CLIP, where that is the same function."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ...errors import InputError
from .. import mobileclip, pe_core

Section = Mapping[str, Any]
MOST_LAYERS = 1_000
"""Of a tower: more are a damaged configuration, and building them would take for ever."""
_TEXT_DEFAULTS = {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12, "mlp_ratio": 4.0}
_VISION_DEFAULTS = {"image_size": 224, "patch_size": 16, "width": 768, "head_width": 64, "layers": 12, "mlp_ratio": 4.0}
_OWN: dict[str, Any] = {"pe_core": pe_core, "mobileclip": mobileclip}
"""``model_type`` -> the file of a kind that transformers has not, by timm's names of its image towers."""
_OF_BLOCKS: dict[str, tuple[tuple[Any, ...], str]] = {
    "block_type": ((None, "default", "custom"), "blocks of type {}"),
    "qk_norm": ((False,), "blocks with norms of queries and keys"),
    "scaled_cosine_attn": ((False,), "blocks with cosine attention"),
    "scale_heads": ((False,), "blocks with scaled heads"),
    "scale_attn_inner": ((False,), "blocks with a norm inside attention"),
    "scale_attn": ((False,), "blocks with a norm after attention"),
    "scale_fc": ((False,), "blocks with a norm inside the MLP"),
}
_VISION_LIMITS: dict[str, tuple[tuple[Any, ...], str]] = {
    "attentional_pool": ((False, None), "an image tower that pools by attention"),
    "no_ln_pre": ((False,), "an image tower without a norm before its blocks"),
    "pool_type": (("tok",), "an image tower that pools by {}, not at its class token"),
    "pos_embed_type": (("learnable", "sin_cos_2d"), "position embeddings of type {}"),
    **_OF_BLOCKS,
}
_TEXT_LIMITS: dict[str, tuple[tuple[Any, ...], str]] = {
    "hf_model_name": ((None, ""), "the text tower {} of transformers"),
    "embed_cls": ((False,), "a class token at the end of prompts"),
    "pool_type": (("argmax", "eos"), "a text tower that pools by {}, not at the end of the text"),
    "proj_type": (("linear", "none"), "a text projection of type {}"),
    "proj_bias": ((False,), "a text projection with a bias"),
    **_OF_BLOCKS,
}
"""By setting: the values that a CLIP of transformers has, and what it has not with any other."""
_SHARED = {"ls_init_value", "act_kwargs", "norm_kwargs", "output_tokens"}
_KNOWN = {
    "vision_cfg": {*_VISION_DEFAULTS, *_VISION_LIMITS, *_SHARED, "patch_dropout", "final_ln_after_pool"}
    | {
        "attn_pooler_queries",
        "attn_pooler_heads",
        "timm_model_name",
        "timm_model_pretrained",
        "timm_pool",
        "timm_proj",
        "timm_proj_bias",
    }
    | {"timm_drop", "timm_drop_path"},
    "text_cfg": {*_TEXT_DEFAULTS, *_TEXT_LIMITS, *_SHARED, "pad_id", "eos_id", "no_causal_mask", "final_ln_after_pool"}
    | {"hf_tokenizer_name", "tokenizer_mode", "tokenizer_kwargs"}
    | {"hf_model_pretrained", "hf_proj_type", "hf_pooler_type", "hf_model_config"},
    "model_cfg": {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu", "custom_text", "multimodal_cfg"}
    | {"init_logit_scale", "init_logit_bias", "nonscalar_logit_scale"},
}
"""Settings of open_clip 3.3.0: one that is not among them may change what is computed."""


def shortfalls(config: Section) -> list[str]:
    """Parts of a model of this configuration that a CLIP of transformers has not; empty where nothing is missing.

    Args:
        config: open_clip's ``model_cfg``.

    Raises:
        InputError: It is damaged.
    """
    vision, text = _section(config, "vision_cfg"), _section(config, "text_cfg")
    needs = []
    if "multimodal_cfg" in config:
        needs.append("a decoder of captions (CoCa)")
    if config.get("init_logit_bias") is not None:
        needs.append("a bias of its scores (init_logit_bias)")
    kind = _kind(config)
    needs += _of_image_tower(vision, kind)
    if text.get("no_causal_mask", False) is not (kind == "mobileclip"):
        needs.append(
            f"a text tower in which a token sees {'only those before' if kind == 'mobileclip' else 'those after'} it"
        )
    for section, limits in ((vision, _VISION_LIMITS), (text, _TEXT_LIMITS)):
        for setting, (allowed, need) in limits.items():
            value = section.get(setting, allowed[0])
            if value not in allowed:
                needs.append(need.format(value))
    if _reads_at_token_2(text) and kind != "metaclip_2":
        needs.append(f"a text tower that reads at token 2 beside timm's image tower {vision['timm_model_name']}")
    sides = (vision.get(name) for name in ("image_size", "patch_size"))
    oblong = [side for side in sides if isinstance(side, list) and len({*map(str, side)}) > 1]
    needs += [f"square images and patches, not {side}" for side in oblong]
    for name, section in (("model_cfg", config), ("vision_cfg", vision), ("text_cfg", text)):
        needs += [f"{setting}, which open_clip 3.3.0 does not know" for setting in sorted({*section} - _KNOWN[name])]
    return needs


def _of_image_tower(vision: Section, kind: str) -> list[str]:
    if isinstance(vision.get("layers"), list):
        return ["a ResNet as its image tower"]
    tower = f"timm's image tower {vision.get('timm_model_name')}"
    if kind not in _OWN:
        return [tower] if vision.get("timm_model_name") else []
    needs, own = [], _OWN[kind]
    if vision.get("timm_pool") != own.POOL:
        needs.append(f"{tower} that pools by {vision.get('timm_pool')!r}, not by {own.POOL!r}")
    if vision.get("timm_proj"):
        needs.append(f"{tower} with a projection of type {vision['timm_proj']!r}")
    return [*needs, *own.shortfalls(vision)]


def _kind(config: Section) -> str:
    """The ``model_type`` of what a configuration is of."""
    of_timm = config["vision_cfg"].get("timm_model_name")
    for kind, own in _OWN.items():
        if isinstance(of_timm, str) and of_timm in own.TOWERS:
            return kind
    return "metaclip_2" if _reads_at_token_2(config["text_cfg"]) and not of_timm else "clip"


def _reads_at_token_2(text: Section) -> bool:
    """As MetaCLIP 2 does; in a CLIP of transformers 2 means the largest id of the prompt."""
    return text.get("pool_type") == "eos" and text.get("eos_id", 2) == 2


def clip_config(config: Section) -> dict[str, Any]:
    """The config.json of the same model in transformers format; its ``model_type`` may be lowshot's own.

    Args:
        config: open_clip's ``model_cfg``, of which nothing falls short.

    Raises:
        InputError: It contradicts itself, or a value is of the wrong kind.
    """
    text, vision = _TEXT_DEFAULTS | {**config["text_cfg"]}, _VISION_DEFAULTS | {**config["vision_cfg"]}
    embedding, quick = _whole(config, "embed_dim"), config.get("quick_gelu", False)
    if not isinstance(quick, bool):
        raise InputError(f"quick_gelu is {quick!r}; expected true or false")
    if text.get("proj_type") == "none" and text["width"] != embedding:
        raise InputError(f"proj_type is none, but the text tower is {text['width']} wide and embed_dim is {embedding}")
    kind = _kind(config)
    return {
        "model_type": kind,
        "projection_dim": embedding,
        "vision_config": _OWN[kind].vision_config(vision, embedding)
        if kind in _OWN
        else _vision(vision, embedding, quick),
        "text_config": {
            **_tower(text, _whole(text, "heads"), quick),
            "vocab_size": _whole(text, "vocab_size"),
            "max_position_embeddings": _whole(text, "context_length"),
            "projection_dim": embedding,
            # 2 is how OpenAI's configurations, and transformers by them, say: at the largest id of the prompt.
            "eos_token_id": _whole({"eos_id": 2, **text}, "eos_id") if text.get("pool_type") == "eos" else 2,
        },
    }


def _vision(vision: Section, embedding: int, quick: bool) -> dict[str, Any]:
    heads, remainder = divmod(_whole(vision, "width"), _whole(vision, "head_width"))
    if remainder:
        raise InputError(f"head_width is {vision['head_width']}, which does not divide the width {vision['width']}")
    image, patch = _side(vision, "image_size"), _side(vision, "patch_size")
    if patch > image:
        raise InputError(f"patch_size is {patch} and image_size {image}; expected images of a patch at least")
    return {
        **_tower(vision, heads, quick),
        "image_size": image,
        "patch_size": patch,
        "projection_dim": embedding,
    }


def _tower(section: Section, heads: int, quick: bool) -> dict[str, Any]:
    width, ratio = _whole(section, "width"), section["mlp_ratio"]
    is_number = isinstance(ratio, (int, float)) and not isinstance(ratio, bool) and math.isfinite(ratio)
    if not is_number or int(width * ratio) < 1:
        raise InputError(f"mlp_ratio is {ratio!r}; expected a number such as 4.0")
    if width % heads:
        raise InputError(f"heads is {heads}, which does not divide the width {width}")
    norm = section.get("norm_kwargs") or {"eps": 1e-5}
    epsilon = norm.get("eps") if isinstance(norm, Mapping) and len(norm) == 1 else None
    if not isinstance(epsilon, float) or not 0 < epsilon < 1:
        raise InputError(f'norm_kwargs is {norm!r}; expected {{"eps": NUMBER}}')
    return {
        "hidden_size": width,
        "intermediate_size": int(width * ratio),
        "num_hidden_layers": _whole(section, "layers", MOST_LAYERS),
        "num_attention_heads": heads,
        "hidden_act": _activation(section.get("act_kwargs"), quick),
        "layer_norm_eps": epsilon,
    }


def _activation(options: Any, quick: bool) -> str:
    """The name that transformers gives a tower's activation."""
    if not options:
        return "quick_gelu" if quick else "gelu"
    if quick or options not in ({"approximate": "tanh"}, {"approximate": "none"}):
        raise InputError(f"act_kwargs is {options!r} with quick_gelu {quick}; expected none with quick_gelu")
    return "gelu_pytorch_tanh" if options["approximate"] == "tanh" else "gelu"


def _section(config: Section, name: str) -> Section:
    section = config.get(name)
    if not isinstance(section, Mapping):
        raise InputError(f"{name} is {section!r}; expected settings of a tower")
    return section


def _whole(section: Section, name: str, most: float = math.inf) -> int:
    value = section.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        limit = "" if most == math.inf else f" to {most:,}"
        raise InputError(f"{name} is {value!r}; expected a whole number from 1{limit}")
    return value


def _side(vision: Section, name: str) -> int:
    value = vision[name]
    return _whole({name: value[0] if isinstance(value, list) and value else value}, name)
