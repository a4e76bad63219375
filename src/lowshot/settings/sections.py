"""Every setting, once: its type, its default, its help, its range, and what it decides.

These rows are the command line, the recipe files, the records and the documentation. The defaults are the ``paper``
preset: CLIP-LoRA's published hyper-parameters (arXiv 2405.18541, section 4), the same for every data set.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Literal

from ..errors import InputError, UnknownNameError
from ..methods import PROJECTIONS, MethodSpec, Projection, Quantization, method_spec
from .row import AMOUNT, POSITIVE_AMOUNT, Decides, Section, Values, at_least, number, refusal, rows_of, setting, texts

Tower = Literal["vision", "text"]
TOWERS: tuple[Tower, ...] = ("text", "vision")
POSITIONS = ("all", "bottom", "mid", "up", "half-bottom", "half-up", "top3")
BasisSide = Literal["input", "output"]
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

_LAYERS = re.compile(r"[0-9]{1,4}(,[0-9]{1,4})*")
_NON_NEGATIVE = number("a number of 0 or more", lambda value: value >= 0)
_JSON_FILE = Values("the path of a JSON file", lambda path: path != "")


@dataclasses.dataclass(frozen=True)
class ModelConfig(Section):
    """The backbone."""

    model: str = setting("builtin", Decides.BACKBONE, movable=True)
    """`builtin`, `photos` (an extra), a Hub id such as `openai/clip-vit-base-patch16`, or a folder of transformers."""
    beside: str | None = setting(
        None, Decides.RESULT, Values("the name of a model", lambda name: name != ""), movable=True, younger=True
    )
    """A second image encoder, such as `photos` or `facebook/dinov2-base`, whose features stand behind the model's; for
    `nearest-mean`, `gda`, `proker` and `linear-probe`, and for `auto` to choose among these."""
    quantize: Quantization = setting("none", Decides.RESULT)
    """Frozen weights in fewer bits: `none`, `nf4` (4 bits with double quantisation, as QLoRA) or `int8`."""
    quantize_projection: bool = setting(False, Decides.RESULT, younger=True)
    """Whether `quantize` takes the projection after the vision tower too, as bitsandbytes does for a CLIP by itself."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = setting("auto", Decides.RESULT, movable=True)
    """Type of all that is frozen and computed; an adapter's numbers are always fp32. `auto`: on a CPU fp32, or bf16
    where quantised and the CPU multiplies bf16; on CUDA fp16 as CLIP-LoRA's own code, but bf16 for SigLIP, MetaCLIP 2
    and where quantised."""
    adapter_precision: Literal["auto", "fp32", "base"] = setting("auto", Decides.RESULT, younger=True)
    """Type of LoRA's and LoRA-XS's own products in training: `fp32`, or that of the `base`. `auto`: on a CPU fp32, on
    CUDA that of the base, as the published code has it."""
    device: str = setting("auto", Decides.MACHINE, movable=True)
    """`auto`, `cpu`, `cuda`, `cuda:N` or `mps`, the GPU of a Mac. `auto` is CUDA if there is some, else `mps` for other
    models than `builtin` and `photos`, else the CPU."""

    @property
    def loaded(self) -> str:
        """What ``models.load_backbone`` is asked for: the model, and after a plus sign the one beside it."""
        return self.model if self.beside is None else f"{self.model} + {self.beside}"

    def _check_together(self) -> None:
        if self.beside == self.model:
            raise refusal("beside", self.beside, "another model than the one it is put beside")
        if self.quantize_projection and self.quantize == "none":
            raise refusal("quantize_projection", self.quantize_projection, "False with quantize none")


