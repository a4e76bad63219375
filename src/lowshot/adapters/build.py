"""Method settings -> an adapter in the model."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import torch
from peft import LoraConfig, PeftConfig, get_peft_model
from torch import nn

from ..errors import InputError
from ..methods import PEFT_PREFIX
from ..randomness import seeded
from ..settings import MethodConfig
from . import context, parameters
from .adapter import Adapter, ParameterAdapter, PeftAdapter
from .clip_svd import add_singular_values, attach_all_triplets
from .lean import LeanMixin, modules_with
from .lora_xs import LoraXsConfig, attach_bases
from .peft_types import KNOW_QUANTISED_WEIGHTS, tuner_config
from .placement import Place
from .ranks import layer_ranks


def _common(method: MethodConfig, place: Place) -> dict[str, Any]:
    ranks = {} if method.rank_by_depth == "uniform" else layer_ranks(method, place)
    return {
        "r": method.rank,
        "rank_pattern": ranks,  # alpha is the same in all layers: each has the scaling of its own rank
        "lora_alpha": method.alpha,
        "use_rslora": method.scaling == "sqrt-rank",
        "lora_dropout": method.dropout,
        "target_modules": list(place.linears),
        "bias": "none",
    }


def _lora(method: MethodConfig, place: Place) -> PeftConfig:
    """LoRA: h = W x + scaling * B A x; A Kaiming uniform, B zero (arXiv 2106.09685, section 4.1)."""
    config = LoraConfig(**_common(method, place))
    config._register_custom_module(modules_with(LeanMixin))
    return config


def _dora(method: MethodConfig, place: Place) -> PeftConfig:
    """DoRA: W' = m (W + scaling * B A) / ||W + scaling * B A||, norms per output row (arXiv 2402.09353, equation 5)."""
    return LoraConfig(**_common(method, place), use_dora=True)


def _lora_xs(method: MethodConfig, place: Place) -> PeftConfig:
    """LoRA-XS: h = W x + scaling * U R diag(S) V^T x (arXiv 2405.17604, equation 2)."""
    return LoraXsConfig(**_common(method, place))


_BUILDERS: dict[str, Callable[[MethodConfig, Place], PeftConfig]] = {
    "lora": _lora,
    "dora": _dora,
    "lora-xs": _lora_xs,
}


def _peft_config(method: MethodConfig, place: Place) -> PeftConfig:
    """PEFT's configuration of a method.

    Raises:
        InputError: PEFT has no such tuner, or refuses its options.
    """
    if method.method.startswith(PEFT_PREFIX):
        return tuner_config(method.method, method.peft, place.linears)
    return _BUILDERS[method.method](method, place)


def prepare(model: nn.Module, method: MethodConfig, place: Place) -> None:
    """What a method needs of the full-precision weights, taken before anything quantises them.

    Raises:
        InputError: The rank exceeds a weight's smaller side.
    """
    if method.method == "clip-svd":
        attach_all_triplets(model, place.linears)
    if method.method not in _BUILDERS:
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
    config = _peft_config(method, place)
    is_foreign = method.method.startswith(PEFT_PREFIX)
    before = _weights(model, place.linears) if is_foreign else []
    if method.method not in KNOW_QUANTISED_WEIGHTS and not all(weight.is_floating_point() for weight in before):
        raise InputError(f"method {method.method} does not fit: it does not know quantised weights; use quantize none")
    with attaching(seed):
        try:
            # New layers come in training mode, whatever mode the model is in: their dropout would blur predictions.
            adapted = get_peft_model(model, config).eval()
            if is_foreign:
                _try_layers(model, place.linears, before)
        except Exception as error:  # each tuner has limits of its own, and words for them
            raise InputError(f"method {method.method} does not fit: {' '.join(str(error).split())}") from error
    return PeftAdapter(adapted)


@contextlib.contextmanager
def attaching(seed: int) -> Iterator[None]:
    """Around PEFT's putting of layers into a model: initial values drawn from a seed, and no needless warning."""
    with seeded(seed), warnings.catch_warnings():
        # transformers warns of an attribute that it renamed itself and that PEFT reads.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        yield


def _weights(model: nn.Module, names: Sequence[str]) -> list[torch.Tensor]:
    return [cast(torch.Tensor, model.get_submodule(name).weight).detach().clone() for name in names]


def _try_layers(model: nn.Module, names: Sequence[str], weights: Sequence[torch.Tensor]) -> None:
    """Find out what PEFT does not say: that a tuner fails when its layer is used, or does not leave the base alone.

    Raises:
        InputError: It changes weights.
    """
    for name, weight in zip(names, weights, strict=True):
        layer: Any = model.get_submodule(name)
        base = layer.get_base_layer()
        if weight.is_meta:
            continue
        if not torch.equal(base.weight, weight):
            raise InputError(f"it changes the frozen weight of {name}; expected options that leave the base alone")
        dtype = weight.dtype if weight.is_floating_point() else torch.float32
        inputs = torch.zeros(1, base.in_features, dtype=dtype, device=weight.device, requires_grad=True)
        layer(inputs).float().sum().backward()
    model.zero_grad(set_to_none=True)
