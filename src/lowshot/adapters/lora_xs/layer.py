"""LoRA-XS layers (arXiv 2405.17604, equation 2): h = W x + scaling * U R diag(S) V^T x, where only R is trained."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...errors import InputError
from ..lean import LeanMixin
from .basis import Basis, basis_of

SIGMA = 1e-5
"""Standard deviation of R's entries before training, as published: the update starts at almost nothing."""


class FrozenInput(nn.Module):
    """x -> diag(S) V^T x. Its weight is a buffer: neither trained nor saved."""

    weight: Tensor

    def __init__(self, s_v: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", s_v, persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """``(..., I)`` to ``(..., R)``."""
        return functional.linear(inputs, self.weight)


class TrainedOutput(nn.Module):
    """x -> U R x. R is the only parameter of the whole adapter."""

    u: Tensor

    def __init__(self, u: Tensor) -> None:
        super().__init__()
        rank = u.shape[-1]
        self.register_buffer("u", u, persistent=False)
        self.R = nn.Parameter(SIGMA * torch.randn(rank, rank, device=u.device, dtype=u.dtype))

    @property
    def weight(self) -> Tensor:
        """U R, ``(O, R)``: what PEFT merges and exports as ``lora_B``."""
        return self.u @ self.R

    def forward(self, inputs: Tensor) -> Tensor:
        """``(..., R)`` to ``(..., O)``."""
        return functional.linear(functional.linear(inputs, self.R), self.u)


class LoraXsMixin(LeanMixin):
    """Replaces the two trained factors of a PEFT LoRA layer by frozen ones with R between them."""

    _basis: Basis | None = None

    def __init__(self, base_layer: nn.Module, *args: Any, target_name: str = "", **kwargs: Any) -> None:
        self._name = target_name  # where PEFT found the base layer; its constructor adds the first adapter
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
        if prepared is not None and (self._basis is None or self._basis.rank < r):
            self._basis = prepared
        basis = self.basis(r)
        self.lora_A[adapter_name] = FrozenInput(basis.right)
        self.lora_B[adapter_name] = TrainedOutput(basis.left.T)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def basis(self, rank: int) -> Basis:
        """The basis of the full-precision weight, which all adapters of this layer look at without copying it.

        Raises:
            InputError: The weight is quantised and its basis was not prepared.
        """
        if self._basis is None or self._basis.rank < rank:
            weight = self.get_base_layer().weight
            if not weight.is_floating_point():
                raise InputError("LoRA-XS needs the basis of the full-precision weight; attach it before quantising")
            self._basis = basis_of(weight, rank).to(weight.device)
        return self._basis.leading(rank)
