"""Presets: named settings of each method, which settings start from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import InputError, UnknownNameError
from ..methods import AUTO, PEFT_PREFIX, method_spec
from .recipe import SETTINGS, Recipe
from .sections import PROJECTIONS

# Chosen by tools/choose_preset.py on validation splits of glyph tasks; its table is in docs/concepts/builtin.md.
_BUILTIN_TRAINING = {
    "base_steps": 60,
    "steps_per_shot": 9,
    "batch_size": 16,
    "crop_minimum": 0.6,
    "flip": False,
}
_BUILTIN_LORA = {**_BUILTIN_TRAINING, "dropout": 0.0, "rank": 8, "learning_rate": 8e-3}

# Heads on frozen features: what their papers say of the views of the shots, and of the training where there is any.
_TEN_VIEWS = {"views": 10, "crop_minimum": 0.5}
_TRAINED_HEAD = {"views": 10, "batch_size": 256, "minimum_learning_rate": 0.0}
_PAPER_HEADS: dict[str, dict[str, Any]] = {
    "nearest-mean": {},
    "tip-adapter": _TEN_VIEWS,
    "gda": _TEN_VIEWS,
    "proker": {},
    "linear-probe": {},
    "lp++": {"views": 1, "crop_minimum": 0.5},
    "tip-adapter-f": {**_TRAINED_HEAD, "crop_minimum": 0.5, "learning_rate": 1e-3},
    "clip-adapter": {**_TRAINED_HEAD, "batch_size": 32, "learning_rate": 1e-5, "weight_decay": 0.0},
    "task-res": {**_TRAINED_HEAD, "learning_rate": 2e-3, "weight_decay": 5e-4},
}
# Characters are not mirrored; learning rates by tools/choose_preset.py, the table is in docs/concepts/rivals.md.
_UPRIGHT = {"crop_minimum": 0.5, "flip": False}
_BUILTIN_HEADS: dict[str, dict[str, Any]] = {
    "tip-adapter": _UPRIGHT,
    "gda": _UPRIGHT,
    "lp++": _UPRIGHT,
    "tip-adapter-f": {**_UPRIGHT, "learning_rate": 3e-2},
    "clip-adapter": {**_UPRIGHT, "learning_rate": 3e-3},
    "task-res": {**_UPRIGHT, "learning_rate": 1e-1},
}

# Prompt learners: CoOp's optimiser, and nothing around a class's name but a full stop and what is trained.
_PAPER_PROMPTS = {
    "template": ("{}.",),
    "optimizer": "sgd",
    "learning_rate": 2e-3,
    "minimum_learning_rate": 0.0,
    "weight_decay": 5e-4,
}
# PLOT++: what its code has for data sets of things in general; two stages, each as long as CoOp's training.
_OPENINGS = ("a photo of a", "this is a photo", "this is picture of", "one picture of a")
_PAPER_PLOT = {**_PAPER_PROMPTS, "context": 4, "openings": _OPENINGS, "steps_per_shot": 1000}
# The built-in model has never seen prompts of twenty tokens. Learning rates by tools/choose_preset.py, the table is in
# docs/concepts/prompt-learners.md.
_BUILTIN_PROMPTS = {**_PAPER_PROMPTS, **_BUILTIN_TRAINING, "context": 4, "optimizer": "adamw", "learning_rate": 1e-2}

# A tenth of the steps, each ten times as long. Chosen by tools/choose_fast.py; its table is in docs/concepts/fast.md.
_FAST = {"steps_per_shot": 50, "learning_rate": 2e-3}

# What beats LoRA with three quarters of its numbers, on validation splits of glyph tasks and with the built-in model:
# tools/compare_on_validation.py, docs/concepts/best.md. On other models it was not measured.
BEST = "best"
BEST_OF = {"paper": BEST, "builtin": "builtin-best"}
"""Default preset -> the one of the best settings that are known, on top of it."""
_BEST_LORA = {"projections": PROJECTIONS, "rank": 2, "shrinkage": 1.0}

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "paper": {
        # CLIP-LoRA's fixed hyper-parameters are the dataclasses' defaults.
        AUTO: {},
        "zero-shot": {},
        "lora": {},
        "dora": {},
        # CLIP-LoRA-XS keeps them all but the rank (its table 1).
        "lora-xs": {"rank": 32},
        # No paper trains these by CLIP-LoRA's procedure: they are points of reference under it.
        "layernorm": {},
        "bitfit": {},
        "full": {"learning_rate": 1e-5},
        "clip-svd": {"projections": PROJECTIONS, "steps_per_shot": 200, "learning_rate": 5e-4},
        "2sfs": {"steps_per_shot": 300},
        "coop": _PAPER_PROMPTS,
        "plot++": _PAPER_PLOT,
        **_PAPER_HEADS,
        PEFT_PREFIX: {},
    },
    "builtin": {
        AUTO: _BUILTIN_TRAINING,
        "zero-shot": {},
        "lora": _BUILTIN_LORA,
        "dora": _BUILTIN_LORA,
        "lora-xs": {**_BUILTIN_LORA, "rank": 16, "learning_rate": 2e-2},
        "layernorm": {**_BUILTIN_TRAINING, "learning_rate": 3e-2},
        "bitfit": {**_BUILTIN_TRAINING, "learning_rate": 3e-2},
        "full": {**_BUILTIN_TRAINING, "learning_rate": 4e-4},
        "clip-svd": {**_BUILTIN_TRAINING, "projections": PROJECTIONS, "learning_rate": 3e-2},
        "2sfs": {**_BUILTIN_TRAINING, "learning_rate": 3e-3},
        "coop": {**_BUILTIN_PROMPTS, "openings": _OPENINGS[:1]},
        "plot++": {**_PAPER_PLOT, **_BUILTIN_PROMPTS, "learning_rate": 3e-2},
        **{name: {**settings, **_BUILTIN_HEADS.get(name, {})} for name, settings in _PAPER_HEADS.items()},
        PEFT_PREFIX: {**_BUILTIN_TRAINING, "learning_rate": 2e-3},
    },
    "fast": {
        "zero-shot": {},
        "lora": _FAST,
    },
    BEST: {
        "zero-shot": {},
        "lora": _BEST_LORA,
    },
    BEST_OF["builtin"]: {
        "zero-shot": {},
        "lora": {**_BUILTIN_LORA, **_BEST_LORA},
    },
    "lora-xs-official": {
        # The convention of LoRA-XS's own code: alpha/r with alpha 16, and a learning rate from its 1e-3 to 4e-3.
        "lora-xs": {"rank": 16, "alpha": 16.0, "scaling": "rank", "learning_rate": 1e-3, "dropout": 0.0},
    },
}
"""Preset -> method -> settings that differ from the dataclasses' defaults; ``peft:`` stands for every ``peft:TYPE``."""


