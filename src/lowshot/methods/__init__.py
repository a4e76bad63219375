"""The names of the methods, known without importing torch. What they do lives in ``adapters`` and ``training``."""

from __future__ import annotations

import dataclasses
import re
from typing import Literal

from ..errors import InputError, UnknownNameError

Kind = Literal["weights", "features", "prompts", "choice"]
Quantization = Literal["none", "nf4", "int8"]

_LAYERS = frozenset({"encoder", "position"})
_PLACE = _LAYERS | {"projections"}
_CONTEXT = frozenset({"context", "openings"})
_LOW_RANK = _PLACE | {"rank", "alpha", "scaling", "dropout"}
_LOW_RANK_BY_DEPTH = _LOW_RANK | {"rank_by_depth"}
_LINEAR = frozenset({"shrinkage"})  # what these add to a weight is linear in their last factor
_JUDGED = frozenset({"seed", "calibration_folds"})
_SHOWN = _JUDGED | {"views", "crop_minimum", "flip"}
_DESCENDED = _SHOWN | {"learning_rate", "minimum_learning_rate", "weight_decay", "batch_size"}


@dataclasses.dataclass(frozen=True)
class MethodSpec:
    """What is known of a method before anything is loaded."""

    name: str
    kind: Kind
    """``weights`` trains inside the backbone, ``features`` on its frozen features, ``prompts`` tokens at its inputs;
    ``choice`` stands for one of the others until ``fit`` has seen the shots."""
    summary: str
    settings: frozenset[str] = frozenset()
    """Those of the settings in a recipe's ``[method]`` that it obeys. Others are refused rather than ignored."""
    training: frozenset[str] | None = None
    """The same of ``[training]``; None for all of them."""
    learns: bool = True
    """Whether images change it."""
    has_classifier: bool = False
    """Whether a linear classifier is trained on top of the towers, so that prompts do not say all of a class."""


AUTO = "auto"
"""Stands for whichever method ``fit`` chooses by the shots."""

METHODS = {
    spec.name: spec
    for spec in (
        MethodSpec(
            "zero-shot",
            "features",
            "cosine similarity of image and class prompt; nothing is trained",
            training=_JUDGED,
            learns=False,
        ),
        MethodSpec(
            "lora",
            "weights",
            "CLIP-LoRA: low-rank updates in both towers (arXiv 2405.18541)",
            _LOW_RANK_BY_DEPTH | _LINEAR,
        ),
        MethodSpec(
            "lora-xs",
            "weights",
            "only an r x r matrix per projection, between its singular vectors (2405.17604)",
            _LOW_RANK | _LINEAR,
        ),
        MethodSpec(
            "dora",
            "weights",
            "LoRA on the direction of each weight, its magnitude trained apart (2402.09353)",
            _LOW_RANK_BY_DEPTH,
        ),
        MethodSpec("clip-svd", "weights", "CLIP-SVD: the singular values of the weights (2509.03740)", _PLACE),
        MethodSpec(
            "2sfs",
            "weights",
            "layer norms first, then a linear classifier on frozen towers (2503.11609)",
            _LAYERS | {"first_stage"},
            has_classifier=True,
        ),
        MethodSpec("layernorm", "weights", "scale and shift of the layer norms, and nothing else", _LAYERS),
        MethodSpec("bitfit", "weights", "every bias, and nothing else (2106.10199)", _LAYERS),
        MethodSpec("full", "weights", "all weights of the towers: full fine-tuning", frozenset({"encoder"})),
        MethodSpec("coop", "prompts", "CoOp: trained tokens before the class names (2109.01134)", _CONTEXT),
        MethodSpec(
            "plot++",
            "prompts",
            "trained tokens in both towers, prompts and images compared by optimal transport (2210.01253)",
            _CONTEXT | {"vision_prompts"},
        ),
        MethodSpec(
            "nearest-mean",
            "features",
            "cosine similarity to the mean of each class's shots (1911.04623)",
            training=_SHOWN,
        ),
        MethodSpec(
            "tip-adapter", "features", "a cache of the shots beside the class prompts (2207.09519)", training=_SHOWN
        ),
        MethodSpec(
            "gda", "features", "Gaussians of one covariance beside the class prompts (2402.04087)", training=_SHOWN
        ),
        MethodSpec(
            "proker", "features", "kernel ridge regression on what the prompts leave over (2501.11175)", training=_SHOWN
        ),
        MethodSpec("linear-probe", "features", "logistic regression on the embeddings (2103.00020)", training=_SHOWN),
        MethodSpec(
            "lp++", "features", "a linear probe that blends images and prompts by class (2404.02285)", training=_SHOWN
        ),
        MethodSpec(
            "tip-adapter-f", "features", "Tip-Adapter with its keys fine-tuned (2207.09519)", training=_DESCENDED
        ),
        MethodSpec("clip-adapter", "features", "a bottleneck after the vision tower (2110.04544)", training=_DESCENDED),
        MethodSpec("task-res", "features", "a residual of each class embedding (2211.10277)", training=_DESCENDED),
        MethodSpec(
            AUTO,
            "choice",
            "whichever does best on held-out shots within a time budget",
            frozenset({"time_budget"}),
            training=_JUDGED | {"flip"},  # what means the same to all that it may choose
        ),
    )
}

