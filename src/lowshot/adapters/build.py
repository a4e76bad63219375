"""Method settings -> a PEFT configuration -> an adapter in the model."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from torch import nn

from ..config import MethodConfig
from ..errors import InputError
from ..randomness import seeded
from .lora_xs import LoraXsConfig, attach_bases


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


def prepare(model: nn.Module, method: MethodConfig, targets: Sequence[str]) -> None:
    """What a method needs of the full-precision weights, taken before anything quantises them.

    Raises:
        InputError: The rank exceeds a weight's smaller side.
    """
    for name in targets:
        weight = model.get_submodule(name).weight
        assert isinstance(weight, torch.Tensor)
        shape = tuple(weight.shape)
        if method.rank > min(shape):
            raise InputError(
                f"rank is {method.rank}, but {name} is {shape[0]} x {shape[1]}; expected at most {min(shape)}"
            )
    if method.method == "lora-xs":
        attach_bases(model, targets, method.rank)


def add_adapter(model: nn.Module, method: MethodConfig, targets: Sequence[str], *, seed: int) -> PeftModel:
    """Put a fresh adapter of float32 parameters into the model, in place; only its parameters are trainable.

    Args:
        model: The backbone's model; every other parameter is frozen.
        method: Which method, and its settings.
        targets: Dotted names of the linear layers to adapt.
        seed: Determines the initial values, whatever was drawn before.
    """
    with seeded(seed), warnings.catch_warnings():
        # transformers warns of an attribute that it renamed itself and that PEFT reads.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        # New layers come in training mode, whatever mode the model is in: their dropout would blur predictions.
        return get_peft_model(model, _BUILDERS[method.method](method, targets)).eval()
