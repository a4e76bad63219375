"""Methods that train parameters the model already has.

``layernorm``, ``bitfit`` and ``full`` are points of reference; ``2sfs`` trains layer norms in its first stage.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ..settings import MethodConfig
from .placement import Place

METHODS = ("layernorm", "bitfit", "full", "2sfs")


class _Held(nn.Module):
    """A parameter kept in float32 and seen by its layer in the type that the layer computes in."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def forward(self, kept: Tensor) -> Tensor:
        return kept.to(self.dtype)


def chosen_parameters(model: nn.Module, method: MethodConfig, place: Place) -> list[str]:
    """Dotted names of the parameters that a method trains.

    ``full`` takes everything in the towers. The others take the blocks at the position; with position ``all``
    also what lies before and after the blocks.
    """
    within = place.modules if method.method == "full" or method.position == "all" else place.layers
    norms = {
        f"{name}.{parameter}"
        for name, module in model.named_modules()
        if isinstance(module, nn.LayerNorm)
        for parameter in ("weight", "bias")
    }
    inside = [
        name
        for name, _ in model.named_parameters()
        if any(name == part or name.startswith(f"{part}.") for part in within)
    ]
    if method.method in ("layernorm", "2sfs"):
        return [name for name in inside if name in norms]
    return [name for name in inside if method.method == "full" or name.endswith("bias")]


def unfreeze(model: nn.Module, names: list[str]) -> dict[str, nn.Parameter]:
    """Make parameters trainable, in place; those in a lower precision are kept in float32 from here on.

    Returns:
        Name -> the parameter that is trained.
    """
    trained = {}
    for name in names:
        owner, _, field = name.rpartition(".")
        module = model.get_submodule(owner)
        parameter = cast(nn.Parameter, getattr(module, field))
        if parameter.dtype in (torch.bfloat16, torch.float16):
            held = _Held(parameter.dtype)
            parameter.data = parameter.data.float()
            parametrize.register_parametrization(module, field, held, unsafe=True)
            parameter = cast(nn.Parameter, getattr(module.parametrizations, field).original)
        parameter.requires_grad = True
        trained[name] = parameter
    return trained
