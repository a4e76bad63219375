"""The table of methods: one row for each."""

from __future__ import annotations

from typing import Any

from .row import HAS_CLASSIFIER, NOTHING, PROJECTIONS, MethodSpec, Quantization, Settings

AUTO = "auto"
"""Stands for whichever method ``fit`` chooses by the shots."""
ZERO_SHOT = "zero-shot"
PEFT_PREFIX = "peft:"
"""``peft:oft`` and the like: any tuner that PEFT has for linear layers, with ``--peft key=value`` for its options."""
PIXEL_REGRESSION = "pixel-regression"
"""A rival from outside, in comparisons only: logistic regression on raw pixels, which knows nothing but the shots."""
BEST = "best"
BEST_OF = {"paper": BEST, "builtin": "builtin-best"}
"""Default preset -> the one of the best settings that are known, on top of it."""

ALIASES: dict[str, tuple[str, Quantization]] = {
    "qlora": ("lora", "nf4"),
    "qlora-xs": ("lora-xs", "nf4"),
    "qdora": ("dora", "nf4"),
}
"""Method and base precision are two choices; these names make both at once."""

# --- Settings that methods obey: in [method], then in [training] ------------------------------------------------------

_LAYERS = frozenset({"encoder", "position"})
_PLACE = _LAYERS | {"projections"}
_CONTEXT = frozenset({"context", "openings"})
_LOW_RANK = _PLACE | {"rank", "alpha", "scaling", "dropout"}
_SHRINKABLE = frozenset({"shrinkage"})  # what these add to a weight is linear in their last factor
_SEEDED = frozenset({"seed", "calibration_folds", "reject"})
_ON_VIEWS = _SEEDED | {"views", "crop_minimum", "flip"}
_BY_DESCENT = _ON_VIEWS | {"learning_rate", "minimum_learning_rate", "weight_decay", "batch_size"}

# --- Presets that several methods share -------------------------------------------------------------------------------

# Chosen by tools/choose_preset.py on validation splits of glyph tasks; its table is in docs/concepts/builtin.md.
_BUILTIN: Settings = {"base_steps": 60, "steps_per_shot": 9, "batch_size": 16, "crop_minimum": 0.6, "flip": False}
_BUILTIN_LORA: Settings = {**_BUILTIN, "dropout": 0.0, "rank": 8, "learning_rate": 8e-3}
# A tenth of the steps, each ten times as long: tools/compare_on_validation.py, docs/concepts/fast.md.
_FAST: Settings = {"steps_per_shot": 50, "learning_rate": 2e-3}
# What beats LoRA with three quarters of its numbers, on validation splits of glyph tasks and with the built-in model:
# tools/compare_on_validation.py, docs/concepts/best.md. On other models it was not measured.
_BEST_LORA: Settings = {"projections": PROJECTIONS, "rank": 2, "shrinkage": 1.0}
# Heads: what their papers say of the views of the shots, and of the training where there is any.
_TEN_VIEWS: Settings = {"views": 10, "crop_minimum": 0.5}
_TRAINED_HEAD: Settings = {"views": 10, "batch_size": 256, "minimum_learning_rate": 0.0}
# Characters are not mirrored; learning rates by tools/choose_preset.py, the table is in docs/concepts/rivals.md.
_UPRIGHT: Settings = {"crop_minimum": 0.5, "flip": False}
# Prompt learners: CoOp's optimiser, and nothing around a class's name but a full stop and what is trained.
_PROMPTS: Settings = {
    "template": ("{}.",),
    "optimizer": "sgd",
    "learning_rate": 2e-3,
    "minimum_learning_rate": 0.0,
    "weight_decay": 5e-4,
}
# PLOT++: what its code has for data sets of things in general; two stages, each as long as CoOp's training.
_OPENINGS = ("a photo of a", "this is a photo", "this is picture of", "one picture of a")
_PLOT: Settings = {**_PROMPTS, "context": 4, "openings": _OPENINGS, "steps_per_shot": 1000}
# The built-in model has never seen prompts of twenty tokens. Learning rates by tools/choose_preset.py, the table is in
# docs/concepts/prompt-learners.md.
_BUILTIN_PROMPTS: Settings = {**_PROMPTS, **_BUILTIN, "context": 4, "optimizer": "adamw", "learning_rate": 1e-2}

