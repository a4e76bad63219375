"""Every setting, once. These dataclasses are the command line, the recipe files, the records and the documentation.

Settings come from a preset, then a recipe file, then flags; later ones win. The dataclasses' own defaults are the
``paper`` preset: CLIP-LoRA's published hyper-parameters (arXiv 2405.18541, section 4), the same for every data set.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from ..errors import InputError, UnknownNameError
from ..methods import ALIASES, AUTO, PEFT_PREFIX, MethodSpec, Quantization, method_spec, resolve_alias

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Projection = Literal["q", "k", "v", "o", "fc1", "fc2"]
PROJECTIONS: tuple[Projection, ...] = ("q", "k", "v", "o", "fc1", "fc2")
POSITIONS = ("all", "bottom", "mid", "up", "half-bottom", "half-up", "top3")
TRACKERS = ("none", "tensorboard", "wandb", "mlflow", "trackio")
DRAWS = ("lowshot", "coop", "clip-lora")
"""Rules by which images are drawn; a draw may also be a list of images."""
COOP = "coop"
"""Stands for the data set's own template, as CoOp writes it."""
TEMPLATE_SETS: dict[str, tuple[str, ...]] = {
    COOP: (),
    "clip-7": (
        "itap of a {}.",
        "a bad photo of the {}.",
        "a origami {}.",
        "a photo of the large {}.",
        "a {} in a video game.",
        "art of the {}.",
        "a photo of the small {}.",
    ),
}
"""Names that stand for templates: `coop` for one that only the data set knows, `clip-7` for the seven that forward
selection over CLIP's eighty chose on ImageNet (openai/CLIP, notebooks/Prompt_Engineering_for_ImageNet.ipynb)."""


def _require(ok: bool, field: str, got: object, expected: str) -> None:
    if not ok:
        raise InputError(f"{field.replace('_', '-')} is {got!r}; expected {expected}")


_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30}


def parse_bytes(field: str, text: str) -> int:
    """``2GB``, ``1.5 GiB``, ``800 MB`` or ``0`` in bytes.

    Args:
        field: The setting's name, for the message.
        text: Its value.

    Raises:
        InputError: It is none of these.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMG]?i?B?)\s*", text, re.IGNORECASE | re.ASCII)
    unit = found[2].upper() if found else ""
    _require(found is not None and unit in _UNITS, field, text, "an amount such as 2GB or 800MB")
    assert found is not None
    return int(float(found[1]) * _UNITS[unit])


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The backbone."""

    model: str = "builtin"
    """`builtin`, a Hub id such as `openai/clip-vit-base-patch16`, or a folder in transformers format."""
    quantize: Quantization = "none"
    """Frozen weights in fewer bits: `none`, `nf4` (4 bits with double quantisation, as QLoRA) or `int8`."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Type of all that is frozen and computed; an adapter's numbers are always fp32. `auto`: on a CPU fp32, or bf16
    where quantised; on CUDA bf16, or fp16 where the device has no bf16."""
    adapter_precision: Literal["auto", "fp32", "base"] = "auto"
    """Type of LoRA's and LoRA-XS's own products in training: `fp32`, or that of the `base`. `auto`: on a CPU fp32, on
    CUDA that of the base, as the published code has it."""
    device: str = "auto"
    """`auto` (CUDA if there is one), `cpu`, `cuda` or `cuda:N`."""

    def __post_init__(self) -> None:
        _require(self.quantize in ("none", "nf4", "int8"), "quantize", self.quantize, "none, nf4 or int8")
        types = ("auto", "fp32", "bf16", "fp16")
        _require(self.precision in types, "precision", self.precision, "auto, fp32, bf16 or fp16")
        products = ("auto", "fp32", "base")
        _require(self.adapter_precision in products, "adapter_precision", self.adapter_precision, "auto, fp32 or base")


