"""Methods that train parameters the model already has.

``layernorm``, ``bitfit`` and ``full`` are points of reference; ``2sfs`` trains layer norms in its first stage.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ..errors import InputError
from ..settings import TOWERS, MethodConfig
from .adapter import ParameterAdapter
from .placement import Place


class _Held(nn.Module):
    """A parameter kept in float32 and seen by its layer in the type that the layer computes in."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def forward(self, parameter: Tensor) -> Tensor:
        return parameter.to(self.dtype)


def add_layer_norms(model: nn.Module, method: MethodConfig, place: Place, *, seed: int) -> ParameterAdapter:  # noqa: ARG001
    """Train scale and shift of the layer norms; arguments are those of ``add_adapter``.

    Raises:
        InputError: The blocks of a tower have none, such as those of MobileCLIP's image tower. Its batch norms are
            part of its weights.
    """
    norms = {name for name, module in model.named_modules() if isinstance(module, nn.LayerNorm)}
    for tower, blocks in place.blocks.items():
        if not any(name.startswith(f"{block}.") for block in blocks for name in norms):
            other = " or ".join(each for each in TOWERS if each != tower)
            raise InputError(
                f"method {method.method} has nothing to train in the {tower} tower of this model, whose blocks have no "
                f"layer norms; expected encoder {other}, or another method"
            )
    return _training(model, [name for name in _inside(model, method, place) if name.rpartition(".")[0] in norms])


def add_biases(model: nn.Module, method: MethodConfig, place: Place, *, seed: int) -> ParameterAdapter:  # noqa: ARG001
    """Train every bias; arguments are those of ``add_adapter``."""
    return _training(model, [name for name in _inside(model, method, place) if name.endswith("bias")])


def add_all_weights(model: nn.Module, method: MethodConfig, place: Place, *, seed: int) -> ParameterAdapter:  # noqa: ARG001
    """Train everything in the towers; arguments are those of ``add_adapter``."""
    return _training(model, _inside(model, method, place))


def _inside(model: nn.Module, method: MethodConfig, place: Place) -> list[str]:
    """Dotted names of the parameters at a place: of the blocks; with position ``all`` also before and after them."""
    within = place.modules if method.position == "all" else place.layers
    names = [name for name, _ in model.named_parameters()]
    return [name for name in names if any(name == part or name.startswith(f"{part}.") for part in within)]


def _training(model: nn.Module, names: list[str]) -> ParameterAdapter:
    model.requires_grad_(False)
    return ParameterAdapter(model, unfreeze(model, names))


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
