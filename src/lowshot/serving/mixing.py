"""One forward pass for rows that belong to different adapters.

LoRA-XS adapters of one layer share U and diag(S) V^T, so row n of a batch differs from the others by its r x r matrix
alone: h_n = W x_n + U (g R_n) diag(S) V^T x_n. Two products are the same for all rows, the one between them is batched.
An adapter without a layer has zero there, which adds exactly nothing. LoRA's factors are each adapter's own: they are
gathered row by row, and multiplied in batches too.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..adapters.lora_xs import Basis


@dataclasses.dataclass(frozen=True, eq=False)
class OwnFactors:
    """The update g B A of one layer, by factors that no other adapter shares; float32."""

    a: Tensor
    """``(R, I)``."""
    b: Tensor
    """g B, ``(O, R)``."""


@dataclasses.dataclass(frozen=True, eq=False)
class Updates:
    """All that one adapter adds in one tower. It never changes: whoever holds it has it whole."""

    layers: tuple[str, ...] = ()
    """Names of the linear layers with a matrix in the shared basis."""
    middles: Tensor | None = None
    """(g R)^T of each of them, ``(L, R, R)``, float32; None where there is none."""
    own: Mapping[str, OwnFactors] = dataclasses.field(default_factory=dict)
    """Layer -> factors of the adapter's own: LoRA's, and LoRA-XS's where the weight does not determine a basis."""

    @property
    def nbytes(self) -> int:
        """Of all tensors."""
        own = sum(factors.a.nbytes + factors.b.nbytes for factors in self.own.values())
        return own + (0 if self.middles is None else self.middles.nbytes)

    def to(self, device: torch.device) -> Updates:
        """The same on another device."""
        middles = None if self.middles is None else self.middles.to(device)
        own = {name: OwnFactors(each.a.to(device), each.b.to(device)) for name, each in self.own.items()}
        return Updates(self.layers, middles, own)


@dataclasses.dataclass(frozen=True, eq=False)
class _InBasis:
    """The rows' updates of one layer in its shared basis."""

    right: Tensor
    """diag(S) V^T, ``(R, I)``."""
    middles: Tensor
    """``(N, R, R)`` for N rows, or ``(R, R)`` where all rows have the same."""
    left: Tensor
    """U^T, ``(R, O)``."""

    def added(self, result: Tensor, inputs: Tensor) -> Tensor:
        inner = functional.linear(inputs.to(self.right.dtype), self.right) @ self.middles
        return _plus_product(result, inner, self.left)


@dataclasses.dataclass(frozen=True, eq=False)
class _ByRow:
    """The updates of one layer of those rows that have factors of their own."""

    factors: tuple[OwnFactors, ...]
    """Of each adapter, ``(R, I)`` and ``(O, R)``; the ranks may differ."""
    which: Tensor
    """``(n,)``, the adapter of each of these rows."""
    rows: Tensor | None
    """``(n,)``, their places in the batch; None for all of them, in order."""

    def added(self, result: Tensor, inputs: Tensor) -> Tensor:
        own = (inputs if self.rows is None else inputs[self.rows]).to(self.factors[0].a.dtype)
        if len(self.factors) == 1:
            a, b = self.factors[0].a.T, self.factors[0].b.T
        else:
            rank = max(len(each.a) for each in self.factors)
            a = torch.stack([_padded(each.a.T, rank, dim=1) for each in self.factors])[self.which]
            b = torch.stack([_padded(each.b.T, rank, dim=0) for each in self.factors])[self.which]
        if self.rows is None and b.ndim == 2:
            return _plus_product(result, own @ a, b)
        update = (own @ a @ b).to(result.dtype)
        return result.add_(update) if self.rows is None else result.index_add_(0, self.rows, update)


Mixed = Mapping[str, Sequence[_InBasis | _ByRow]]
"""Layer -> what its rows add."""


def mixed(updates: Sequence[Updates], basis_at: Callable[[str, int], Basis]) -> Mixed:
    """What the rows of a batch add to each layer.

    Args:
        updates: Of each row's adapter, N. Rows of one adapter have the same object.
        basis_at: (layer, rank) -> its shared basis.
    """
    distinct = list({id(each): each for each in updates}.values())
    number = {id(each): index for index, each in enumerate(distinct)}
    which = [number[id(each)] for each in updates]
    found: dict[str, list[_InBasis | _ByRow]] = {}
    for name, middles in _middles(distinct, which).items():
        rank = middles.shape[-1]
        basis = basis_at(name, rank)
        found.setdefault(name, []).append(_InBasis(basis.right, middles, basis.left))
    for name in dict.fromkeys(name for each in distinct for name in each.own):
        found.setdefault(name, []).append(_by_row(name, distinct, which))
    return found


