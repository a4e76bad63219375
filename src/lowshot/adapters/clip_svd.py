"""CLIP-SVD: the singular values of the weights are trained, and nothing else (arXiv 2509.03740).

With the decomposition W = U diag(s) V^T of a linear layer's weight the layer becomes U diag(s + d) V^T. U and V are
frozen, and d, which starts at zero, is all that is trained and saved. U, s and V are computed again from the backbone's
full-precision weights wherever an adapter is loaded.

The update is a sum over pairs of vectors, U diag(d) V^T = sum_i d_i u_i v_i^T, so the sign that a library gives to a
pair does not matter: (-u_i)(-v_i)^T is the same matrix. The order of the pairs is settled by s, which descends. Pairs
whose singular values are as good as equal, or as good as zero, are no property of the weight: rounding decides how they
are turned. Those few are saved beside d. Everything else is checked by three numbers for each layer.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import AdapterError
from ..settings import MethodConfig
from .adapter import ParameterAdapter, computing_as, to_be_merged
from .lora_xs.basis import Basis, layer_bases, read_facts, serialized_facts, waves
from .placement import Place

BASIS_FILE = "clip_svd_basis.safetensors"
UNDETERMINED_GAP = 1e-7
"""Singular values closer than this, as a share of the largest, leave their pairs to rounding. In float64 a pair whose
neighbours are further away turns by 1e-6 at most from one library to another."""
TOLERANCE = 1e-4
"""Largest accepted difference of a check; libraries differ by 1e-6 at most, an exchanged pair moves it by about 1."""


class SingularValueLinear(nn.Module):
    """A linear layer with trained singular values: h = W x + U (d * (V^T x)) + b, which is U diag(s + d) V^T x + b.

    W x is kept, so that a new layer is the old one to the last bit. U and V are in the type that the layer computes
    in; their product with d is taken in float32.

    Args:
        base_layer: The layer it stands for, frozen.
        basis: All singular triplets of its full-precision weight.
    """

    left: Tensor
    right: Tensor

    def __init__(self, base_layer: nn.Linear, basis: Basis) -> None:
        super().__init__()
        self.base_layer = base_layer
        weight = base_layer.weight
        values = basis.singular_values[: basis.rank]
        scale = values.clamp_min(torch.finfo(torch.float32).tiny).to(basis.right)
        right = basis.right if weight.is_meta else basis.right / scale[:, None]  # rows of S V^T to those of V^T
        self.register_buffer("left", basis.left.T.to(weight.device, weight.dtype).contiguous(), persistent=False)
        self.register_buffer("right", right.to(weight.device, weight.dtype), persistent=False)
        self.delta = nn.Parameter(torch.zeros(basis.rank, device=weight.device))
        """d, ``(R,)``, R the smaller side of the weight."""
        self.singular_values = values.double()
        """s, ``(R,)``, float64, descending."""
        none = Pairs(torch.empty(0, dtype=torch.int64), basis.left[:0], basis.right[:0])
        self.open = none if weight.is_meta else _open_pairs(basis.left, right, values)
        """The pairs that the weight does not determine."""
        self.probes = values.double()
        """w_i (a^T u_i) (b^T v_i) of each pair, ``(R,)``, float64, whatever its sign; w, a and b are ``waves``."""
        if not weight.is_meta:
            left_part, right_part = basis.left.cpu().double(), right.cpu().double()
            ours, theirs = left_part @ waves(left_part.shape[1], 1.0), right_part @ waves(right_part.shape[1], 2.0)
            self.probes = waves(basis.rank, 3.0) * ours * theirs

    def forward(self, inputs: Tensor) -> Tensor:
        """``(..., I)`` to ``(..., O)``."""
        inner = functional.linear(inputs, self.right).to(self.delta.dtype) * self.delta
        result: Tensor = self.base_layer(inputs) + functional.linear(inner.to(inputs.dtype), self.left)
        return result

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """A plain layer with the weight U diag(s + d) V^T, computed as W + U diag(d) V^T."""
        base = self.base_layer
        update = (self.left.to(self.delta.dtype) * self.delta) @ self.right.to(self.delta.dtype)
        plain = nn.Linear(base.in_features, base.out_features, bias=base.bias is not None, device="meta")
        plain.weight = nn.Parameter((base.weight + update).to(base.weight.dtype), requires_grad=False)
        plain.bias = base.bias
        return plain.train(base.training)

    @torch.no_grad()
    def use(self, pairs: Pairs) -> None:
        """Put stored pairs in the place of those that rounding made here."""
        self.open = pairs
        rows = pairs.rows.to(self.left.device)
        self.left[:, rows] = pairs.left.T.to(self.left)
        self.right[rows] = pairs.right.to(self.right)

    def checks(self, left_out: Tensor) -> Tensor:
        """Three numbers ``(3,)``, float64, that are others on another weight, or with its pairs in another order.

        Args:
            left_out: Pairs that are not looked at, ``(K,)``.
        """
        values, probes = self.singular_values, self.probes.clone()
        probes[left_out] = 0.0
        largest = values[0].clamp_min(torch.finfo(torch.float64).tiny)
        return torch.stack([values[0], waves(len(values), 3.0) @ values / largest, probes.sum()])


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Some pairs of singular vectors."""

    rows: Tensor
    """Their numbers, ``(K,)``, int64."""
    left: Tensor
    """``(K, O)``, float32."""
    right: Tensor
    """``(K, I)``, float32."""