@dataclasses.dataclass(frozen=True)
class MethodConfig:
    """What is trained, and where in the backbone it sits."""

    method: str = "lora"
    """`lowshot methods` lists them; qlora, qdora and qlora-xs set `--quantize nf4` as well; `peft:TYPE` is PEFT's."""
    encoder: Literal["both", "vision", "text"] = "both"
    """Which tower gets adapters."""
    projections: tuple[Projection, ...] = ("q", "k", "v")
    """Which linear layers of a block get adapters: of attention (q, k, v, o) and of the MLP (fc1, fc2)."""
    position: str = "all"
    """Which layers of each tower: all, bottom, mid, up (thirds), half-bottom, half-up, top3, or a list: `0,1,11`."""
    rank: int = 2
    """Rank r of the update."""
    rank_by_depth: Literal["uniform", "increasing", "decreasing"] = "uniform"
    """Whether all layers of a tower have this rank, or deep ones more (`increasing`) or less (`decreasing`), with this
    rank as the mean: the number of parameters stays what it is."""
    alpha: float = 1.0
    """Scale of the update before `scaling` divides it."""
    scaling: Literal["sqrt-rank", "rank"] = "sqrt-rank"
    """Update times alpha/sqrt(r) (CLIP-LoRA) or alpha/r (LoRA's own paper)."""
    dropout: float = 0.25
    """Probability of dropping an entry of the adapter's input while training."""
    shrinkage: float = 0.0
    """Pulls what was learnt back towards the backbone as it was, the more the fewer the shots: of the update
    shots/(shots + shrinkage) is kept, as WiSE-FT interpolates weights. 0 keeps all of it."""
    context: int = 16
    """Trained tokens before the words of a prompt."""
    openings: tuple[str, ...] = ()
    """Words that those tokens start as, cut off after so many tokens; else they start at random. Several make as many
    prompts of each."""
    first_stage: float = 0.6
    """Share of the optimiser steps that `2sfs` spends on layer norms; the classifier has the rest."""
    vision_prompts: int = 4
    """Times that the vision tower sees an image, each with two trained tokens of its own."""
    time_budget: float = 60.0
    """Seconds that `auto` may take to try methods on the shots and to train the one it chooses. What does not fit in is
    not tried."""
    peft: tuple[str, ...] = ()
    """Options of a `peft:TYPE` method, each `key=value` with the value as in JSON or a bare word."""

    def __post_init__(self) -> None:
        spec = method_spec(self.method)
        _require(self.encoder in ("both", "vision", "text"), "encoder", self.encoder, "both, vision or text")
        known = bool(self.projections) and all(projection in PROJECTIONS for projection in self.projections)
        _require(known, "projections", self.projections, f"one or more of {', '.join(PROJECTIONS)}")
        if len(set(self.projections)) < len(self.projections):
            object.__setattr__(self, "projections", tuple(dict.fromkeys(self.projections)))
        named = self.position in POSITIONS or re.fullmatch(r"[0-9]{1,4}(,[0-9]{1,4})*", self.position) is not None
        _require(named, "position", self.position, f"one of {', '.join(POSITIONS)}, or layers such as 0,1,11")
        _require(self.rank >= 1, "rank", self.rank, "1 or more")
        courses = ("uniform", "increasing", "decreasing")
        _require(self.rank_by_depth in courses, "rank_by_depth", self.rank_by_depth, ", ".join(courses))
        if self.rank_by_depth != "uniform":
            _require(self.rank >= 2, "rank", self.rank, f"2 or more with rank-by-depth {self.rank_by_depth}")
        _require(0 < self.first_stage < 1, "first_stage", self.first_stage, "a share above 0 and below 1")
        _require(math.isfinite(self.alpha) and self.alpha > 0, "alpha", self.alpha, "a number above 0")
        _require(self.scaling in ("sqrt-rank", "rank"), "scaling", self.scaling, "sqrt-rank or rank")
        _require(0 <= self.dropout < 1, "dropout", self.dropout, "a probability below 1")
        shrinkage = self.shrinkage
        _require(math.isfinite(shrinkage) and shrinkage >= 0, "shrinkage", shrinkage, "a number of 0 or more")
        _require(self.context >= 1, "context", self.context, "1 or more")
        _require(self.vision_prompts >= 1, "vision_prompts", self.vision_prompts, "1 or more")
        words = all(isinstance(opening, str) and opening.strip() for opening in self.openings)
        _require(words, "openings", self.openings, "words such as 'a photo of a'")
        budget = self.time_budget
        _require(math.isfinite(budget) and budget > 0, "time_budget", budget, "a number of seconds above 0")
        for option in self.peft:
            fits = isinstance(option, str) and re.fullmatch(r"\w+=.*", option) is not None
            _require(fits, "peft", option, "key=value")
        self._refuse_idle_settings(spec)

    def _refuse_idle_settings(self, spec: MethodSpec) -> None:
        """A setting that the method has no use for would look as if it did something."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name not in {"method", *spec.settings} and value != field.default:
                if spec.kind == "choice":
                    raise InputError(
                        f"{field.name} is {value!r}, but no method is named that has it; expected one, such as "
                        "--method lora"
                    )
                obeyed = ", ".join(sorted(spec.settings)) or "none"
                raise InputError(
                    f"{field.name} is {value!r}, but method {self.method} has no {field.name}; leave it out "
                    f"(settings of {self.method}: {obeyed})"
                )


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """How the trainable parameters are found."""

    steps_per_shot: int = 500
    """Optimiser steps for each shot: 16 shots train 16 times as long as one."""
    base_steps: int = 0
    """Optimiser steps added to that, whatever the shots."""
    batch_size: int = 32
    """Images of an optimiser step, where `gradient_accumulation_steps` is 1. How many go through the model at once is
    the engine's affair."""
    gradient_accumulation_steps: int = 1
    """Batches whose gradients are averaged into one optimiser step."""
    optimizer: Literal["adamw", "paged-adamw-8bit", "sgd"] = "adamw"
    """`adamw` in fp32, bitsandbytes' `paged-adamw-8bit`, which needs a CUDA device, or `sgd` with momentum 0.9."""
    learning_rate: float = 2e-4
    """Learning rate at the first step; a cosine brings it down."""
    minimum_learning_rate: float = 1e-6
    """Where the cosine ends."""
    weight_decay: float = 1e-2
    """Weight decay: AdamW's is decoupled, that of `sgd` is added to the gradient."""
    crop_minimum: float = 0.08
    """Smallest share of an image's area that a random training crop keeps; 1 trains on whole images."""
    flip: bool = True
    """Mirror half of the training images. Not for characters and signs."""
    views: int | None = None
    """A fixed number of crops of each image instead of a new one in every step; what is not trained is then computed
    once for each. Not the protocol of the papers. Methods on frozen features learn from these crops; if it is not
    given, from the images as they are judged."""
    seed: int = 1
    """Draws the shots, initialises the adapter, orders and crops the images."""
    calibration_folds: int = 0
    """Parts, 2 or more, in which the shots are held out in turn, to learn how sure the classifier may be: a temperature
    for its probabilities, and sets of classes with a stated coverage. It takes as many trainings more. 0 for none."""

    def __post_init__(self) -> None:
        _require(self.steps_per_shot >= 0, "steps_per_shot", self.steps_per_shot, "0 or more")
        _require(self.base_steps >= 0, "base_steps", self.base_steps, "0 or more")
        _require(self.steps_per_shot + self.base_steps >= 1, "steps_per_shot", 0, "at least one step")
        _require(self.batch_size >= 1, "batch_size", self.batch_size, "1 or more")
        passes = self.gradient_accumulation_steps
        _require(passes >= 1, "gradient_accumulation_steps", passes, "1 or more")
        optimizers = ("adamw", "paged-adamw-8bit", "sgd")
        _require(self.optimizer in optimizers, "optimizer", self.optimizer, ", ".join(optimizers))
        for field in ("learning_rate", "minimum_learning_rate", "weight_decay"):
            value = getattr(self, field)
            _require(math.isfinite(value) and value >= 0, field, value, "a number of 0 or more")
        ends, begins = self.minimum_learning_rate, self.learning_rate
        _require(ends <= begins or begins == 0, "minimum_learning_rate", ends, f"at most learning-rate {begins:g}")
        _require(0 < self.crop_minimum <= 1, "crop_minimum", self.crop_minimum, "a share above 0, at most 1")
        _require(self.views is None or self.views >= 1, "views", self.views, "1 or more")
        _require(0 <= self.seed < 2**31, "seed", self.seed, "a whole number from 0 to 2147483647")
        folds = self.calibration_folds
        _require(folds == 0 or folds >= 2, "calibration_folds", folds, "0 for none, or 2 or more")