def _middles(distinct: Sequence[Updates], which: Sequence[int]) -> dict[str, Tensor]:
    """Layer -> each row's matrix ``(N, R, R)``, or the one of all ``(R, R)``; R is the largest rank at that layer.

    Smaller ranks are filled up with zeros, and so are the rows of adapters that leave the layer alone.

    The adapters' matrices are copied into one tensor ``(L, N, R, R)`` for the batch, in which those of a layer lie side
    by side. For 64 rows that is 2.4 MB on ViT-B/16.
    """
    there = [(index, each.layers, each.middles) for index, each in enumerate(distinct) if each.middles is not None]
    if not there:
        return {}
    _, layers, first = there[0]
    device = first.device
    if len(there) == len(distinct) and all(names == layers and m.shape == first.shape for _, names, m in there):
        table, ranks = torch.stack([middles for _, _, middles in there], dim=1), [first.shape[-1]] * len(layers)
    else:
        layers = tuple(dict.fromkeys(name for _, names, _ in there for name in names))
        ranks = [max(m.shape[-1] for _, names, m in there if name in names) for name in layers]
        table = torch.zeros(len(layers), len(distinct), max(ranks), max(ranks), device=device)
        places = {name: place for place, name in enumerate(layers)}
        for index, names, middles in there:
            here = torch.tensor([places[name] for name in names], device=device)
            table[here, index, : middles.shape[-1], : middles.shape[-1]] = middles
    if len(distinct) == 1:
        table = table[:, 0]
    elif list(which) != list(range(len(distinct))):
        table = table.index_select(1, torch.tensor(which, device=device))
    return {name: table[place, ..., :rank, :rank] for place, (name, rank) in enumerate(zip(layers, ranks, strict=True))}


def _by_row(name: str, distinct: Sequence[Updates], which: Sequence[int]) -> _ByRow:
    having = [index for index, each in enumerate(distinct) if name in each.own]
    factors = tuple(distinct[index].own[name] for index in having)
    place, device = {index: place for place, index in enumerate(having)}, factors[0].a.device
    rows = [row for row, index in enumerate(which) if index in place]
    return _ByRow(
        factors,
        torch.tensor([place[which[row]] for row in rows], device=device),
        None if len(rows) == len(which) else torch.tensor(rows, device=device),
    )


class Rows(threading.local):
    """Whose rows go through the model now, in this thread: set around a forward pass, read by every ``MixedLinear``."""

    def __init__(self) -> None:
        self.mixed: Mixed = {}

    @contextlib.contextmanager
    def of(self, mixed: Mixed) -> Iterator[None]:
        """For the length of a block this thread's passes through the model are for these rows."""
        before, self.mixed = self.mixed, mixed
        try:
            yield
        finally:
            self.mixed = before


class MixedLinear(nn.Module):
    """A frozen linear layer, plus what each row's adapter adds to it. It is for inference: nothing has a gradient.

    Args:
        base: The layer; it may be quantised.
        name: Its dotted name in the model.
        rows: Shared by all layers of the model.
    """

    def __init__(self, base: nn.Module, name: str, rows: Rows) -> None:
        super().__init__()
        self.base = base
        self._name = name
        self._rows = rows

    def forward(self, inputs: Tensor) -> Tensor:
        """``(N, ..., I)`` to ``(N, ..., O)``; N is the number of rows that were set, if any were."""
        result: Tensor = self.base(inputs)
        for part in self._rows.mixed.get(self._name, ()):
            result = part.added(result, inputs)
        return result


def wrap_linears(model: nn.Module, names: Sequence[str]) -> Rows:
    """Put a ``MixedLinear`` in the place of each named layer; returns what they all ask whose rows are run."""
    rows = Rows()
    for name in names:
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, MixedLinear(model.get_submodule(name), name, rows))
    return rows


def _plus_product(result: Tensor, inner: Tensor, left: Tensor) -> Tensor:
    """Result and inner left, ``(N, ..., O)``, added in the product's own pass over memory where types allow it."""
    if result.dtype != inner.dtype:
        return result.add_((inner @ left).to(result.dtype))
    result = result.contiguous()
    result.view(-1, result.shape[-1]).addmm_(inner.reshape(-1, inner.shape[-1]), left)
    return result


def _padded(tensor: Tensor, rank: int, *, dim: int) -> Tensor:
    missing = rank - tensor.shape[dim]
    if not missing:
        return tensor
    return functional.pad(tensor, (0, missing) if dim == 1 else (0, 0, 0, missing))