ALIASES: dict[str, tuple[str, Quantization]] = {
    "qlora": ("lora", "nf4"),
    "qlora-xs": ("lora-xs", "nf4"),
    "qdora": ("dora", "nf4"),
}
"""Method and base precision are two choices; these names make both at once."""


PEFT_PREFIX = "peft:"
"""``peft:oft`` and the like: any tuner that PEFT has for linear layers, with ``--peft key=value`` for its options."""

PIXEL_REGRESSION = "pixel-regression"
"""A rival from outside, in comparisons only: logistic regression on raw pixels, which knows nothing but the shots."""


def method_spec(name: str) -> MethodSpec:
    """The method of this name or alias.

    Raises:
        UnknownNameError: There is none; the message offers the nearest names.
    """
    method, _ = resolve_alias(name)
    if re.fullmatch(rf"{PEFT_PREFIX}[a-z0-9_]+", method):
        tuner = method.removeprefix(PEFT_PREFIX).upper()
        return MethodSpec(method, "weights", f"PEFT's {tuner}, as it comes but for its place", _PLACE | {"peft"})
    if method not in METHODS:
        raise UnknownNameError("method", name, [*METHODS, *ALIASES, f"{PEFT_PREFIX}TYPE"])
    return METHODS[method]


def settled_spec(name: str) -> MethodSpec:
    """The method of this name or alias, if it is one by itself.

    Raises:
        UnknownNameError: There is none.
        InputError: It stands for others until ``fit`` has seen the shots.
    """
    spec = method_spec(name)
    if spec.kind == "choice":
        raise InputError(f"method {name} is one that fit chooses by the shots; expected a method by its own name here")
    return spec


def resolve_alias(method: str, quantize: Quantization | None = None) -> tuple[str, Quantization | None]:
    """Split names such as ``qlora`` into method and base precision; other names pass through.

    Args:
        method: A method or an alias.
        quantize: The base precision if one was asked for.

    Raises:
        InputError: An alias stands for another precision than the one asked for.
    """
    if method not in ALIASES:
        return method, quantize
    name, precision = ALIASES[method]
    if quantize not in (None, precision):
        raise InputError(f"method {method} means quantize {precision}, but quantize is {quantize!r}; say method {name}")
    return name, precision


def display_name(method: str, quantize: str) -> str:
    """The alias of a combination where it has one, else ``method+quantize``: the inverse of ``resolve_alias``."""
    for alias, combination in ALIASES.items():
        if combination == (method, quantize):
            return alias
    return method if quantize == "none" else f"{method}+{quantize}"