@dataclasses.dataclass(frozen=True)
class EngineConfig:
    """How the arithmetic is cut up, kept and watched: time and memory, never the result."""

    images_per_pass: int | None = None
    """Images that go through the vision tower at once while training; as many as suit the machine if not given."""
    prompts_per_pass: int | None = None
    """Prompts that go through the text tower at once while training; fewer than all are computed twice."""
    memory_budget: str | None = None
    """Most memory that training may take, such as `2GB`: the whole process on a CPU, what is allocated on CUDA."""
    gradient_checkpointing: bool = False
    """Compute each block's activations again in the backward pass instead of keeping them: less memory, more time."""
    cuda_graph: bool = True
    """On CUDA, record a training step once and replay it, so that the device never waits for the processor; where that
    cannot be done it is said, and each step is launched by itself, as it is with `--no-cuda-graph`."""
    image_memory: str = "1GB"
    """Most memory for decoded training images; those beyond it are kept on disk."""
    image_disk: str = "20GB"
    """Most space for decoded training images in a temporary file; those beyond it are decoded each time."""
    threads: int | None = None
    """Processor threads that torch computes with; as many as there are cores if not given. On a busy machine one is
    often faster than two."""
    checkpoint_seconds: float = 60.0
    """Time between two checkpoints of a training run, from which it goes on if it is killed; 0 for one every step."""
    report_to: str = "none"
    """Experiment tracker that gets the settings, the course of training and the record's figures: `none`,
    `tensorboard`, `wandb`, `mlflow` or `trackio`."""
    logging_steps: int = 10
    """Optimiser steps between two reports to the tracker; the loss and the time of a step are means over them."""

    def __post_init__(self) -> None:
        if self.report_to not in TRACKERS:
            raise UnknownNameError("tracker", self.report_to, TRACKERS)
        for field in ("images_per_pass", "prompts_per_pass", "threads", "logging_steps"):
            value = getattr(self, field)
            _require(value is None or value >= 1, field, value, "1 or more")
        for field in ("image_memory", "image_disk"):
            parse_bytes(field, getattr(self, field))
        if self.memory_budget is not None:
            amount = parse_bytes("memory_budget", self.memory_budget)
            _require(amount > 0, "memory_budget", self.memory_budget, "an amount such as 2GB or 800MB")
        seconds = self.checkpoint_seconds
        _require(math.isfinite(seconds) and seconds >= 0, "checkpoint_seconds", seconds, "a number of 0 or more")


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which images, and how classes are put into words."""

    shots: int | None = None
    """Images per class to learn from; all of them if not given."""
    draw: str = "lowshot"
    """Which images those are: ranked by a hash of seed and image (`lowshot`), what CoOp or CLIP-LoRA draw for the seed
    (`coop`, `clip-lora`), a file `.jsonl` that lists them, or the folder of an adapter that learnt from them."""
    protocol: Literal["few-shot", "base-to-new", "cross-dataset", "domain-generalisation"] = "few-shot"
    """What is learnt and judged: all classes (`few-shot`); the first half of them is learnt and both halves are judged
    (`base-to-new`); all are learnt, and `targets` are judged too (`cross-dataset`, `domain-generalisation`)."""
    targets: tuple[str, ...] = ()
    """Data sets that a transfer is judged on as well, each in its own classes: anything that `lowshot fit` takes. For
    imagenet the papers' ten, or four shifts, if not given."""
    template: tuple[str, ...] = ("a photo of a {}.",)
    """Prompts of a class, of which the embeddings are averaged; `{}` stands for its name. `coop` stands for the data
    set's own template as CoOp writes it, `clip-7` for seven by OpenAI."""
    class_names: str | None = None
    """JSON file `{"class": "what to say"}` or `{"class": ["several", "synonyms"]}`: put into templates in place of the
    class's name. Labels stay what they are."""
    descriptions: str | None = None
    """JSON file `{"class": ["A whole sentence.", ...]}`: prompts of the class beside those of the templates."""
    root: str | None = None
    """Folder that holds the data sets of the catalogue; `$LOWSHOT_DATA` if not given."""
    on_bad_image: Literal["error", "skip"] = "error"
    """An image that cannot be read: stop, or leave it out and say how many were."""

    def __post_init__(self) -> None:
        _require(self.shots is None or self.shots >= 1, "shots", self.shots, "1 or more")
        _require(self.draw != "", "draw", "", f"{', '.join(DRAWS)}, a file or a folder")
        _require(bool(self.template), "template", self.template, "one or more")
        for template in self.template:
            fits = isinstance(template, str) and (template in TEMPLATE_SETS or template.count("{}") == 1)
            named = ", ".join(TEMPLATE_SETS)
            _require(fits, "template", template, f"exactly one {{}} for the class name, or one of {named}")
        for field in ("class_names", "descriptions"):
            _require(getattr(self, field) != "", field, "", "the path of a JSON file")
        _require(self.on_bad_image in ("error", "skip"), "on_bad_image", self.on_bad_image, "error or skip")
        self._check_protocol()

    def _check_protocol(self) -> None:
        protocols = ("few-shot", "base-to-new", "cross-dataset", "domain-generalisation")
        _require(self.protocol in protocols, "protocol", self.protocol, ", ".join(protocols))
        names = all(isinstance(target, str) and target for target in self.targets)
        _require(names, "targets", self.targets, "names or paths of data sets")
        _require(len(set(self.targets)) == len(self.targets), "targets", self.targets, "each of them once")
        if self.targets and self.protocol in ("few-shot", "base-to-new"):
            raise InputError(
                f"targets are given, but protocol {self.protocol} has no use for them; "
                "leave them out, or say cross-dataset or domain-generalisation"
            )


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything that determines a trained classifier besides the images themselves.

    An alias such as ``qlora`` for a method sets the base precision too and is stored as what it stands for.
    """

    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    method: MethodConfig = dataclasses.field(default_factory=MethodConfig)
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    engine: EngineConfig = dataclasses.field(default_factory=EngineConfig)

    def __post_init__(self) -> None:
        if self.method.method in ALIASES:
            method, quantize = ALIASES[self.method.method]
            object.__setattr__(self, "method", dataclasses.replace(self.method, method=method))
            object.__setattr__(self, "model", dataclasses.replace(self.model, quantize=quantize))

    def replace(self, **settings: Any) -> Recipe:
        """A copy with some settings changed, named as on the command line: ``recipe.replace(rank=4, shots=16)``.

        Raises:
            UnknownNameError: No setting has this name.
            InputError: A value is out of range or of the wrong type, or an alias contradicts ``quantize``.
        """
        if settings.get("method") in ALIASES:
            settings["method"], settings["quantize"] = resolve_alias(settings["method"], settings.get("quantize"))
        changes: dict[str, dict[str, Any]] = {}
        for name, value in settings.items():
            if name not in SETTINGS:
                raise UnknownNameError("setting", name, SETTINGS)
            changes.setdefault(SETTINGS[name], {})[name] = value
        sections = {}
        for section, values in changes.items():
            current = getattr(self, section)
            sections[section] = dataclasses.replace(current, **{k: _coerced(current, k, v) for k, v in values.items()})
        return dataclasses.replace(self, **sections)

    def settings(self) -> dict[str, Any]:
        """All settings by name, flat."""
        return {name: getattr(getattr(self, section), name) for name, section in SETTINGS.items()}

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Nested plain values, as in a recipe file or a record."""
        return {
            section: {name: list(value) if isinstance(value, tuple) else value for name, value in vars(config).items()}
            for section, config in vars(self).items()
        }

    @classmethod
    def from_dict(cls, sections: Mapping[str, Mapping[str, Any]], base: Recipe | None = None) -> Recipe:
        """Read what ``to_dict`` or a recipe file gives, on top of ``base``; unknown sections and keys are refused."""
        settings: dict[str, Any] = {}
        known = {field.name for field in dataclasses.fields(cls)}
        for section, values in sections.items():
            if section not in known:
                raise UnknownNameError("recipe section", section, known)
            if not isinstance(values, Mapping):
                raise InputError(f"recipe section [{section}] is {values!r}; expected a table of settings")
            for name in values:
                if SETTINGS.get(name) != section:
                    raise UnknownNameError(
                        f"setting in [{section}]", name, [n for n, s in SETTINGS.items() if s == section]
                    )
            settings.update(values)
        return (base or cls()).replace(**settings)

    def refuse_idle_training(self) -> None:
        """For whoever trains: a setting that the method has no use for would look as if it did something.

        Raises:
            InputError: Some setting in ``[training]`` is not the default, and the method does not obey it.
        """
        obeyed = method_spec(self.method.method).training
        if obeyed is None or self.method.method == AUTO:  # which knows the preset it is of
            return
        for field in dataclasses.fields(self.training):
            value = getattr(self.training, field.name)
            if field.name not in obeyed and value != field.default:
                raise InputError(
                    f"{field.name.replace('_', '-')} is {value!r}, but method {self.method.method} has no use for it; "
                    f"leave it out (training settings of {self.method.method}: {', '.join(sorted(obeyed))})"
                )

    def steps(self, shots: int) -> int:
        """Optimiser steps for this many shots."""
        return self.training.base_steps + self.training.steps_per_shot * shots