@dataclasses.dataclass(frozen=True)
class MethodConfig(Section):
    """What is trained, and where in the backbone it sits."""

    method: str = setting("lora", Decides.RESULT, teachable=True)
    """`lowshot methods` lists them; qlora, qdora and qlora-xs set `--quantize nf4` as well; `peft:TYPE` is PEFT's.
    Where none is named `lowshot fit` and `FewShotClassifier` choose one (`auto`); recipes and grids mean `lora`."""
    encoder: Literal["both", "vision", "text"] = setting("both", Decides.RESULT, teachable=True)
    """Which tower gets adapters."""
    projections: tuple[Projection, ...] = setting(
        ("q", "k", "v"),
        Decides.RESULT,
        Values(f"one or more of {', '.join(PROJECTIONS)}", lambda names: bool(names) and set(names) <= {*PROJECTIONS}),
        teachable=True,
    )
    """Which linear layers of a block get adapters: of attention (q, k, v, o) and of the MLP (fc1, fc2)."""
    position: str = setting(
        "all",
        Decides.RESULT,
        Values(
            f"one of {', '.join(POSITIONS)}, or layers such as 0,1,11",
            lambda position: position in POSITIONS or _LAYERS.fullmatch(position) is not None,
        ),
        teachable=True,
    )
    """Which layers of each tower: all, bottom, mid, up (thirds), half-bottom, half-up, top3, or a list: `0,1,11`."""
    rank: int = setting(2, Decides.RESULT, at_least(1), teachable=True)
    """Rank r of the update."""
    rank_by_depth: Literal["uniform", "increasing", "decreasing"] = setting("uniform", Decides.RESULT)
    """Whether all layers of a tower have this rank, or deep ones more (`increasing`) or less (`decreasing`), with this
    rank as the mean: the number of parameters stays what it is."""
    alpha: float = setting(1.0, Decides.RESULT, number("a number above 0", lambda value: value > 0), teachable=True)
    """Scale of the update before `scaling` divides it."""
    scaling: Literal["sqrt-rank", "rank"] = setting("sqrt-rank", Decides.RESULT, teachable=True)
    """Update times alpha/sqrt(r) (CLIP-LoRA) or alpha/r (LoRA's own paper)."""
    basis_side: BasisSide = setting("input", Decides.RESULT, younger=True)
    """Side of LoRA-XS's R that has the singular values: the `input`, U R diag(S) V^T (LoRA-XS's own code), or the
    `output`, U diag(S) R V^T (CLIP-LoRA-XS's)."""
    dropout: float = setting(
        0.25, Decides.RESULT, number("a probability below 1", lambda value: 0 <= value < 1), teachable=True
    )
    """Probability of dropping an entry of the adapter's input while training."""
    shrinkage: float = setting(0.0, Decides.RESULT, _NON_NEGATIVE)
    """Pulls what was learnt back towards the backbone as it was, the more the fewer the shots: of the update
    shots/(shots + shrinkage) is kept, as WiSE-FT interpolates weights. 0 keeps all of it."""
    context: int = setting(16, Decides.RESULT, at_least(1))
    """Trained tokens before the words of a prompt."""
    openings: tuple[str, ...] = setting(
        (), Decides.RESULT, texts("words such as 'a photo of a'", lambda words: bool(words.strip()))
    )
    """Words that those tokens start as, cut off after so many tokens; else they start at random. Several make as many
    prompts of each."""
    first_stage: float = setting(
        0.6, Decides.RESULT, number("a share above 0 and below 1", lambda value: 0 < value < 1)
    )
    """Share of the optimiser steps that `2sfs` spends on layer norms; the classifier has the rest."""
    vision_prompts: int = setting(4, Decides.RESULT, at_least(1))
    """Times that the vision tower sees an image, each with two trained tokens of its own."""
    time_budget: float = setting(60.0, Decides.RESULT, number("a number of seconds above 0", lambda value: value > 0))
    """Seconds that `auto` may take to try methods on the shots and to train the one it chooses. What does not fit in is
    not tried."""
    peft: tuple[str, ...] = setting(
        (), Decides.RESULT, texts("key=value", lambda option: re.fullmatch(r"\w+=.*", option) is not None)
    )
    """Options of a `peft:TYPE` method, each `key=value` with the value as in JSON or a bare word."""

    def _check_together(self) -> None:
        spec = method_spec(self.method)
        if len(set(self.projections)) < len(self.projections):
            object.__setattr__(self, "projections", tuple(dict.fromkeys(self.projections)))
        if self.rank_by_depth != "uniform" and self.rank < 2:
            raise refusal("rank", self.rank, f"2 or more with rank-by-depth {self.rank_by_depth}")
        self._refuse_idle_settings(spec)

    def _refuse_idle_settings(self, spec: MethodSpec) -> None:
        """A setting that the method has no use for would look as if it did something."""
        for row in rows_of(type(self)):
            value = getattr(self, row.name)
            if row.name not in {"method", *spec.settings} and value != row.default:
                if spec.kind == "choice":
                    raise InputError(
                        f"{row.name} is {value!r}, but no method is named that has it; expected one, such as "
                        "--method lora"
                    )
                obeyed = ", ".join(sorted(spec.settings)) or "none"
                raise InputError(
                    f"{row.name} is {value!r}, but method {self.method} has no {row.name}; leave it out "
                    f"(settings of {self.method}: {obeyed})"
                )