def prepare(model: nn.Module, method: MethodConfig, place: Place) -> dict[str, Basis]:  # noqa: ARG001 - every method's
    """Return all singular triplets of each adapted layer, before its precision is changed.

    For ViT-B/16 and all its matrices that takes a minute or two, once: they are kept in the cache folder (0.75 GB).
    """
    sides = {name: min(cast(Tensor, model.get_submodule(name).weight).shape) for name in place.linears}
    return layer_bases(model, sides)


def add_singular_values(
    model: nn.Module,
    method: MethodConfig,  # noqa: ARG001 - as every method's
    place: Place,
    *,
    seed: int,  # noqa: ARG001 - the update starts at zero
    bases: dict[str, Basis],
) -> SingularValueAdapter:
    """Replace linear layers by such with trained singular values, in place; the triplets are taken out of ``bases``."""
    model.requires_grad_(False)
    layers = {}
    for name in place.linears:
        linear = model.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        layers[name] = SingularValueLinear(linear, bases.pop(name))  # it has its own, in the type it computes in
        model.set_submodule(name, layers[name])
    return SingularValueAdapter(model, layers)


class SingularValueAdapter(ParameterAdapter):
    """The layers of a model whose singular values are trained; saved are d and what tells the pairs apart.

    Args:
        model: The model, with the layers in it.
        layers: Name -> layer.
    """

    def __init__(self, model: nn.Module, layers: Mapping[str, SingularValueLinear]) -> None:
        super().__init__(model, {f"{name}.delta": layer.delta for name, layer in layers.items()})
        self._layers = dict(layers)

    def save(self, folder: Path, base_model: str) -> None:
        super().save(folder, base_model)
        layers = list(self._layers.values())
        tensors = {"checks": torch.stack([layer.checks(layer.open.rows) for layer in layers])}
        for index, layer in enumerate(layers):
            if len(layer.open.rows):
                fields = vars(layer.open).items()
                tensors |= {f"{field}.{index}": tensor.cpu().contiguous() for field, tensor in fields}
        (folder / BASIS_FILE).write_bytes(serialized_facts(tensors))

    def load(self, folder: Path) -> None:
        super().load(folder)
        path = folder / BASIS_FILE
        facts = read_facts(path)
        stored = self._stored_pairs(path, facts)
        for index, (name, layer) in enumerate(self._layers.items()):
            pairs = stored.get(index, layer.open)
            here = layer.checks(pairs.rows)
            scale = torch.ones_like(here)
            scale[0] = here[0].clamp_min(torch.finfo(torch.float64).tiny)  # a length counts as a share of itself
            apart = float(((facts["checks"][index] - here) / scale).abs().max())
            if not apart <= TOLERANCE:
                raise AdapterError(
                    f"adapter {folder} was trained on other singular values or vectors: those of {name} are "
                    f"{apart:.2g} apart by its checks; load it with the model it was trained on"
                )
            if index in stored:
                layer.use(pairs)

    def merge(self) -> nn.Module:
        for name, layer in self._layers.items():
            self.model.set_submodule(name, layer.merged())
        return self.model

    @contextlib.contextmanager
    def merged(self) -> Iterator[None]:
        layers = to_be_merged(self._layers.values(), lambda layer: layer.base_layer)
        with computing_as([(layer, layer.merged()) for layer in layers]):
            yield

    def _stored_pairs(self, path: Path, facts: Mapping[str, Tensor]) -> dict[int, Pairs]:
        """Number of a layer -> the pairs that came with the adapter.

        Raises:
            AdapterError: The file is not one of these layers.
        """
        layers, fields = list(self._layers.values()), [field.name for field in dataclasses.fields(Pairs)]
        with_pairs = [index for index in range(len(layers)) if f"rows.{index}" in facts]
        expected = {"checks", *(f"{field}.{index}" for field in fields for index in with_pairs)}
        if odd := sorted(expected ^ facts.keys()):
            which = "missing" if odd[0] in expected else "unknown"
            raise AdapterError(f"adapter file {path} is damaged: {odd[0]} is {which}")
        pairs = {index: Pairs(*(facts[f"{field}.{index}"] for field in fields)) for index in with_pairs}
        fits = _is_like(facts["checks"], (len(layers), 3), torch.float64)
        if not fits or not all(_pairs_fit(each, layers[index]) for index, each in pairs.items()):
            raise AdapterError(f"adapter file {path} is damaged: its tensors do not fit the layers, or are not finite")
        return pairs


def _is_like(tensor: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> bool:
    return tuple(tensor.shape) == shape and tensor.dtype == dtype and bool(tensor.isfinite().all())


def _pairs_fit(pairs: Pairs, layer: SingularValueLinear) -> bool:
    outputs, rank = layer.left.shape
    count = len(pairs.rows) if pairs.rows.ndim == 1 else 0
    return (
        _is_like(pairs.rows, (count,), torch.int64)
        and bool(((pairs.rows >= 0) & (pairs.rows < rank)).all())
        and _is_like(pairs.left, (count, outputs), torch.float32)
        and _is_like(pairs.right, (count, layer.right.shape[1]), torch.float32)
    )


def _open_pairs(left: Tensor, right: Tensor, values: Tensor) -> Pairs:
    """Those of a singular value that has another, or zero, within the gap.

    A pair of the singular value zero has not even a sign of its own: u and v are turned apart.
    """
    near = values[:-1] - values[1:] <= UNDETERMINED_GAP * values[0]
    last = values[-1:] <= UNDETERMINED_GAP * values[0]
    rows = (torch.cat([near, last]) | torch.cat([last.new_zeros(1), near])).nonzero()[:, 0]
    return Pairs(rows, left[rows].float(), right[rows].float())