def preset_recipe(preset: str, method: str) -> Recipe:
    """The recipe of a preset for a method (or alias).

    Raises:
        UnknownNameError: No such preset, or no such method.
        InputError: The preset is for other methods.
    """
    if preset not in PRESETS:
        raise UnknownNameError("preset", preset, PRESETS)
    name = method_spec(method).name
    settings = PRESETS[preset].get(PEFT_PREFIX if name.startswith(PEFT_PREFIX) else name)
    if settings is None:
        raise InputError(f"preset {preset} is for {', '.join(PRESETS[preset])}; expected another for method {name}")
    return Recipe().replace(method=method).replace(**settings)


def obeyed(method: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """These settings without those in ``[method]`` and ``[training]`` that a method (or alias) has no use for.

    Raises:
        UnknownNameError: No such method.
    """
    spec = method_spec(method)
    uses = {"method": spec.settings, "training": spec.training}

    def is_obeyed(name: str) -> bool:
        used = uses.get(SETTINGS[name].section if name in SETTINGS else "")
        return name == "method" or used is None or name in used

    return {name: value for name, value in settings.items() if is_obeyed(name)}


def changes_of(preset: str, recipe: Recipe) -> dict[str, tuple[Any, Any]]:
    """What a recipe made from this preset has other than its method has in ``paper``, of what the preset decides.

    Returns:
        Setting -> its value in the recipe, and in ``paper``. Empty for ``paper`` itself.
    """
    method = recipe.method.method
    decided, paper = (preset_recipe(name, method).settings() for name in (preset, "paper"))
    here = recipe.settings()
    return {
        name: (here[name], published)
        for name, published in paper.items()
        if decided[name] != published and here[name] != published
    }


def default_method(preset: str) -> str:
    """What ``fit`` does where no method is named: choose one, if the preset is not for certain methods only."""
    return AUTO if AUTO in PRESETS.get(preset, {}) else Recipe().method.method


def default_preset(model: str) -> str:
    """The published settings are for models of CLIP's size; the built-in one, a hundred times smaller, has its own."""
    return "builtin" if model == "builtin" else "paper"


def preset_for(model: str, named: str | None) -> str:
    """The preset that a model has by this name, or by none; ``best`` is on top of its default."""
    usual = default_preset(model)
    return (BEST_OF[usual] if named == BEST else named) or usual