@dataclasses.dataclass(frozen=True)
class TrainingConfig(Section):
    """How the trainable parameters are found."""

    steps_per_shot: int = setting(500, Decides.RESULT, at_least(0), same_pace=True)
    """Optimiser steps for each shot: 16 shots train 16 times as long as one."""
    base_steps: int = setting(0, Decides.RESULT, at_least(0), same_pace=True)
    """Optimiser steps added to that, whatever the shots."""
    batch_size: int = setting(32, Decides.RESULT, at_least(1), teachable=True)
    """Images of an optimiser step, where `gradient_accumulation_steps` is 1. How many go through the model at once is
    the engine's affair."""
    gradient_accumulation_steps: int = setting(1, Decides.RESULT, at_least(1))
    """Batches whose gradients are averaged into one optimiser step."""
    optimizer: Literal["adamw", "paged-adamw-8bit", "sgd"] = setting("adamw", Decides.RESULT)
    """`adamw` in fp32, bitsandbytes' `paged-adamw-8bit`, which needs a CUDA device, or `sgd` with momentum 0.9."""
    adam_epsilon: float = setting(
        1e-8, Decides.RESULT, number("a number above 0", lambda value: value > 0), same_pace=True, younger=True
    )
    """What `adamw` and `paged-adamw-8bit` add to the root of a gradient's second moment before they divide by it."""
    learning_rate: float = setting(2e-4, Decides.RESULT, _NON_NEGATIVE, same_pace=True, teachable=True)
    """Learning rate at the first step; a cosine brings it down."""
    minimum_learning_rate: float = setting(1e-6, Decides.RESULT, _NON_NEGATIVE, same_pace=True)
    """Where the cosine ends."""
    weight_decay: float = setting(1e-2, Decides.RESULT, _NON_NEGATIVE)
    """Weight decay: AdamW's is decoupled, that of `sgd` is added to the gradient."""
    crop_minimum: float = setting(
        0.08, Decides.RESULT, number("a share above 0, at most 1", lambda value: 0 < value <= 1), teachable=True
    )
    """Smallest share of an image's area that a random training crop keeps; 1 trains on whole images."""
    flip: bool = setting(True, Decides.RESULT, teachable=True)
    """Mirror half of the training images. Not for characters and signs."""
    views: int | None = setting(None, Decides.RESULT, at_least(1))
    """A fixed number of crops of each image instead of a new one in every step; what is not trained is then computed
    once for each. Not the protocol of the papers. Methods on frozen features learn from these crops; if it is not
    given, from the images as they are judged."""
    seed: int = setting(
        1,
        Decides.RESULT,
        Values("a whole number from 0 to 2147483647", lambda seed: 0 <= seed < 2**31),
        same_pace=True,
        teachable=True,
    )
    """Draws the shots, initialises the adapter, orders and crops the images."""
    calibration_folds: int = setting(
        0,
        Decides.CONFIDENCE,
        Values("0 for none, or 2 or more", lambda folds: folds == 0 or folds >= 2),
        teachable=True,
    )
    """Parts, 2 or more, in which the shots are held out in turn, to learn how sure the classifier may be: a temperature
    for its probabilities, and sets of classes with a stated coverage. It takes as many trainings more. Heads that are
    computed (gda, proker, nearest-mean, tip-adapter, linear-probe) hold one shot of each class out at a time instead. 0
    for none."""
    reject: float | None = setting(
        None,
        Decides.CONFIDENCE,
        number("a share above 0 and below 1", lambda share: 0 < share < 1),
        teachable=True,
        younger=True,
    )
    """Learn from held-out shots to tell images that are of none of the classes, and turn away this share of the images
    that are of one, such as 0.05. Heads need nothing more; methods that train the towers hold the shots out in
    `calibration_folds`. Not learnt if not given."""

    def _check_together(self) -> None:
        epsilon = TrainingConfig.adam_epsilon
        if self.optimizer == "sgd" and self.adam_epsilon != epsilon:
            raise refusal("adam_epsilon", self.adam_epsilon, f"{epsilon:g} with optimizer sgd, which has no use for it")
        if self.steps_per_shot + self.base_steps < 1:
            raise refusal("steps_per_shot", 0, "at least one step")
        if 0 < self.learning_rate < self.minimum_learning_rate:
            most = f"at most learning-rate {self.learning_rate:g}"
            raise refusal("minimum_learning_rate", self.minimum_learning_rate, most)


