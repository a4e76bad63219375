"""Bases on disk, one file per weight: decomposing ViT-B/16's 72 projections takes seconds, reading them does not."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from ...files import cache_folder, write_bytes
from .basis import BASIS_VERSION, Basis, basis_of

_FIELDS = ("left", "right", "singular_values", "anchors")


def cached_basis(weight: Tensor, rank: int) -> Basis:
    """``basis_of(weight, rank)``, read from the cache where it is, written there where it is not.

    A file holds the largest rank that was ever asked for; smaller ones are its leading part. A file that is damaged,
    or that cannot be this weight's basis, is computed again.
    """
    if weight.is_meta or rank > min(weight.shape):
        return basis_of(weight, rank)
    path = cache_folder() / "lora-xs" / f"{weight_sha256(weight)}.safetensors"
    known = _read(path, weight)
    if known is not None and known.rank >= rank:
        return known.leading(rank)
    basis = basis_of(weight, rank)
    with contextlib.suppress(OSError, ValueError):  # a cache that cannot be written costs time, nothing else
        write_bytes(path, bytes(save({name: getattr(basis, name).contiguous() for name in _FIELDS})))
    return basis


def weight_sha256(weight: Tensor) -> str:
    """Hash of the weight's shape and float32 values, and of the version of the decomposition."""
    digest = hashlib.sha256(f"basis {BASIS_VERSION} {tuple(weight.shape)}\n".encode())
    digest.update(weight.detach().to("cpu", torch.float32).contiguous().numpy().data)
    return digest.hexdigest()


def _read(path: Path, weight: Tensor) -> Basis | None:
    """The basis in a file, if it is one of this weight: U^T W = diag(S) V^T, with rows of length S."""
    try:
        # Copies, since sums over memory of a file, which lies anywhere, have other last bits than those over torch's.
        tensors = {name: tensor.clone() for name, tensor in load_file(os.fspath(path)).items()}
        basis = Basis(**{name: tensors[name] for name in _FIELDS})
    except (OSError, SafetensorError, KeyError):
        return None
    (outputs, inputs), rank = weight.shape, len(basis.left)
    layout = {name: (tuple(t.shape), t.dtype) for name, t in tensors.items()}
    layout_of_a_basis = {
        "left": ((rank, outputs), torch.float32),
        "right": ((rank, inputs), torch.float32),
        "singular_values": ((min(rank + 1, outputs, inputs),), torch.float64),
        "anchors": ((rank,), torch.int64),
    }
    if layout != layout_of_a_basis or rank == 0 or basis.anchors.min() < 0 or basis.anchors.max() >= outputs:
        return None
    expected = basis.left @ weight.detach().to("cpu", torch.float32)
    near = 1e-4 * float(basis.singular_values[0])
    fits = (
        torch.allclose(basis.right, expected, atol=near, rtol=0)
        and torch.allclose(expected.norm(dim=1).double(), basis.singular_values[: basis.rank], atol=near, rtol=0)
        and bool((basis.left.gather(1, basis.anchors[:, None]) > 0).all())
    )
    return basis if fits else None
