"""Options of PEFT's tuners: how they are written, and those that would do nothing here."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from ..errors import InputError
from .rows import PEFT_PREFIX

_NEEDS_A_PASS = "it is computed from {} before training, which lowshot does not do for PEFT's tuners"
_ASA = "PEFT cuts subspaces by it in a callback of transformers' trainer, and lowshot trains with a loop of its own"

_IDLE_IN_ALL = {
    "ensure_weight_tying": "it is for tied embeddings, and adapters sit on linear layers",
    "fan_in_fan_out": "it is for the transposed layers of GPT-2, and these are not transposed",
    "use_effective_conv2d": "it is for convolutions, and adapters sit on linear layers",
}
_IDLE: dict[str, dict[str, str]] = {
    "adamss": {
        **dict.fromkeys(("use_asa", "asa_importance_beta", "asa_schedule_exponent", "asa_target_subspaces"), _ASA),
        **dict.fromkeys(("asa_uncertainty_beta", "final_warmup", "init_warmup", "mask_interval"), _ASA),
    },
    "boft": {"boft_n_butterfly_factor": "PEFT sets it to 1 wherever its CUDA extension has not been compiled"},
    "lily": {"stride_A": "layers are named to PEFT one by one, so that none share a factor"},
    "lora": dict.fromkeys(("qalora_group_size", "use_qalora"), "it needs weights that GPTQ has quantised"),
    "oft": {"module_dropout": "PEFT makes that dropout and never applies it"},
    "psoft": {"psoft_alpha": "PEFT divides the factors by it and multiplies their product with it"},
}
"""Tuner -> option -> why it would change nothing."""
_IDLE_VALUES: dict[tuple[str, str], dict[Any, str]] = {
    ("lora", "init_lora_weights"): {
        "corda": _NEEDS_A_PASS.format("the layers' inputs"),
        "eva": _NEEDS_A_PASS.format("the layers' inputs"),
        "loftq": "it comes with weights that are quantised by PEFT itself",
        "lora_ga": _NEEDS_A_PASS.format("the weights' gradients"),
    }
}
"""Tuner and option -> value -> why PEFT would go on as if it were not given, or fail."""


class _Companion(NamedTuple):
    """The option without which another one does nothing."""

    option: str
    value: Any
    """The value it must have; None for anything that is not nothing."""
    default: Any = None


_COMPANIONS: dict[str, dict[str, _Companion]] = {
    "adamss": {"svd_threshold": _Companion("use_dynamic_rank", True)},
    "deft": {"init_scale": _Companion("init_weights", False, default=True)},
    "lokr": {"rank_dropout_scale": _Companion("rank_dropout", None)},
    "miss": {"mini_r": _Companion("init_weights", "mini")},
    "oft": {
        "eps": _Companion("coft", True),
        "num_cayley_neumann_terms": _Companion("use_cayley_neumann", True, default=True),
    },
    "psoft": {
        "cayley_neumann_eps": _Companion("use_cayley_neumann", True),
        "num_cayley_neumann_terms": _Companion("use_cayley_neumann", True),
        "psoft_svd_lowrank_niter": _Companion("psoft_svd", "lowrank"),
        "random_seed": _Companion("psoft_svd", "lowrank"),
    },
    "supertuning": {"lora_dropout": _Companion("r", None)},
    "tinylora": {"init_v_bound": _Companion("init_weights", "uniform")},
}


def peft_options(method: str, options: Sequence[str]) -> dict[str, Any]:
    """The options of a ``peft:TYPE`` method by name.

    Args:
        method: Its name, for the message.
        options: ``key=value`` each; a value is JSON, or else a word.

    Raises:
        InputError: One is given twice.
    """
    values: dict[str, Any] = {}
    for option in options:
        key, _, value = option.partition("=")
        if key in values:
            raise InputError(f"option {key} of {method} is given twice")
        values[key] = value
        with contextlib.suppress(ValueError):
            values[key] = json.loads(value)
    return values


def refuse_idle_options(method: str, options: Sequence[str]) -> None:
    """Refuse options of a ``peft:TYPE`` method that would look as if they did something.

    Found by training with every option of every tuner of PEFT 0.21.2 and without it. An adapter that was saved with
    such an option is still read: it is what it would be without.

    Raises:
        InputError: An option changes nothing, or nothing without another one, or is no share of what to drop.
    """
    tuner, chosen = method.removeprefix(PEFT_PREFIX), peft_options(method, options)
    for name, value in chosen.items():
        reason = _IDLE_IN_ALL.get(name) or _IDLE.get(tuner, {}).get(name)
        if reason:
            raise InputError(f"option {name} of {method} does nothing: {reason}; leave it out")
        idle = _IDLE_VALUES.get((tuner, name), {})
        if isinstance(value, str) and value in idle:
            raise InputError(f"{name} of {method} is {value!r}, but {idle[value]}; leave it out")
        if name.endswith("dropout") and not (isinstance(value, int | float) and 0 <= value < 1):
            raise InputError(f"{name} of {method} is {value!r}; expected a share of 0 or more, below 1")
        needed = _COMPANIONS.get(tuner, {}).get(name)
        if needed is None:
            continue
        beside, text = chosen.get(needed.option, needed.default), needed.option
        if needed.value is not None:
            text += f"={needed.value if isinstance(needed.value, str) else json.dumps(needed.value)}"
        if not beside if needed.value is None else beside != needed.value:
            raise InputError(f"option {name} of {method} does nothing without {text}; give that too, or leave it out")
