"""``peft:TYPE``: any tuner that PEFT has for linear layers, with its own defaults and options."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from peft import PeftConfig
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

from ..errors import InputError, UnknownNameError
from ..methods import PEFT_PREFIX, peft_options

NOT_FOR_LINEAR_LAYERS = {
    "ADALORA": "its ranks are cut by a schedule and a loss of its own while training; use lora",
    "ADAPTION_PROMPT": "it adds prompts to a language model's attention",
    "LN_TUNING": "it trains layer norms; use method layernorm",
    "LORA_XS": "it needs the basis of the full-precision weights; use method lora-xs",
    "POLY": "it chooses among skills by a task id, and there is one task",
    "SHADOW": "it runs a language model of its own beside the frozen one",
    "TRAINABLE_TOKENS": "it trains embeddings of tokens",
}
"""Tuners with target modules that cannot be put on a linear layer and trained by gradient descent alone."""

KNOW_QUANTISED_WEIGHTS = frozenset(
    PEFT_PREFIX + name
    for name in (
        *("beft", "fourierft", "hira", "ia3", "lily", "lora", "miss", "oft", "pvera", "randlora", "road", "shira"),
        *("vblora", "vera", "waveft"),
    )
)
"""Tuners that are the same function on quantised weights as on plain ones of the same values. PEFT lets others at them
that fail, or that take the codes for the weights; a test tries all."""

SEED_TORCH = frozenset({"ADAMSS", "PSOFT"})
"""Tuners that seed torch's own generator for some of their initial values."""

_OURS = {
    "auto_mapping",
    "base_model_name_or_path",
    "bias",
    "exclude_modules",
    "inference_mode",
    "layer_replication",
    "layers_pattern",
    "layers_to_transform",
    "modules_to_save",
    "peft_type",
    "peft_version",
    "revision",
    "runtime_config",
    "target_modules",
    "target_parameters",
    "task_type",
    "trainable_token_indices",
}
"""Fields that lowshot decides: where the adapter sits is ``encoder``, ``position`` and ``projections``."""
_FOR_LANGUAGE_MODELS = ("alora_", "megatron_")


def tuners() -> dict[str, type[PeftConfig]]:
    """Method name -> configuration class, of every tuner that can be reached."""
    return {
        PEFT_PREFIX + name.lower(): kind
        for name, kind in ((str(t.value), kind) for t, kind in PEFT_TYPE_TO_CONFIG_MAPPING.items())
        if name not in NOT_FOR_LINEAR_LAYERS and "target_modules" in _fields(kind)
    }


def tuner_config(method: str, options: Sequence[str], targets: Sequence[str]) -> PeftConfig:
    """The configuration of a ``peft:TYPE`` method.

    Args:
        method: ``peft:TYPE``.
        options: ``key=value`` each; a value is JSON, or else a word.
        targets: Dotted names of the linear layers.

    Raises:
        InputError: The tuner is not for linear layers, an option is unknown or decided by lowshot, or PEFT refuses a
            value.
    """
    known = tuners()
    name = method.removeprefix(PEFT_PREFIX).upper()
    if name in NOT_FOR_LINEAR_LAYERS:
        raise InputError(f"method {method} cannot be used on linear layers: {NOT_FOR_LINEAR_LAYERS[name]}")
    if method not in known:
        raise UnknownNameError("method", method, known)
    kind = known[method]
    allowed = {name for name in _fields(kind) if name not in _OURS and not name.startswith(_FOR_LANGUAGE_MODELS)}
    allowed -= {name for name in allowed if name.endswith("_config")}  # objects of further methods on top
    given = peft_options(method, options)
    for key in given:
        if key not in allowed:
            raise UnknownNameError(f"option of {method}", key, allowed)
    try:
        return kind(target_modules=list(targets), **given)
    except Exception as error:  # each tuner checks its options in its own way
        raise InputError(f"method {method}: {' '.join(str(error).split())}") from error


def _fields(kind: type[PeftConfig]) -> list[str]:
    return [field.name for field in dataclasses.fields(kind) if field.init]
