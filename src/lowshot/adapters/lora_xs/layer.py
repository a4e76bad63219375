"""LoRA-XS layers (arXiv 2405.17604, equation 2): h = W x + scaling * U R diag(S) V^T x, where only R is trained.

CLIP-LoRA-XS's code has the singular values on the output's side: h = W x + scaling * U diag(S) R V^T x.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...errors import InputError
from ...settings import BasisSide
from ..lean import LeanMixin
from .basis import Basis, basis_of

SIGMA = 1e-5
"""Standard deviation of R's entries before training, as published: the update starts at almost nothing."""


class FrozenInput(nn.Module):
    """x -> diag(S) V^T x, or V^T x. Its weight is a buffer: neither trained nor saved."""

    weight: Tensor

    def __init__(self, right: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", right, persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """``(..., I)`` to ``(..., R)``."""
        return functional.linear(inputs, self.weight)


class TrainedOutput(nn.Module):
    """x -> U R x, or U diag(S) R x. R is the only parameter of the whole adapter."""

    u: Tensor
    """U or U diag(S), ``(O, R)``."""

    def __init__(self, u: Tensor) -> None:
        super().__init__()
        rank = u.shape[-1]
        self.register_buffer("u", u, persistent=False)
        self.R = nn.Parameter(SIGMA * torch.randn(rank, rank, device=u.device, dtype=u.dtype))

    @property
    def weight(self) -> Tensor:
        """U R or U diag(S) R, ``(O, R)``: what PEFT merges and exports as ``lora_B``."""
        return self.u @ self.R

    def forward(self, inputs: Tensor) -> Tensor:
        """``(..., R)`` to ``(..., O)``."""
        return functional.linear(functional.linear(inputs, self.R), self.u)


class LoraXsMixin(LeanMixin):
    """Replaces the two trained factors of a PEFT LoRA layer by frozen ones with R between them."""

    other_param_names = (*LeanMixin.other_param_names, "basis_side")  # what PEFT removes with an adapter

    def __init__(self, base_layer: nn.Module, *args: Any, target_name: str = "", **kwargs: Any) -> None:
        self._name = target_name  # where PEFT found the base layer; its constructor adds the first adapter
        self._bases: dict[BasisSide, Basis] = {}
        self.basis_side: dict[str, BasisSide] = {}
        super().__init__(base_layer, *args, target_name=target_name, **kwargs)

    def resolve_lora_variant(self, **_: Any) -> None:
        """No variant of LoRA applies on top."""

    def update_layer(self, adapter_name: str, r: int, lora_alpha: int, config: Any, **kwargs: Any) -> None:
        """Add an adapter: PEFT's own bookkeeping first, then the factors."""
        init, config.init_lora_weights = config.init_lora_weights, False
        try:
            super().update_layer(adapter_name, r, lora_alpha=lora_alpha, config=config, **kwargs)
        finally:
            config.init_lora_weights = init
        prepared = config.bases.get(self._name)
        if prepared is not None and not self._has(prepared.side, r):
            self._bases[prepared.side] = prepared
        self.basis_side[adapter_name] = config.basis_side
        basis = self.basis(adapter_name)
        self.lora_A[adapter_name] = FrozenInput(basis.right)
        self.lora_B[adapter_name] = TrainedOutput(basis.left.T)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def basis(self, adapter_name: str) -> Basis:
        """The basis of the full-precision weight at an adapter's rank and side.

        All adapters of this layer that have the singular values on one side look at the same, without copying it.

        Raises:
            InputError: The weight is quantised and its basis was not prepared.
        """
        rank, side = self.r[adapter_name], self.basis_side[adapter_name]
        if not self._has(side, rank):
            there = next((basis for basis in self._bases.values() if basis.rank >= rank), None)
            if there is None:
                weight = self.get_base_layer().weight
                if not weight.is_floating_point():
                    raise InputError(
                        "LoRA-XS needs the basis of the full-precision weight; attach it before quantising"
                    )
                there = basis_of(weight, rank).to(weight.device)
            self._bases[side] = there.with_values_on(side)
        return self._bases[side].leading(rank)

    def _has(self, side: BasisSide, rank: int) -> bool:
        return side in self._bases and self._bases[side].rank >= rank
