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
from ..methods import PROJECTIONS
from ..models import Backbone
from ..settings import TOWERS
from ..tensor_file import TENSORS_FILE, read_file

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

    format = "PEFT"
    file: Path
    """Of its tensors."""
    base: str
    """The backbone that the folder names; empty where it names none."""
    alpha: float
    alphas: Mapping[str, float]
    """PEFT's expression for the names of layers -> their alpha, where they have another."""
    is_rank_stabilised: bool
    """Whether alpha is divided by the square root of the rank."""
    is_dora: bool
    layers: Mapping[str, Mapping[str, Tensor]]
    """Name of a linear layer -> ``lora_A`` ``(r, I)``, ``lora_B`` ``(O, r)`` and DoRA's ``lora_magnitude_vector``
    ``(O,)``, float32."""

    @property
    def rank(self) -> int:
        """The largest of all layers."""
        return max(len(parts["lora_A"]) for parts in self.layers.values())

    def settings(self, backbone: Backbone) -> dict[str, Any]:
        """The recipe's settings of the smallest place in a backbone that has all layers of the adapter.

        Raises:
            AdapterError: It adapts something that lowshot has no adapter for, or that the backbone has not.
        """
        places = {
            backbone.module_name(tower, layer, projection): (tower, layer, projection)
            for tower in TOWERS
            for layer in range(backbone.depths[tower])
            for projection in PROJECTIONS
        }
        if strange := sorted(self.layers.keys() - places.keys()):
            raise AdapterError(
                f"adapter {self.file.parent} adapts {strange[0]}; in {backbone.identity.id} lowshot adapts the linear "
                f"layers of transformer blocks, such as {next(iter(places))}: {MERGE}"
            )
        adapted = [places[name] for name in self.layers]
        towers, numbers, projections = map(set, zip(*adapted, strict=True))
        depths = [backbone.depths[tower] for tower in towers]
        is_whole = len({(tower, layer) for tower, layer, _ in adapted}) == sum(depths)
        return {
            "method": "dora" if self.is_dora else "lora",
            "rank": self.rank,
            "alpha": self.alpha,
            "scaling": "sqrt-rank" if self.is_rank_stabilised else "rank",
            "encoder": "both" if len(towers) == len(TOWERS) else min(towers),
            "projections": tuple(projection for projection in PROJECTIONS if projection in projections),
            "position": "all" if is_whole or max(numbers) >= min(depths) else ",".join(map(str, sorted(numbers))),
        }

    def factors(self, backbone: Backbone) -> dict[str, dict[str, Tensor]]:  # noqa: ARG002 - it names its layers itself
        """The layers with factors of the largest rank, filled up with zeros.

        B is multiplied by the ratio of the layer's own scaling to that of ``rank`` and ``alpha``.
        """

        def scaling(alpha: float, rank: int) -> float:
            return alpha / (math.sqrt(rank) if self.is_rank_stabilised else rank)

        layers = {}
        for module, parts in self.layers.items():
            (rank, inputs), outputs = parts["lora_A"].shape, parts["lora_B"].shape[0]
            own = scaling(self.alphas.get(get_pattern_key(list(self.alphas), module), self.alpha), rank)
            a, b = torch.zeros(self.rank, inputs), torch.zeros(outputs, self.rank)
            a[:rank], b[:, :rank] = parts["lora_A"], parts["lora_B"] * (own / scaling(self.alpha, self.rank))
            layers[module] = {**parts, "lora_A": a, "lora_B": b}
        return layers


def read_peft_lora(folder: Path) -> PeftLora:
    """Read a folder, refusing whatever is not a LoRA or DoRA adapter that lowshot's can be.

    Raises:
        AdapterError: A file is missing or damaged, or the adapter is another.
    """
    config, file = _config(folder), folder / TENSORS_FILE
    tensors, _ = read_file(file, _LARGEST_BYTES, f"at most {_LARGEST_BYTES:,}")
    layers: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        part = _PARTS.fullmatch(name.removeprefix(_PREFIX))
        if part is None or not name.startswith(_PREFIX):
            raise AdapterError(f"adapter file {file} has {name}, which is no part of LoRA; {MERGE}")
        if not tensor.is_floating_point() or not torch.isfinite(tensor).all():
            raise AdapterError(f"adapter file {file}: {name} holds values that are no finite numbers")
        layers.setdefault(part["module"], {})[part["part"]] = tensor.float()
    is_dora = bool(config.get("use_dora"))
    expected = {"lora_A", "lora_B", *(["lora_magnitude_vector"] if is_dora else [])}
    for module, parts in layers.items():
        is_whole = set(parts) == expected and parts["lora_A"].ndim == parts["lora_B"].ndim == 2
        if not is_whole or not 0 < parts["lora_A"].shape[0] == parts["lora_B"].shape[1]:
            shapes = {part: tuple(tensor.shape) for part, tensor in sorted(parts.items())}
            raise AdapterError(f"adapter file {file}: {module} has {shapes}; expected {sorted(expected)}")
    if not layers:
        raise AdapterError(f"adapter file {file} adapts no layer")
    return PeftLora(
        file=file,
        base=str(config.get("base_model_name_or_path") or ""),
        alpha=float(config["lora_alpha"]),
        alphas=config.get("alpha_pattern") or {},
        is_rank_stabilised=bool(config.get("use_rslora")),
        is_dora=is_dora,
        layers=layers,
    )


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
    try:
        fits = all(re.compile(key) and _is_finite(value) for key, value in pattern.items())
    except (AttributeError, re.error):  # no object, or no expressions
        fits = False
    if not fits:
        raise AdapterError(
            f"adapter file {path} has alpha_pattern = {pattern!r}; expected numbers by regular expressions"
        )
    return config


def _is_finite(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]