@dataclasses.dataclass(frozen=True)
class EngineConfig(Section):
    """How the arithmetic is cut up, kept and watched: time and memory, never the result."""

    images_per_pass: int | None = setting(None, Decides.COST, at_least(1))
    """Images that go through the vision tower at once while training; as many as suit the machine if not given."""
    prompts_per_pass: int | None = setting(None, Decides.COST, at_least(1))
    """Prompts that go through the text tower at once while training; fewer than all are computed twice."""
    memory_budget: str | None = setting(None, Decides.COST, POSITIVE_AMOUNT)
    """Most memory that training may take, such as `2GB`: the whole process on a CPU, what is allocated on CUDA."""
    gradient_checkpointing: bool = setting(False, Decides.COST)
    """Compute each block's activations again in the backward pass instead of keeping them: less memory, more time."""
    cuda_graph: bool = setting(True, Decides.COST, younger=True)
    """On CUDA, record a training step once and replay it, so that the device never waits for the processor; where that
    cannot be done it is said, and each step is launched by itself, as it is with `--no-cuda-graph`."""
    together: int | None = setting(None, Decides.COST, at_least(1), younger=True)
    """Trainings on the same frozen weights whose steps are computed together at most, where they train plain LoRA or
    LoRA-XS. If not given, all folds of a fit, and one after the other for a grid's runs."""
    image_memory: str = setting("1GB", Decides.COST, AMOUNT)
    """Most memory for decoded training images; those beyond it are kept on disk."""
    image_disk: str = setting("20GB", Decides.COST, AMOUNT)
    """Most space for decoded training images in a temporary file; those beyond it are decoded each time."""
    threads: int | None = setting(None, Decides.MACHINE, at_least(1))
    """Processor threads that torch computes with; as many as there are cores if not given. On a busy machine one is
    often faster than two."""
    checkpoint_seconds: float = setting(60.0, Decides.COST, _NON_NEGATIVE)
    """Time between two checkpoints of a training run, from which it goes on if it is killed; 0 for one every step."""
    report_to: str = setting("none", Decides.TELLING, younger=True)
    """Experiment tracker that gets the settings, the course of training and the record's figures: `none`,
    `tensorboard`, `wandb`, `mlflow` or `trackio`."""
    logging_steps: int = setting(10, Decides.TELLING, at_least(1), younger=True)
    """Optimiser steps between two reports to the tracker; the loss and the time of a step are means over them."""

    def _check_together(self) -> None:
        if self.report_to not in TRACKERS:
            raise UnknownNameError("tracker", self.report_to, TRACKERS)


