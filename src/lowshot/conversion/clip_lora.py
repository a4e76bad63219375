"""CLIP-LoRA's saved adapters (arXiv 2405.18541; ``loralib/utils.py`` of its code), read without trusting them.

The file is a pickle of ``{"weights": {"layer_0": {"q_proj": {"w_lora_A": (r, I), "w_lora_B": (O, r)}, ...}, ...},
"metadata": {"r", "alpha", "encoder", "params", "position"}}``. Layers are numbered as they were adapted: those of the
text tower at the position, then those of the vision tower. The update is alpha / sqrt(r) * B A.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from ..adapters import layers_at
from ..errors import AdapterError, first_line
from ..models import Backbone
from ..settings import POSITIONS, TOWERS, Projection, Tower

_MODULES: dict[Projection, str] = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "o": "proj"}
_METADATA = {"r", "alpha", "encoder", "params", "position"}
_FACTORS = {"w_lora_A", "w_lora_B"}
_LARGEST_BYTES = 1 << 30  # rank 64 on every projection of ViT-L/14 is 60 MB


@dataclasses.dataclass(frozen=True)
class ClipLora:
    """One saved adapter."""

    format = "CLIP-LoRA"
    file: Path
    rank: int
    alpha: float
    encoder: str
    """``text``, ``vision`` or ``both``."""
    projections: tuple[Projection, ...]
    position: str
    layers: tuple[Mapping[Projection, tuple[Tensor, Tensor]], ...]
    """A ``(r, I)`` and B ``(O, r)``, float32, of each projection, by layer: text tower first."""

    def settings(self, backbone: Backbone) -> dict[str, Any]:
        """The recipe's settings of this adapter on a backbone.

        Raises:
            AdapterError: As ``layers_in``.
        """
        layers, position = self.layers_in(backbone), self.position
        named = {tower: layers_at(position, backbone.depths[tower]) for tower in layers}
        if named != layers and len(set(layers.values())) == 1:  # else the name has more layers, whose update is zero
            position = ",".join(map(str, next(iter(layers.values()))))
        return {
            "method": "lora",
            "rank": self.rank,
            "alpha": self.alpha,
            "scaling": "sqrt-rank",
            "encoder": self.encoder,
            "projections": self.projections,
            "position": position,
        }

    def factors(self, backbone: Backbone) -> dict[str, dict[str, Tensor]]:
        """Name of each adapted linear layer of a backbone -> its ``lora_A`` and ``lora_B``.

        Raises:
            AdapterError: As ``layers_in``.
        """
        places = [(tower, layer) for tower, chosen in self.layers_in(backbone).items() for layer in chosen]
        return {
            backbone.module_name(*place, projection): {"lora_A": a, "lora_B": b}
            for place, pairs in zip(places, self.layers, strict=True)
            for projection, (a, b) in pairs.items()
        }

    def layers_in(self, backbone: Backbone) -> dict[Tower, tuple[int, ...]]:
        """Layers of each tower that the file has, in its order.

        Raises:
            AdapterError: There are more or fewer than the position has in this backbone.
        """
        towers = [tower for tower in TOWERS if self.encoder in ("both", tower)]
        readings = {tower: [layers_at(self.position, backbone.depths[tower])] for tower in towers}
        if backbone.depths["vision"] == 24 and "vision" in towers:
            # CLIP-LoRA lists the layers of ViT-L/14's 24 by hand: ``all`` are the first 21, and other names mean the
            # layers that they mean for a depth of 12. Its ``top3`` does not exist there.
            readings["vision"].append(tuple(range(21)) if self.position == "all" else layers_at(self.position, 12))
        for reading in itertools.product(*readings.values()):
            if sum(map(len, reading)) == len(self.layers):
                return dict(zip(towers, reading, strict=True))
        expected = " and ".join(f"{len(options[0])} of the {tower} tower" for tower, options in readings.items())
        raise AdapterError(
            f"file {self.file} has {len(self.layers)} layers, but {backbone.identity.id} has {expected} at position "
            f"{self.position}; give the backbone it was trained on with --model"
        )


def read_clip_lora(path: Path) -> ClipLora:
    """Read a file, refusing whatever is not exactly this format.

    Raises:
        AdapterError: The file is missing, damaged, something else, or an adapter of CLIP-LoRA-XS.
    """
    content = _object(path, "the file", _load(path), {"weights", "metadata"})
    metadata = _object(path, "metadata", content["metadata"], _METADATA)
    rank, alpha, params = metadata["r"], metadata["alpha"], metadata["params"]
    if type(rank) is not int or rank < 1:
        raise _not_this(path, f"r is {rank!r}; expected a whole number of 1 or more")
    if type(alpha) not in (int, float) or not (math.isfinite(alpha) and alpha > 0):
        raise _not_this(path, f"alpha is {alpha!r}; expected a number above 0")
    texts = isinstance(params, list | tuple) and bool(params) and all(isinstance(p, str) for p in params)
    if not texts or not set(params) <= set(_MODULES) or len(set(params)) != len(params):
        raise _not_this(path, f"params is {params!r}; expected some of {', '.join(_MODULES)}")
    projections = tuple(projection for projection in _MODULES if projection in params)
    weights = content["weights"]
    names = [f"layer_{i}" for i in range(len(weights))] if isinstance(weights, dict) else []
    if not names or set(weights) != set(names):
        raise _not_this(path, f"weights has {_shown(weights)}; expected layer_0, layer_1, ...")
    _refuse_lora_xs(path, weights)
    return ClipLora(
        file=path,
        rank=rank,
        alpha=float(alpha),
        encoder=_choice(path, metadata, "encoder", ("text", "vision", "both")),
        projections=projections,
        position=_choice(path, metadata, "position", POSITIONS),
        layers=tuple(_layer(path, name, weights[name], projections) for name in names),
    )


def _load(path: Path) -> Any:
    if not path.is_file():
        raise AdapterError(f"file {path} {'is a folder' if path.is_dir() else 'does not exist'}; expected a .pt file")
    try:
        size = path.stat().st_size
        if zipfile.is_zipfile(path):  # torch's files are zip archives, and zeros pack well
            with zipfile.ZipFile(path) as archive:
                size = sum(entry.file_size for entry in archive.infolist())
        if size > _LARGEST_BYTES:
            raise AdapterError(f"file {path} holds {size:,} bytes; expected at most {_LARGEST_BYTES:,}")
        # A pickle may name any function to call; weights_only lets nothing through but tensors and plain containers.
        return torch.load(path, weights_only=True, map_location="cpu")
    except AdapterError:
        raise
    except Exception as error:  # truncated, no pickle at all, forbidden names: each fails in its own way
        raise AdapterError(f"file {path} cannot be read as plain tensors: {first_line(error)[:200]}") from None


def _object(path: Path, place: str, value: object, keys: set[str]) -> dict[str, Any]:
    if not isinstance(value, dict) or set(value) != keys:
        raise _not_this(path, f"{place} has {_shown(value)}; expected {', '.join(sorted(keys))}")
    return value


def _choice(path: Path, metadata: dict[str, Any], key: str, expected: tuple[str, ...]) -> str:
    if metadata[key] not in expected:
        raise _not_this(path, f"{key} is {metadata[key]!r}; expected one of {', '.join(expected)}")
    return cast(str, metadata[key])


def _layer(
    path: Path, name: str, layer: object, projections: tuple[Projection, ...]
) -> dict[Projection, tuple[Tensor, Tensor]]:
    modules = _object(path, name, layer, {_MODULES[projection] for projection in projections})
    factors = {}
    for projection in projections:
        module = _MODULES[projection]
        pair = _object(path, f"{name}.{module}", modules[module], _FACTORS)
        for factor in sorted(_FACTORS):
            tensor, place = pair[factor], f"{name}.{module}.{factor}"
            # A tensor that is not contiguous can claim a trillion numbers and hold one.
            dense = isinstance(tensor, Tensor) and tensor.layout == torch.strided and tensor.device.type == "cpu"
            if not dense or not tensor.is_contiguous():
                raise _not_this(path, f"{place} is a {type(tensor).__name__}; expected a dense tensor")
            if tensor.dtype != torch.float32 or tensor.ndim != 2:
                raise _not_this(path, f"{place} is {tuple(tensor.shape)} of {tensor.dtype}; expected a float32 matrix")
            if not torch.isfinite(tensor).all():
                raise AdapterError(f"file {path}: {place} holds values that are not finite; train it again")
        factors[projection] = (pair["w_lora_A"].detach(), pair["w_lora_B"].detach())
    return factors


def _refuse_lora_xs(path: Path, weights: dict[str, Any]) -> None:
    """CLIP-LoRA-XS saves R alone, and q's where k's should be: nobody can restore such an adapter."""
    layers = [layer for layer in weights.values() if isinstance(layer, dict)]
    matrices = [
        {name: m["w_lora_R"] for name, m in layer.items() if isinstance(m, dict) and "w_lora_R" in m}
        for layer in layers
    ]
    if not any(matrices):
        return
    pairs = [(of_layer.get("q_proj"), of_layer.get("k_proj")) for of_layer in matrices]
    lost = all(isinstance(q, Tensor) and isinstance(k, Tensor) and torch.equal(q, k) for q, k in pairs)
    why = (
        "its code writes the matrices of q under the name of k (they are equal in every layer here), so that the "
        "adapter's k matrices were never saved"
        if lost
        else "it holds R alone, and the singular vectors that R belongs to were never saved"
    )
    raise AdapterError(
        f"file {path} is an adapter of CLIP-LoRA-XS, which cannot be restored: {why}; train it again with "
        "lowshot fit --method lora-xs"
    )


def _not_this(path: Path, why: str) -> AdapterError:
    return AdapterError(f"file {path} is not an adapter that {ClipLora.format} saved: {why}")


def _shown(value: object) -> str:
    """A few words on what is there instead."""
    if not isinstance(value, dict):
        return f"a {type(value).__name__}"
    names = [repr(key) if not isinstance(key, str) else key for key in list(value)[:6]]
    more = f", and {len(value) - 6} more" if len(value) > 6 else ""
    return f"the keys {', '.join(names)}{more}" if names else "no keys"
