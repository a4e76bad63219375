"""What lets an adapter that holds R alone find its basis again, or notice that this is not the one.

Beside R an adapter keeps, for each layer, its singular values, the anchors of its signs and a few probes: scalars that
depend on every left and right vector. Loading compares them with the basis at hand. A sign that came out otherwise is
carried over into R; anything else that differs is refused. Where singular values are as good as equal their vectors
are not determined by the weight at all: that layer's factors are stored in full.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ...errors import AdapterError
from .basis import BASIS_VERSION, Basis
from .layer import LoraXsMixin

BASIS_FILE = "lora_xs_basis.safetensors"
PROBES = 4
TOLERANCE = 1e-2
"""Largest accepted difference of a probe, and of a singular value as a share of the largest.

Recomputed elsewhere from the same weights they differ by 1e-5 at most, from weights rounded to bfloat16 by less than
1e-2 as a rule; a flipped pair moves a probe by about 0.2 and quantised weights move it by 0.05 to 1.
"""


def probes(basis: Basis) -> Tensor:
    """Scalars ``(PROBES,)``, float32, of order 0.3, that change with any vector or sign: a^T U M diag(S/s1) V^T b / r.

    a, b and M are cosines of plain multiples, so that they are the same on every machine.
    """
    rank, outputs = basis.left.shape
    scale = basis.singular_values[0].clamp_min(torch.finfo(torch.float64).tiny)
    rows = []
    for index in range(PROBES):
        a, b = (_waves(size, 1.0 + index) for size in (outputs, basis.right.shape[1]))
        m = _waves(rank * rank, 2.5 + index).view(rank, rank)
        rows.append((basis.left.cpu().double() @ a) @ m @ (basis.right.cpu().double() @ b / scale) / rank)
    return torch.stack(rows).float()


def _waves(count: int, phase: float) -> Tensor:
    return torch.cos(phase * (1.0 + torch.arange(count, dtype=torch.float64) * 2.399963))  # the golden angle


def layers_of(model: nn.Module) -> list[tuple[str, LoraXsMixin]]:
    """The LoRA-XS layers of a model by name, in alphabetical order."""
    return sorted((name, layer) for name, layer in model.named_modules() if isinstance(layer, LoraXsMixin))


def basis_facts(model: nn.Module, adapter: str = "default") -> bytes:
    """The content of ``BASIS_FILE``: facts of all layers in alphabetical order, factors of degenerate ones."""
    bases = {name: layer.basis(layer.r[adapter]) for name, layer in layers_of(model)}
    tensors = {
        # Halves of the normal float32 are enough to tell weights apart, and keep the adapter small.
        "singular_values": torch.stack([b.singular_values[: b.rank] for b in bases.values()]).half(),
        "anchors": torch.stack([b.anchors for b in bases.values()]).to(torch.int32),
        "probes": torch.stack([probes(b) for b in bases.values()]),
    }
    for index, basis in enumerate(bases.values()):
        if basis.is_degenerate():
            tensors[f"left.{index}"] = basis.left.cpu().contiguous()
            tensors[f"right.{index}"] = basis.right.cpu().contiguous()
    return bytes(save(tensors, metadata={"basis_version": str(BASIS_VERSION)}))


def restore_basis(model: nn.Module, path: Path, adapter: str = "default") -> None:
    """Bring a loaded adapter and the bases of the model it was loaded into together, in place.

    Args:
        model: The model with the adapter, whose R has just been filled.
        path: Its ``BASIS_FILE``.
        adapter: The adapter's name.

    Raises:
        AdapterError: The file is missing or damaged, or a layer's basis is another one; the message names the layer.
    """
    layers = layers_of(model)
    facts = _read(path, len(layers))
    for index, (name, layer) in enumerate(layers):
        basis = layer.basis(layer.r[adapter])
        _refuse_other_values(path, name, basis, facts["singular_values"][index])
        if f"left.{index}" in facts:
            _use_stored_factors(path, name, layer, facts, index, adapter)
        else:
            signs = _signs(path, name, basis, facts["anchors"][index].long())
            _refuse_other_vectors(path, name, basis, signs, facts["probes"][index])
            _carry_over(layer.lora_B[adapter].R, signs)


def _read(path: Path, layers: int) -> dict[str, Tensor]:
    try:
        with safe_open(os.fspath(path), framework="pt") as file:
            version = (file.metadata() or {}).get("basis_version")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except FileNotFoundError:
        raise AdapterError(f"adapter {path.parent} is incomplete: {path.name} is missing") from None
    except (OSError, SafetensorError) as error:
        raise AdapterError(f"adapter file {path} is damaged: {error}") from None
    if version != str(BASIS_VERSION):
        raise AdapterError(f"adapter file {path} has basis version {version}; this lowshot reads {BASIS_VERSION}")
    for name in ("singular_values", "anchors", "probes"):
        if name not in tensors or len(tensors[name]) != layers:
            raise AdapterError(f"adapter file {path} is damaged: it lacks {name} of {layers} layers")
    return tensors


def _refuse_other_values(path: Path, name: str, basis: Basis, stored: Tensor) -> None:
    values = basis.singular_values[: basis.rank]
    if stored.shape != values.shape or not torch.isfinite(stored).all():
        raise AdapterError(f"adapter file {path} is damaged: {name} has {len(stored)} singular values")
    apart = float((stored.double() - values).abs().max() / values[0].clamp_min(1e-30))
    if not apart <= TOLERANCE:
        raise _another_basis(path, name, f"its singular values are {apart:.1%} of the largest apart")


def _signs(path: Path, name: str, basis: Basis, anchors: Tensor) -> Tensor:
    """+1 or -1 for each vector: whether it has the sign it had where the adapter was trained."""
    if anchors.shape != (basis.rank,) or anchors.min() < 0 or anchors.max() >= basis.left.shape[1]:
        raise AdapterError(f"adapter file {path} is damaged: the anchors of {name} are no entries of its vectors")
    return torch.where(basis.left.cpu().gather(1, anchors[:, None])[:, 0] < 0, -1.0, 1.0)


def _refuse_other_vectors(path: Path, name: str, basis: Basis, signs: Tensor, stored: Tensor) -> None:
    turned = Basis(
        signs[:, None] * basis.left.cpu(), signs[:, None] * basis.right.cpu(), basis.singular_values, basis.anchors
    )
    apart = float((probes(turned) - stored).abs().max())
    if not apart <= TOLERANCE:
        raise _another_basis(path, name, f"its probes are {apart:.3f} apart, {TOLERANCE:g} at most were expected")


def _another_basis(path: Path, name: str, why: str) -> AdapterError:
    module = name.removeprefix("base_model.model.")
    return AdapterError(
        f"adapter {path.parent} was trained in another basis: {module} has other singular vectors here ({why}); "
        "load it with the model it was trained on"
    )


@torch.no_grad()
def _carry_over(r: nn.Parameter, signs: Tensor) -> None:
    """U D and V D instead of U and V are the same update with D R D instead of R."""
    turn = signs.to(r.device, r.dtype)
    r.copy_(turn[:, None] * r * turn[None, :])


def _use_stored_factors(
    path: Path, name: str, layer: Any, facts: Mapping[str, Tensor], index: int, adapter: str
) -> None:
    """A degenerate layer gets the factors it was trained with; other adapters of that layer keep theirs."""
    here = layer.basis(layer.r[adapter])
    left, right = facts.get(f"left.{index}"), facts.get(f"right.{index}")
    if left is None or right is None or left.shape != here.left.shape or right.shape != here.right.shape:
        raise AdapterError(f"adapter file {path} is damaged: the stored factors of {name} do not fit")
    stored = Basis(left.float(), right.float(), here.singular_values, here.anchors)
    apart = float((probes(stored) - facts["probes"][index]).abs().max())
    if not apart <= TOLERANCE:
        raise AdapterError(f"adapter file {path} is damaged: the stored factors of {name} are not those it was made of")
    moved = stored.to(here.left.device)
    layer.lora_A[adapter].weight = moved.right
    layer.lora_B[adapter].u = moved.left.T