@dataclasses.dataclass(frozen=True)
class DataConfig(Section):
    """Which images, and how classes are put into words."""

    shots: int | None = setting(None, Decides.IMAGES, at_least(1), same_pace=True)
    """Images per class to learn from; all of them if not given."""
    draw: str = setting(
        "lowshot", Decides.IMAGES, Values(f"{', '.join(DRAWS)}, a file or a folder", lambda draw: draw != "")
    )
    """Which images those are: ranked by a hash of seed and image (`lowshot`), what CoOp or CLIP-LoRA draw for the seed
    (`coop`, `clip-lora`), a file `.jsonl` that lists them, or the folder of an adapter that learnt from them."""
    protocol: Literal["few-shot", "base-to-new", "cross-dataset", "domain-generalisation"] = setting(
        "few-shot", Decides.IMAGES
    )
    """What is learnt and judged: all classes (`few-shot`); the first half of them is learnt and both halves are judged
    (`base-to-new`); all are learnt, and `targets` are judged too (`cross-dataset`, `domain-generalisation`)."""
    targets: tuple[str, ...] = setting(
        (), Decides.IMAGES, texts("names or paths of data sets", bool), of_data=True, movable=True
    )
    """Data sets that a transfer is judged on as well, each in its own classes: anything that `lowshot fit` takes. For
    imagenet the papers' ten, or four shifts, if not given."""
    labels_per_image: Literal["one", "several"] = setting("one", Decides.IMAGES, younger=True)
    """Whether an image is of `one` class, or may show `several` or none. Then each class has a probability of its own,
    and an image has all labels whose probability is above the threshold of their class."""
    label_delimiter: str = setting(
        ";", Decides.IMAGES, Values("one character or more", bool), of_data=True, younger=True
    )
    """What stands between two labels of an image in a cell of a table. Lists of labels need none."""
    template: tuple[str, ...] = setting(
        ("a photo of a {}.",),
        Decides.WORDS,
        texts(
            f"exactly one {{}} for the class name, or one of {', '.join(TEMPLATE_SETS)}",
            lambda text: text in TEMPLATE_SETS or text.count("{}") == 1,
        ),
        of_data=True,
        teachable=True,
    )
    """Prompts of a class, of which the embeddings are averaged; `{}` stands for its name. `coop` stands for the data
    set's own template as CoOp writes it, `clip-7` for seven by OpenAI."""
    class_names: str | None = setting(None, Decides.WORDS, _JSON_FILE, of_data=True)
    """JSON file `{"class": "what to say"}` or `{"class": ["several", "synonyms"]}`: put into templates in place of the
    class's name. Labels stay what they are."""
    descriptions: str | None = setting(None, Decides.WORDS, _JSON_FILE, of_data=True)
    """JSON file `{"class": ["A whole sentence.", ...]}`: prompts of the class beside those of the templates."""
    root: str | None = setting(None, Decides.MACHINE, movable=True, younger=True)
    """Folder that holds the data sets of the catalogue; `$LOWSHOT_DATA` if not given."""
    on_bad_image: Literal["error", "skip", "error-damaged", "skip-damaged"] = setting(
        "error", Decides.IMAGES, of_data=True, movable=True
    )
    """An image that cannot be read: stop (`error`), or leave it out and say so (`skip`). `error-damaged` and
    `skip-damaged` look at every file first, and do so with one that can be read and is damaged too, which the others
    warn of where it is learnt from."""

    @property
    def has_several(self) -> bool:
        """Whether an image may have several labels."""
        return self.labels_per_image == "several"

    @property
    def several(self) -> str | None:
        """The delimiter of labels where images may have several, as ``data.load_task`` takes it; else None."""
        return self.label_delimiter if self.has_several else None

    def _check_together(self) -> None:
        self._check_labels()
        if not self.template:
            raise refusal("template", self.template, "one or more")
        if len(set(self.targets)) < len(self.targets):
            raise refusal("targets", self.targets, "each of them once")
        if self.targets and self.protocol in ("few-shot", "base-to-new"):
            raise InputError(
                f"targets are given, but protocol {self.protocol} has no use for them; "
                "leave them out, or say cross-dataset or domain-generalisation"
            )

    def refuse_several(self, what: str) -> None:
        """Refuse images of several labels in a work that knows those of one.

        Raises:
            InputError: They have several.
        """
        if self.has_several:
            raise InputError(
                f"{what} knows images of one label, and labels-per-image is several; leave it out, or part the classes "
                "into one task each"
            )

    def _check_labels(self) -> None:
        """Refuse what does not go with the labels that an image has."""
        if not self.has_several:
            if self.label_delimiter != DataConfig.label_delimiter:
                raise InputError(
                    f"label-delimiter is {self.label_delimiter!r}, but an image has one label; add --labels-per-image "
                    "several, or leave it out"
                )
            return
        if self.draw in DRAWS and self.draw != DataConfig.draw:
            raise refusal("draw", self.draw, "lowshot, a file or a folder with labels-per-image several")
        if self.protocol != "few-shot":
            raise refusal("protocol", self.protocol, "few-shot with labels-per-image several")
