"""The bases that LoRA-XS adapters share, one for each layer, of the largest rank that any of them has there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn

from ..adapters.lora_xs import Basis, layer_bases


class Bases:
    """Bases of the full-precision weights, beside a backbone that may have fewer bits.

    Args:
        device: Where the backbone is.
        read_model: Reads the model in full precision, where a basis is missing later.
    """

    def __init__(self, device: torch.device, read_model: Callable[[], nn.Module]) -> None:
        self._device = device
        self._read_model = read_model
        self._known: dict[str, Basis] = {}

    def prepare(self, ranks: Mapping[str, int], model: nn.Module | None = None) -> None:
        """Have the bases of these layers, of these ranks or more.

        Args:
            ranks: Dotted name of a linear layer -> rank.
            model: The model in full precision; read if it is not given and is needed.

        Raises:
            InputError: A rank is larger than the smaller side of its weight, or the weights cannot be read.
        """
        known = {name: basis.rank for name, basis in self._known.items()}
        missing = {name: rank for name, rank in ranks.items() if known.get(name, 0) < rank}
        if not missing:
            return
        if model is None:
            model = self._read_model()
        self._known |= {name: basis.to(self._device) for name, basis in layer_bases(model, missing).items()}

    def at(self, name: str, rank: int) -> Basis:
        """The leading part of a layer's basis, which must have been prepared, on the backbone's device."""
        known = self._known[name]
        return known if known.rank == rank else known.leading(rank)

    def on_cpu(self, names: Sequence[str], rank: int) -> dict[str, Basis]:
        """Return the bases of some layers, which must have been prepared, on the CPU."""
        return {name: self.at(name, rank).to(torch.device("cpu")) for name in names}
