"""The bases that LoRA-XS adapters share, one for each layer, of the largest rank that any of them has there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn

from ..adapters.lora_xs import Basis, attach_bases
from ..adapters.lora_xs.basis import ATTRIBUTE


class Bases:
    """Bases of the full-precision weights, beside a backbone that may have fewer bits.

    Args:
        device: Where the backbone is.
        full_precision: Gives the model with the weights that bases are taken of; it is only read.
    """

    def __init__(self, device: torch.device, full_precision: Callable[[], nn.Module]) -> None:
        self._device = device
        self._full_precision = full_precision
        self._known: dict[str, Basis] = {}

    def prepare(self, ranks: Mapping[str, int]) -> None:
        """Have the bases of these layers, of these ranks or more.

        Args:
            ranks: Dotted name of a linear layer -> rank.

        Raises:
            InputError: A rank is larger than the smaller side of its weight, or the weights cannot be read.
        """
        missing = {name: rank for name, rank in ranks.items() if not self._reaches(name, rank)}
        if not missing:
            return
        model = self._full_precision()
        for name, rank in missing.items():
            attach_bases(model, [name], rank)
            basis: Basis = getattr(model.get_submodule(name), ATTRIBUTE)
            self._known[name] = basis.to(self._device)

    def at(self, name: str, rank: int) -> Basis:
        """The leading part of a layer's basis, which must have been prepared, on the backbone's device."""
        known = self._known[name]
        return known if known.rank == rank else known.leading(rank)

    def lend(self, model: nn.Module, names: Sequence[str], rank: int) -> None:
        """Leave bases at the linear layers of a model on the CPU, where LoRA-XS looks for them."""
        for name in names:
            setattr(model.get_submodule(name), ATTRIBUTE, self.at(name, rank).to(torch.device("cpu")))

    def _reaches(self, name: str, rank: int) -> bool:
        return name in self._known and self._known[name].rank >= rank
