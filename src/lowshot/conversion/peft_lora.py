"""LoRA and DoRA adapters that PEFT saved (``PeftModel.save_pretrained``), read without trusting them.

A layer's update is alpha / r * B A, or alpha / sqrt(r) * B A with ``use_rslora``; r and alpha may differ from layer to
layer. What else PEFT's configuration can say is refused by name, since lowshot's adapters have no place for it.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from peft.utils.other import get_pattern_key
from torch import Tensor

from ..adapters.adapter import CONFIG_FILE
from ..errors import AdapterError, InputError
from ..files import read_json_object
from ..tensor_file import TENSORS_FILE, read_file

NAME = "PEFT"
_LARGEST_BYTES = 4 << 30
_PREFIX = "base_model.model."
_PARTS = re.compile(r"(?P<module>.+)\.(?P<part>lora_A|lora_B|lora_magnitude_vector)(\.weight)?")
_EXPRESSIBLE: Mapping[str, tuple[Any, ...]] = {
    "bias": ("none",),
    "init_lora_weights": (True, False, "gaussian", "orthogonal", "eva"),  # others change the weights of the base
    **dict.fromkeys(
        (
            *("alora_invocation_tokens", "arrow_config", "fan_in_fan_out", "kasa_config", "layer_replication"),
            *("lora_bias", "modules_to_save", "monteclora_config", "target_parameters", "trainable_token_indices"),
            *("use_bdlora", "use_qalora"),
        ),
        (None, False, [], {}),
    ),
}
"""Key of a configuration -> the values that lowshot's adapters can be."""
MERGE = "merge it into its model with PEFT (merge_and_unload, then save_pretrained), and take that for --model"


@dataclasses.dataclass(frozen=True)
class PeftLora:
    """One saved adapter."""

    base: str
    """The backbone that the folder names; empty where it names none."""
    alpha: float
    is_rank_stabilised: bool
    """Whether alpha is divided by the square root of the rank."""
    is_dora: bool
    layers: Mapping[str, Mapping[str, Tensor]]
    """Name of a linear layer -> ``lora_A`` ``(r, I)``, ``lora_B`` ``(O, r)`` and DoRA's ``lora_magnitude_vector``
    ``(O,)``, float32. B has what a layer's own alpha or rank makes of the scaling of ``rank`` and ``alpha``."""

    @property
    def rank(self) -> int:
        """The largest of all layers."""
        return max(len(parts["lora_A"]) for parts in self.layers.values())


def read_peft_lora(folder: Path) -> PeftLora:
    """Read a folder, refusing whatever is not a LoRA or DoRA adapter that lowshot's can be.

    Raises:
        AdapterError: A file is missing or damaged, or the adapter is another.
    """
    config = _config(folder)
    tensors, _ = read_file(folder / TENSORS_FILE, _LARGEST_BYTES, f"at most {_LARGEST_BYTES:,}")
    layers: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        part = _PARTS.fullmatch(name.removeprefix(_PREFIX))
        if part is None or not name.startswith(_PREFIX):
            raise AdapterError(f"adapter file {folder / TENSORS_FILE} has {name}, which is no part of LoRA; {MERGE}")
        if not tensor.is_floating_point() or not torch.isfinite(tensor).all():
            raise AdapterError(f"adapter file {folder / TENSORS_FILE}: {name} holds values that are no finite numbers")
        layers.setdefault(part["module"], {})[part["part"]] = tensor.float()
    is_dora, stabilised, alpha = bool(config.get("use_dora")), bool(config.get("use_rslora")), config["lora_alpha"]
    expected = {"lora_A", "lora_B", *(["lora_magnitude_vector"] if is_dora else [])}
    for module, parts in layers.items():
        is_whole = set(parts) == expected and parts["lora_A"].ndim == parts["lora_B"].ndim == 2
        if not is_whole or not 0 < parts["lora_A"].shape[0] == parts["lora_B"].shape[1]:
            shapes = {part: tuple(tensor.shape) for part, tensor in sorted(parts.items())}
            raise AdapterError(
                f"adapter file {folder / TENSORS_FILE}: {module} has {shapes}; expected {sorted(expected)}"
            )
    if not layers:
        raise AdapterError(f"adapter file {folder / TENSORS_FILE} adapts no layer")
    saved = PeftLora(str(config.get("base_model_name_or_path") or ""), float(alpha), stabilised, is_dora, layers)
    return dataclasses.replace(saved, layers=_of_one_scaling(saved, config.get("alpha_pattern") or {}))


def _of_one_scaling(saved: PeftLora, alphas: Mapping[str, float]) -> dict[str, dict[str, Tensor]]:
    """The layers with factors of the largest rank, filled up with zeros, and B times what their own scaling is more."""

    def scaling(alpha: float, rank: int) -> float:
        return alpha / (math.sqrt(rank) if saved.is_rank_stabilised else rank)

    layers = {}
    for module, parts in saved.layers.items():
        (rank, inputs), outputs = parts["lora_A"].shape, parts["lora_B"].shape[0]
        own = scaling(alphas.get(get_pattern_key(list(alphas), module), saved.alpha), rank)
        a, b = torch.zeros(saved.rank, inputs), torch.zeros(outputs, saved.rank)
        a[:rank], b[:, :rank] = parts["lora_A"], parts["lora_B"] * (own / scaling(saved.alpha, saved.rank))
        layers[module] = {**parts, "lora_A": a, "lora_B": b}
    return layers


def _config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG_FILE
    try:
        config = read_json_object(path)
    except FileNotFoundError:
        raise AdapterError(
            f"folder {folder} has no {CONFIG_FILE}; expected what PEFT's save_pretrained writes, or a .pt file of "
            "CLIP-LoRA's"
        ) from None
    except InputError as error:
        raise AdapterError(f"adapter {error}") from None
    kind = config.get("peft_type")
    if kind != "LORA":
        raise AdapterError(f"adapter {folder} is of PEFT's type {kind!r}; expected 'LORA': {MERGE}")
    known = {field.name for field in dataclasses.fields(LoraConfig)}
    for key, value in sorted(config.items()):
        if (key in _EXPRESSIBLE and value not in _EXPRESSIBLE[key]) or (key not in known and value):
            raise AdapterError(f"adapter {folder} has {key} = {value!r}, which lowshot's adapters cannot be; {MERGE}")
    alpha: Any = config.get("lora_alpha")
    if not _is_finite(alpha) or alpha <= 0:
        raise AdapterError(f"adapter file {path} has lora_alpha = {alpha!r}; expected a number above 0")
    pattern: Any = config.get("alpha_pattern") or {}
    if not isinstance(pattern, dict) or not all(_is_expression(key) and _is_finite(pattern[key]) for key in pattern):
        raise AdapterError(
            f"adapter file {path} has alpha_pattern = {pattern!r}; expected numbers by regular expressions"
        )
    return config


def _is_finite(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]


def _is_expression(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True