# --- The table --------------------------------------------------------------------------------------------------------

_ADDS_NONE = "it trains parameters the model has, and PEFT adds none for them"
_ON_UNIT_EMBEDDINGS = "it scores embeddings of length 1, and transformers' image classifiers average those of patches"
_TRAINED_CLASSIFIER = (
    "the vision tower alone, and a trained classifier that starts from the shots' means: not in the paper"
)
_TRAINS_INPUTS = "what it trains are tokens at the inputs of the towers, which no weights hold"


def _presets(paper: Settings = NOTHING, builtin: Settings = NOTHING, **others: Settings) -> dict[str, Settings]:
    return {"paper": paper, "builtin": builtin, **{name.replace("_", "-"): values for name, values in others.items()}}


def _head(
    name: str,
    code: str,
    summary: str,
    training: frozenset[str],
    paper: Settings = NOTHING,
    *,
    without_text: str = "",
    learns_several: bool = False,
    **builtin: Any,
) -> MethodSpec:
    """A method on frozen features; what the built-in model has otherwise is on top of the paper's settings."""
    return MethodSpec(
        name,
        "features",
        summary,
        code,
        learner="head_learner:HeadLearner",
        training=training,
        presets=_presets(paper, {**paper, **builtin}),
        without_text=without_text,
        why_not_in_peft="it has no adapter",
        why_not_merged=_ON_UNIT_EMBEDDINGS,
        learns_several=learns_several,
        served=True,
    )


