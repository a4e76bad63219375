"""The frozen factors of LoRA-XS: a truncated singular value decomposition in which every sign is settled.

A singular vector is defined up to its sign, and libraries, precisions and transpositions pick different ones. An
adapter that stores only R would then mean another function elsewhere. So the decomposition is always of the float32
weight, in float64, in full, and each pair is turned so that its anchor, the left vector's largest entry, is positive.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

from ...errors import AdapterError, InputError
from ...settings import BasisSide, MethodConfig
from ...tensor_file import read_file
from ..placement import Place
from ..ranks import refuse_large_ranks

BASIS_FILE = "lora_xs_basis.safetensors"
"""Beside an adapter's tensors, what tells its basis from others: see ``portable``."""
BASIS_VERSION = 1
"""Changes when the same weight would get another basis."""
DEGENERATE_GAP = 1e-5
"""Singular values closer than this, as a share of the largest, leave their vectors to rounding."""
_MOST_BYTES = 1 << 30


@dataclasses.dataclass(frozen=True)
class Basis:
    """W ~ U diag(S) V^T of one weight ``(O, I)``: its R leading singular triplets, as two factors."""

    left: Tensor
    """U^T, ``(R, O)``, float32: rows, so that a smaller rank is a view of a larger one."""
    right: Tensor
    """diag(S) V^T, ``(R, I)``, float32."""
    singular_values: Tensor
    """``(R + 1,)``, float64, descending; the last one is beyond the rank (absent if the weight has no more)."""
    anchors: Tensor
    """``(R,)``, int64: where each left vector has the entry that is positive."""
    side: BasisSide = "input"
    """Where the singular values are. On the ``output`` side ``left`` is diag(S) U^T and ``right`` is V^T."""

    @property
    def rank(self) -> int:
        """How many triplets there are."""
        return len(self.left)

    def leading(self, rank: int) -> Basis:
        """The first ``rank`` triplets, without a copy."""
        return dataclasses.replace(
            self,
            left=self.left[:rank],
            right=self.right[:rank],
            singular_values=self.singular_values[: rank + 1],
            anchors=self.anchors[:rank],
        )

    def to(self, device: torch.device) -> Basis:
        """The factors on another device."""
        return dataclasses.replace(self, left=self.left.to(device), right=self.right.to(device))

    def with_values_on(self, side: BasisSide) -> Basis:
        """The same triplets with the singular values on a side. Vectors of a value of zero are zero where it is not."""
        if side == self.side:
            return self
        to_left = side == "output"
        values = self.singular_values[: self.rank].to(self.left)[:, None]
        shares = torch.where(values > 0, 1 / values, 0.0)
        left, right = self.left * (values if to_left else shares), self.right * (shares if to_left else values)
        return dataclasses.replace(self, left=left, right=right, side=side)

    def on_input_side(self, middle: Tensor) -> Tensor:
        """The ``(R, R)`` matrix that is the same update between U and diag(S) V^T as ``middle`` between these factors.

        U diag(S) R V^T = U (diag(S) R diag(S)^-1) diag(S) V^T. Where a value is zero, so is its vector on the right.
        """
        if self.side == "input":
            return middle
        values = self.singular_values[: self.rank].to(middle)
        return values[:, None] * middle * torch.where(values > 0, 1 / values, 0.0)[None, :]

    def is_degenerate(self) -> bool:
        """Whether two neighbouring singular values, the one beyond the rank included, are as good as equal.

        Beyond the smaller side of a weight that is not square every vector has the singular value zero.
        """
        values = self.singular_values
        following = torch.cat([values[1:], values.new_zeros(1)])[: self.rank]
        return bool((values[: self.rank] - following <= DEGENERATE_GAP * values[0]).any())


def basis_of(weight: Tensor, rank: int) -> Basis:
    """Leading singular triplets of a weight.

    Args:
        weight: ``(O, I)``, floating point. On the meta device the basis is too: shapes without values.
        rank: How many of them.

    Raises:
        InputError: ``rank`` exceeds the smaller side of the weight, or the weight is not finite.
    """
    if rank > min(weight.shape):
        raise InputError(
            f"rank is {rank}, but the weight is {tuple(weight.shape)}; expected at most {min(weight.shape)}"
        )
    if weight.is_meta:
        (outputs, inputs), values = weight.shape, torch.empty(rank + 1)
        anchors = torch.empty(rank, dtype=torch.int64)
        return Basis(weight.new_empty(rank, outputs), weight.new_empty(rank, inputs), values, anchors)
    full = weight.detach().to("cpu", torch.float32).double()
    if not full.isfinite().all():
        raise InputError(f"a weight of {tuple(weight.shape)} holds values that are not finite: it has no basis")
    u, s, v = torch.linalg.svd(full, full_matrices=False)
    left, right = u.T[:rank], s[:rank, None] * v[:rank]
    anchors = left.abs().argmax(1)
    signs = left.gather(1, anchors[:, None]).sign()
    return Basis((signs * left).float().contiguous(), (signs * right).float().contiguous(), s[: rank + 1], anchors)


def prepare(model: nn.Module, method: MethodConfig, place: Place) -> dict[str, Basis]:
    """Return the basis of each adapted layer; arguments and errors are those of ``adapters.prepare``."""
    refuse_large_ranks(model, method, place)
    bases = layer_bases(model, dict.fromkeys(place.linears, method.rank))
    return {name: basis.with_values_on(method.basis_side) for name, basis in bases.items()}


def layer_bases(model: nn.Module, ranks: Mapping[str, int]) -> dict[str, Basis]:
    """The bases of linear layers in full precision, beside their weights.

    Args:
        model: The model, before anything quantises it.
        ranks: Dotted name of a layer -> rank of its basis.
    """
    from .cache import cached_basis

    bases = {}
    for name, rank in ranks.items():
        weight = model.get_submodule(name).weight
        assert isinstance(weight, Tensor)
        bases[name] = cached_basis(weight, rank).to(weight.device)
    return bases


def serialized_facts(facts: Mapping[str, Tensor]) -> bytes:
    """The content of a file of facts by which an adapter finds its basis again."""
    return bytes(save(dict(facts), metadata={"basis_version": str(BASIS_VERSION)}))


def read_facts(path: Path) -> dict[str, Tensor]:
    """The facts in a file.

    Raises:
        AdapterError: The file is missing or damaged, or of another version.
    """
    facts, metadata = read_file(path, _MOST_BYTES, "a few thousand")
    version = metadata.get("basis_version")
    if version != str(BASIS_VERSION):
        raise AdapterError(f"adapter file {path} has basis version {version}; this lowshot reads {BASIS_VERSION}")
    return facts


def waves(count: int, phase: float) -> Tensor:
    """``(count,)`` numbers in [-1, 1], float64, that are the same on every machine and fall in with nothing."""
    return torch.cos(phase * (1.0 + torch.arange(count, dtype=torch.float64) * 2.399963))  # the golden angle
