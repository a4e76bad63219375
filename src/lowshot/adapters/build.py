"""Method settings -> an adapter in the model."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from peft import LoraConfig, PeftConfig, get_peft_model
from torch import nn

from ..config import MethodConfig
from ..errors import InputError
from ..methods import PEFT_PREFIX
from ..randomness import seeded
from . import parameters
from .adapter import Adapter, ParameterAdapter, PeftAdapter
from .lora_xs import LoraXsConfig, attach_bases
from .peft_types import tuner_config
from .placement import Place


def _common(method: MethodConfig, targets: Sequence[str]) -> dict[str, Any]:
    return {
        "r": method.rank,
        "lora_alpha": method.alpha,
        "use_rslora": method.scaling == "sqrt-rank",
        "lora_dropout": method.dropout,
        "target_modules": list(targets),
        "bias": "none",
    }


def _lora(method: MethodConfig, targets: Sequence[str]) -> PeftConfig:
    """LoRA: h = W x + scaling * B A x; A Kaiming uniform, B zero (arXiv 2106.09685, section 4.1)."""
    return LoraConfig(**_common(method, targets))


def _dora(method: MethodConfig, targets: Sequence[str]) -> PeftConfig:
    """DoRA: W' = m (W + scaling * B A) / ||W + scaling * B A||, norms per output row (arXiv 2402.09353, equation 5)."""
    return LoraConfig(**_common(method, targets), use_dora=True)


def _lora_xs(method: MethodConfig, targets: Sequence[str]) -> PeftConfig:
    """LoRA-XS: h = W x + scaling * U R diag(S) V^T x (arXiv 2405.17604, equation 2)."""
    return LoraXsConfig(**_common(method, targets))


_BUILDERS: dict[str, Callable[[MethodConfig, Sequence[str]], PeftConfig]] = {
    "lora": _lora,
    "dora": _dora,
    "lora-xs": _lora_xs,
}


def peft_config(method: MethodConfig, targets: Sequence[str]) -> PeftConfig:
    """PEFT's configuration of a method.

    Raises:
        InputError: PEFT has no such tuner, or refuses its options.
    """
    if method.method.startswith(PEFT_PREFIX):
        return tuner_config(method.method, method.peft, targets)
    return _BUILDERS[method.method](method, targets)


def prepare(model: nn.Module, method: MethodConfig, place: Place) -> None:
    """What a method needs of the full-precision weights, taken before anything quantises them.

    Raises:
        InputError: The rank exceeds a weight's smaller side.
    """
    if method.method not in _BUILDERS:
        return
    for name in place.linears:
        weight = model.get_submodule(name).weight
        assert isinstance(weight, torch.Tensor)
        shape = tuple(weight.shape)
        if method.rank > min(shape):
            raise InputError(
                f"rank is {method.rank}, but {name} is {shape[0]} x {shape[1]}; expected at most {min(shape)}"
            )
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
    config = peft_config(method, place.linears)
    with seeded(seed), warnings.catch_warnings():
        # transformers warns of an attribute that it renamed itself and that PEFT reads.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        try:
            # New layers come in training mode, whatever mode the model is in: their dropout would blur predictions.
            adapted = get_peft_model(model, config).eval()
            if method.method.startswith(PEFT_PREFIX):
                _try_layers(model, place.linears)
        except (ValueError, TypeError, NotImplementedError, RuntimeError) as error:  # each tuner has its own limits
            raise InputError(f"method {method.method} does not fit: {' '.join(str(error).split())}") from error
    return PeftAdapter(adapted)


@torch.no_grad()
def _try_layers(model: nn.Module, names: Sequence[str]) -> None:
    """Some tuners take a layer and fail when it is used, because it is quantised or of another shape than its like."""
    for name in names:
        layer: Any = model.get_submodule(name)
        base = layer.get_base_layer()
        if not base.weight.is_meta:
            dtype = base.weight.dtype if base.weight.is_floating_point() else torch.float32
            layer(torch.zeros(1, base.in_features, dtype=dtype, device=base.weight.device))