SETTINGS: dict[str, str] = {setting: section for section, config in vars(Recipe()).items() for setting in vars(config)}
"""Every setting and the section of the recipe it belongs to. Names are unique over all sections."""

_Value = TypeVar("_Value")
_TEXTS = ("memory_budget", "root", "class_names", "descriptions")  # of the settings that are not set by default


def _coerced(section: object, name: str, value: Any) -> Any:
    """TOML and JSON have lists for tuples and whole numbers for floats; anything else must already fit."""
    default = getattr(type(section), name)  # a field's default, which its class has under the field's name
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(default, tuple) and isinstance(value, list):
        return tuple(value)
    if name == "template" and isinstance(value, str):
        return (value,)
    if name == "peft" and isinstance(value, Mapping):
        return tuple(f"{key}={json.dumps(option, default=str)}" for key, option in value.items())
    if isinstance(default, float) and type(value) is int and abs(value) < 1 << 64:
        return float(value)
    expected = (str if name in _TEXTS else int, type(None)) if default is None else (type(default),)
    if not isinstance(value, expected) or (isinstance(value, bool) and bool not in expected):
        wanted = " or ".join(t.__name__ for t in expected)
        raise InputError(f"{name.replace('_', '-')} is {value!r}; expected {wanted}")
    return value


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
        used = uses.get(SETTINGS.get(name, ""))
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


def read_recipe(path: Path, base: Recipe | None = None) -> Recipe:
    """Read a TOML recipe file on top of ``base``.

    Raises:
        InputError: The file is missing or is not TOML, or a section, key or value does not fit.
    """
    return Recipe.from_dict(read_toml(path), base)


def read_toml(path: Path) -> dict[str, Any]:
    """The sections of a recipe file, as they stand there.

    Raises:
        InputError: The file is missing or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"recipe {path} does not exist") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"recipe {path} cannot be read: {error}") from error
