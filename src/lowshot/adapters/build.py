"""Method settings -> an adapter in the model."""

from __future__ import annotations

import torch
from torch import nn

from ..errors import InputError
from ..settings import MethodConfig
from . import context, parameters
from .adapter import Adapter, ParameterAdapter
from .clip_svd import add_singular_values, attach_all_triplets
from .lora_xs.basis import attach_bases
from .placement import Place
from .ranks import layer_ranks

_LOW_RANK = ("lora", "dora", "lora-xs")


def prepare(model: nn.Module, method: MethodConfig, place: Place) -> None:
    """What a method needs of the full-precision weights, taken before anything quantises them.

    Raises:
        InputError: The rank exceeds a weight's smaller side.
    """
    if method.method == "clip-svd":
        attach_all_triplets(model, place.linears)
    if method.method not in _LOW_RANK:
        return
    for name, rank in layer_ranks(method, place).items():
        weight = model.get_submodule(name).weight
        assert isinstance(weight, torch.Tensor)
        shape = tuple(weight.shape)
        if rank > min(shape):
            raise InputError(f"rank is {rank}, but {name} is {shape[0]} x {shape[1]}; expected at most {min(shape)}")
    if method.method == "lora-xs":
        attach_bases(model, place.linears, method.rank)


def add_adapter(model: nn.Module, method: MethodConfig, place: Place, *, seed: int) -> Adapter:
    """Put a fresh adapter of float32 parameters into the model, in place; only its parameters are trainable.

    Args:
        model: The backbone's model; every other parameter is frozen.
        method: Which method, and its settings.
        place: Where it works.
        seed: Determines the initial values, whatever was drawn before.

    Raises:
        InputError: The method does not fit these layers.
    """
    if method.method in parameters.METHODS:
        model.requires_grad_(False)
        names = parameters.chosen_parameters(model, method, place)
        return ParameterAdapter(model, parameters.unfreeze(model, names))
    if method.method == "clip-svd":
        return add_singular_values(model, place.linears)
    if method.method in context.METHODS:
        return context.add_context(model, method, seed=seed)
    from .peft_adapter import add_peft_adapter  # PEFT takes seconds to import, which nobody else shall pay

    return add_peft_adapter(model, method, place, seed=seed)