_ROWS = (
    MethodSpec(
        ZERO_SHOT,
        "features",
        "cosine similarity of image and class prompt; nothing is trained",
        learner="head_learner:HeadLearner",
        training=_SEEDED,
        presets=_presets(fast=NOTHING, best=NOTHING, builtin_best=NOTHING),
        learns=False,
        why_not_in_peft="nothing was trained",
        learns_several=True,
        served=True,
        taught=True,
    ),
    MethodSpec(
        "lora",
        "weights",
        "CLIP-LoRA: low-rank updates in both towers (arXiv 2405.18541)",
        "peft_adapter:add_lora",
        prepares="ranks:refuse_large_ranks",
        settings=_LOW_RANK | _SHRINKABLE | {"rank_by_depth"},
        presets=_presets(
            builtin=_BUILTIN_LORA, fast=_FAST, best=_BEST_LORA, builtin_best={**_BUILTIN_LORA, **_BEST_LORA}
        ),
        served=True,
        taught=True,
        without_text=_TRAINED_CLASSIFIER,
        learns_several=True,
    ),
    MethodSpec(
        "lora-xs",
        "weights",
        "only an r x r matrix per projection, between its singular vectors (2405.17604)",
        "peft_adapter:add_lora_xs",
        prepares="lora_xs.basis:prepare",
        settings=_LOW_RANK | _SHRINKABLE | {"basis_side"},
        presets=_presets(
            {"rank": 32, "basis_side": "output"},  # CLIP-LoRA-XS keeps all the rest of CLIP-LoRA's (its table 1)
            {**_BUILTIN_LORA, "rank": 16, "learning_rate": 2e-2},
            # LoRA-XS's own code for GLUE: alpha/r with alpha 16, the highest of its rates, torch's weight decay.
            lora_xs_official={"rank": 16, "alpha": 16.0, "scaling": "rank", "learning_rate": 1e-3, "dropout": 0.0},
        ),
        served=True,
        taught=True,
        without_text=_TRAINED_CLASSIFIER,
        learns_several=True,
    ),
    MethodSpec(
        "dora",
        "weights",
        "LoRA on the direction of each weight, its magnitude trained apart (2402.09353)",
        "peft_adapter:add_dora",
        prepares="ranks:refuse_large_ranks",
        settings=_LOW_RANK | {"rank_by_depth"},
        presets=_presets(builtin=_BUILTIN_LORA),
        without_text=_TRAINED_CLASSIFIER,
        learns_several=True,
    ),
    MethodSpec(
        "clip-svd",
        "weights",
        "CLIP-SVD: the singular values of the weights (2509.03740)",
        "clip_svd:add_singular_values",
        prepares="clip_svd:prepare",
        settings=_PLACE,
        presets=_presets(
            {"projections": PROJECTIONS, "steps_per_shot": 200, "learning_rate": 5e-4},
            {**_BUILTIN, "projections": PROJECTIONS, "learning_rate": 3e-2},
        ),
        why_not_quantised="keeps all singular vectors of the weights, which take more memory than fewer bits save",
        why_not_in_peft="it changes all singular values, which as LoRA would be factors larger than the weights",
        without_text=_TRAINED_CLASSIFIER,
        learns_several=True,
    ),
    MethodSpec(
        "2sfs",
        "weights",
        "layer norms first, then a linear classifier on frozen towers (2503.11609)",
        "parameters:add_layer_norms",
        learner="two_stage:TwoStageLearner",
        settings=_LAYERS | {"first_stage"},
        presets=_presets({"steps_per_shot": 300}, {**_BUILTIN, "learning_rate": 3e-3}),
        has_classifier=True,
        why_no_rows="its classes are rows of a classifier that was trained by itself",
        why_not_in_peft=HAS_CLASSIFIER,
        why_not_merged=HAS_CLASSIFIER,
    ),
    # No paper trains the next three by CLIP-LoRA's procedure: they are points of reference under it.
    MethodSpec(
        "layernorm",
        "weights",
        "scale and shift of the layer norms, and nothing else",
        "parameters:add_layer_norms",
        settings=_LAYERS,
        presets=_presets(builtin={**_BUILTIN, "learning_rate": 3e-2}),
        why_not_in_peft=_ADDS_NONE,
        without_text=_TRAINED_CLASSIFIER,
        learns_several=True,
    ),
    MethodSpec(
        "bitfit",
        "weights",
        "every bias, and nothing else (2106.10199)",
        "parameters:add_biases",
        settings=_LAYERS,
        presets=_presets(builtin={**_BUILTIN, "learning_rate": 3e-2}),
        why_not_in_peft=_ADDS_NONE,
        without_text=_TRAINED_CLASSIFIER,
        learns_several=True,
    ),
    MethodSpec(
        "full",
        "weights",
        "all weights of the towers: full fine-tuning",
        "parameters:add_all_weights",
        settings=frozenset({"encoder"}),
        presets=_presets({"learning_rate": 1e-5}, {**_BUILTIN, "learning_rate": 4e-4}),
        why_not_quantised="trains the weights themselves",
        why_not_in_peft="it trains all weights of the model",
        without_text=_TRAINED_CLASSIFIER,
        learns_several=True,
    ),
    MethodSpec(
        "coop",
        "prompts",
        "CoOp: trained tokens before the class names (2109.01134)",
        "context.adapter:add_text_tokens",
        settings=_CONTEXT,
        presets=_presets(_PROMPTS, {**_BUILTIN_PROMPTS, "openings": _OPENINGS[:1]}),
        why_not_in_peft=_TRAINS_INPUTS,
        why_not_merged=_TRAINS_INPUTS,
        learns_several=True,
    ),
    MethodSpec(
        "plot++",
        "prompts",
        "trained tokens in both towers, prompts and images compared by optimal transport (2210.01253)",
        "context.adapter:add_tokens_of_both",
        learner="plot:PlotLearner",
        settings=_CONTEXT | {"vision_prompts"},
        presets=_presets(_PLOT, {**_PLOT, **_BUILTIN_PROMPTS, "learning_rate": 3e-2}),
        why_not_in_peft=_TRAINS_INPUTS,
        why_not_merged=_TRAINS_INPUTS,
        why_no_rows="it compares several embeddings of an image with several of a class",
        why_not_in_graph="it sees an image several times, each time with trained tokens behind its patches",
    ),
    _head(
        "nearest-mean",
        "nearest_mean:NearestMean",
        "cosine similarity to the mean of each class's shots (1911.04623)",
        _ON_VIEWS,
        without_text="all of it, as published",
        learns_several=True,
    ),
    _head(
        "tip-adapter",
        "tip_adapter:TipAdapter",
        "a cache of the shots beside the class prompts (2207.09519)",
        _ON_VIEWS,
        _TEN_VIEWS,
        **_UPRIGHT,
    ),
    _head(
        "gda",
        "gda:GaussianDiscriminant",
        "Gaussians of one covariance beside the class prompts (2402.04087)",
        _ON_VIEWS,
        _TEN_VIEWS,
        without_text="the Gaussians alone, which the paper has as its classifier of images",
        **_UPRIGHT,
    ),
    _head(
        "proker",
        "proker:ProKeR",
        "kernel ridge regression on what the prompts leave over (2501.11175)",
        _ON_VIEWS,
        without_text="the regression alone, of the labels themselves: not in the paper",
        learns_several=True,
    ),
    _head(
        "linear-probe",
        "linear_probe:LinearProbe",
        "logistic regression on the embeddings (2103.00020)",
        _ON_VIEWS,
        without_text="all of it, as published",
        learns_several=True,
    ),
    _head(
        "lp++",
        "lp_plus_plus:LinearProbePlusPlus",
        "a linear probe that blends images and prompts by class (2404.02285)",
        _ON_VIEWS,
        {"views": 1, "crop_minimum": 0.5},
        **_UPRIGHT,
    ),
    _head(
        "tip-adapter-f",
        "tip_adapter:TipAdapterF",
        "Tip-Adapter with its keys fine-tuned (2207.09519)",
        _BY_DESCENT,
        {**_TRAINED_HEAD, "crop_minimum": 0.5, "learning_rate": 1e-3},
        **_UPRIGHT,
        learning_rate=3e-2,
    ),
    _head(
        "clip-adapter",
        "clip_adapter:ClipAdapter",
        "a bottleneck after the vision tower (2110.04544)",
        _BY_DESCENT,
        {**_TRAINED_HEAD, "batch_size": 32, "learning_rate": 1e-5, "weight_decay": 0.0},
        **_UPRIGHT,
        learning_rate=3e-3,
    ),
    _head(
        "task-res",
        "task_res:TaskRes",
        "a residual of each class embedding (2211.10277)",
        _BY_DESCENT,
        {**_TRAINED_HEAD, "learning_rate": 2e-3, "weight_decay": 5e-4},
        **_UPRIGHT,
        learning_rate=1e-1,
    ),
    MethodSpec(
        AUTO,
        "choice",
        "whichever does best on held-out shots within a time budget",
        settings=frozenset({"time_budget"}),
        training=_SEEDED | {"flip"},  # what means the same to all that it may choose
        presets=_presets(builtin=_BUILTIN),
        learns_several=True,
        taught=True,
    ),
)
METHODS = {row.name: row for row in _ROWS}
"""Name -> row, in the order in which they are listed."""


def peft_method(name: str) -> MethodSpec:
    """The row of a method ``peft:TYPE``."""
    tuner = name.removeprefix(PEFT_PREFIX).upper()
    return MethodSpec(
        name,
        "weights",
        f"PEFT's {tuner}, as it comes but for its place",
        "peft_adapter:add_tuner",
        settings=_PLACE | {"peft"},
        presets=_presets(builtin={**_BUILTIN, "learning_rate": 2e-3}),
        without_text=_TRAINED_CLASSIFIER,
        learns_several=True,
    )
