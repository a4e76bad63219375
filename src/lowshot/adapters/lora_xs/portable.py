"""Facts by which an adapter that holds R alone finds its basis again, or notices that this is not the one.

Beside R an adapter keeps, for each layer, its singular values, the anchors of its signs and one probe of each pair of
vectors. Loading compares them with the basis at hand. A sign that came out otherwise is carried over into R; anything
else that differs is refused. Where singular values are as good as equal their vectors are not determined by the weight
at all: that layer's factors are stored in full.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import AdapterError
from .basis import Basis, read_facts, serialized_facts, waves
from .layer import LoraXsMixin

TOLERANCE = 1e-2
"""Largest accepted difference of a probe, and of a singular value as a share of the largest.

Recomputed elsewhere from the same weights they differ by 1e-5 at most; what is stored is rounded by less than 1e-3. A
flipped or exchanged pair moves its probe by about 1.
"""
_ADAPTER = "default"  # its name in PEFT


def probes(basis: Basis) -> Tensor:
    """One scalar for each pair of vectors, ``(R,)``, float32: a^T u_i + b^T v_i, of order 1.

    a and b are cosines of plain multiples, so that they are the same on every machine.
    """
    outputs, inputs = basis.left.shape[1], basis.right.shape[1]
    left, right = basis.left.cpu().double(), basis.right.cpu().double()
    values = basis.singular_values[: basis.rank, None].clamp_min(torch.finfo(torch.float64).tiny)
    left, right = (left, right / values) if basis.side == "input" else (left / values, right)
    return (left @ waves(outputs, 1.0) + right @ waves(inputs, 2.0)).float()


def layers_of(model: nn.Module) -> list[tuple[str, LoraXsMixin]]:
    """The LoRA-XS layers of a model by name, in alphabetical order."""
    return sorted((name, layer) for name, layer in model.named_modules() if isinstance(layer, LoraXsMixin))


def basis_facts(model: nn.Module) -> bytes:
    """The content of ``BASIS_FILE``: facts of all layers in alphabetical order, factors of degenerate ones."""
    bases = []
    for _, layer in layers_of(model):
        basis = layer.basis(_ADAPTER)
        # The factors that this adapter really uses: stored ones, where it came with them.
        left, right = layer.lora_B[_ADAPTER].u.detach().T, layer.lora_A[_ADAPTER].weight.detach()
        bases.append(dataclasses.replace(basis, left=left, right=right))
    values = torch.stack([basis.singular_values[: basis.rank] for basis in bases])
    largest = values[:, :1].clamp_min(torch.finfo(torch.float64).tiny)
    anchors = torch.stack([basis.anchors for basis in bases])
    tensors = {
        # Small types are enough to tell weights apart and to point at an entry, and keep the adapter small.
        "largest": values[:, 0].float(),
        "shares": (values / largest).half(),
        "anchors": anchors.to(torch.int16 if int(anchors.max()) <= torch.iinfo(torch.int16).max else torch.int32),
        "probes": torch.stack([probes(basis) for basis in bases]).half(),
    }
    for index, basis in enumerate(bases):
        if basis.is_degenerate():
            tensors[f"left.{index}"] = basis.left.cpu().contiguous()
            tensors[f"right.{index}"] = basis.right.cpu().contiguous()
    return serialized_facts(tensors)


@torch.no_grad()
def restore_basis(model: nn.Module, path: Path) -> None:
    """Bring a loaded adapter and the bases of the model it was loaded into together, in place.

    Args:
        model: The model with the adapter, whose R has just been filled.
        path: Its ``BASIS_FILE``.

    Raises:
        AdapterError: The file is missing or damaged, or a layer's basis is another one; the message names the layer.
    """
    layers = layers_of(model)
    facts = read_facts(path)
    _check_shapes(path, facts, [layer.basis(_ADAPTER) for _, layer in layers])
    for index, (name, layer) in enumerate(layers):
        basis = layer.basis(_ADAPTER)
        values = basis.singular_values[: basis.rank]
        stored = facts["shares"][index].double() * facts["largest"][index].double()
        apart = float((stored - values).abs().max() / values[0].clamp_min(1e-30))
        if not apart <= TOLERANCE:
            raise _another_basis(path, name, f"its singular values are {apart:.1%} of the largest apart")
        if f"left.{index}" in facts:
            _use_stored_factors(path, name, layer, facts, index)
        else:
            signs = _signs(path, name, basis, facts["anchors"][index].long(), facts["probes"][index].float())
            # U D and V D instead of U and V are the same update with D R D instead of R.
            r = layer.lora_B[_ADAPTER].R
            turn = signs.to(r.device, r.dtype)
            r.copy_(turn[:, None] * r * turn[None, :])


def _check_shapes(path: Path, tensors: Mapping[str, Tensor], bases: list[Basis]) -> None:
    layers, rank = len(bases), bases[0].rank
    shapes = {"largest": (layers,), **dict.fromkeys(("shares", "anchors", "probes"), (layers, rank))}
    for name in tensors:
        if name.startswith(("left.", "right.")) and name.partition(".")[2] in map(str, range(layers)):
            side, _, index = name.partition(".")
            shapes[name] = tuple(getattr(bases[int(index)], side).shape)
            shapes[f"{'left' if side == 'right' else 'right'}.{index}"] = ()  # never one without the other
    for name in shapes.keys() & tensors.keys():
        if shapes[name] and tuple(tensors[name].shape) != shapes[name]:
            got = tuple(tensors[name].shape)
            raise AdapterError(f"adapter file {path} is damaged: {name} is {got}; expected {shapes[name]}")
    if shapes.keys() != tensors.keys():
        odd = min(shapes.keys() ^ tensors.keys())
        raise AdapterError(f"adapter file {path} is damaged: {odd} is {'missing' if odd in shapes else 'unknown'}")


def _signs(path: Path, name: str, basis: Basis, anchors: Tensor, stored: Tensor) -> Tensor:
    """+1 or -1 for each vector: whether it has the sign it had where the adapter was trained."""
    if anchors.min() < 0 or anchors.max() >= basis.left.shape[1]:
        raise AdapterError(f"adapter file {path} is damaged: the anchors of {name} are no entries of its vectors")
    signs = torch.where(basis.left.cpu().gather(1, anchors[:, None])[:, 0] < 0, -1.0, 1.0)
    turn = signs[:, None]
    turned = dataclasses.replace(basis, left=turn * basis.left.cpu(), right=turn * basis.right.cpu())
    apart = float((probes(turned) - stored).abs().max())
    if not apart <= TOLERANCE:
        raise _another_basis(path, name, f"its probes are {apart:.3f} apart, {TOLERANCE:g} at most were expected")
    return signs


def _another_basis(path: Path, name: str, why: str) -> AdapterError:
    module = name.removeprefix("base_model.model.")
    return AdapterError(
        f"adapter {path.parent} was trained in another basis: {module} has other singular vectors here ({why}); "
        "load it with the model it was trained on"
    )


def _use_stored_factors(path: Path, name: str, layer: Any, facts: Mapping[str, Tensor], index: int) -> None:
    """A degenerate layer gets the factors it was trained with; other adapters of that layer keep theirs."""
    here = layer.basis(_ADAPTER)
    left, right = facts[f"left.{index}"].float(), facts[f"right.{index}"].float()
    stored = dataclasses.replace(here, left=left, right=right)
    apart = float((probes(stored) - facts["probes"][index].float()).abs().max())
    if not apart <= TOLERANCE:
        raise AdapterError(f"adapter file {path} is damaged: the stored factors of {name} are not those it was made of")
    moved = stored.to(here.left.device)
    layer.lora_A[_ADAPTER].weight = moved.right
    layer.lora_B[_ADAPTER].u = moved.left.T
