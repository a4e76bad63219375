"""A recipe's memory and time on this machine, before it is run: one image and one chunk of prompts tell."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..data.prompts import Prompts, prompts_for, read_words
from ..errors import InputError
from ..methods import settled_spec
from ..models import load_backbone, settle
from ..settings import DataConfig, Recipe
from .create import create_learner
from .memory import resident_bytes
from .recorded import RecordedSteps
from .run import fresh_state, steps_of
from .step import Passes
from .weights import WeightsLearner


@dataclasses.dataclass(frozen=True)
class Plan:
    """Memory and time that training is predicted to take."""

    passes: Passes
    prompts: int
    """Prompts of all classes together."""
    peak_bytes: int
    """The height of a step: of the whole process on a CPU, of what is allocated on CUDA."""
    resident_bytes: int
    """The part of it that is there before the first step."""
    step_seconds: float
    steps: int
    calibration_steps: int = 0
    """Steps of all folds of a calibration together, on top of those."""

    @property
    def train_seconds(self) -> float:
        """Time of all steps, without those of a calibration."""
        return self.step_seconds * self.steps

    @property
    def calibration_seconds(self) -> float:
        """Time of the folds' steps."""
        return self.step_seconds * self.calibration_steps


def plan(recipe: Recipe, *, classes: int, shots: int) -> Plan:
    """Load the model, choose the cuts as training would, and time a step that is replayed, or a pass of each tower.

    Args:
        recipe: Its model, method, precision, batch, engine and prompts count.
        classes: Number of classes; names that no setting gives are taken to be as long as ``class 17``.
        shots: Images per class.

    Raises:
        InputError: The recipe trains nothing, does not fit the model, or not into its memory budget, or its files name
            more classes.
    """
    spec = settled_spec(recipe.method.method)
    if spec.kind == "features":
        why = "encodes the shots once and takes seconds after that" if spec.learns else "trains nothing"
        raise InputError(f"method {spec.name} {why}: there is nothing to plan")
    of_class = _prompts(recipe.data, classes)
    backbone = load_backbone(recipe.model.model, recipe.model.device)
    learner = create_learner(backbone, of_class, recipe)
    assert isinstance(learner, WeightsLearner)
    prompts = len(learner.class_vectors)
    before = resident_bytes(backbone.device)
    batch = min(recipe.training.batch_size * recipe.training.gradient_accumulation_steps, classes * shots)
    needs, passes = learner.cuts(batch, classes * shots)
    step = learner.exact_step(passes)
    image = torch.zeros(1, 3, backbone.image_size, backbone.image_size)

    def images_of(rows: Sequence[int]) -> Tensor:
        return image.expand(len(rows), -1, -1, -1)

    def pass_of(images: int) -> Callable[[], object]:
        rows = list(range(images))
        return lambda: step.accumulate(0, rows, torch.zeros(images, dtype=torch.int64).to(backbone.device), images_of)

    with backbone.training(checkpointing=recipe.engine.gradient_checkpointing):
        seconds = step_seconds(learner, passes, batch)
        if seconds is None:
            one, more = (_seconds(pass_of(images), backbone.device) for images in (1, passes.images + 1))
            image_seconds = max(0.0, (more - one) / passes.images)
            seconds = max(0.0, one - image_seconds) + batch * image_seconds
    folds = recipe.training.calibration_folds  # where every class has as many shots: see ``evaluation.calibration``
    calibration_steps = folds * recipe.steps(shots - shots // folds) if folds else 0
    peak = needs.peak(passes, prompts)
    return Plan(passes, prompts, peak, before, seconds, recipe.steps(shots), calibration_steps)


def step_seconds(learner: WeightsLearner, passes: Passes, size: int) -> float | None:
    """Seconds of a step that is replayed, measured on black images; None where steps are launched by themselves.

    Nothing is learnt: the learning rate is zero.

    Args:
        learner: In training mode.
        passes: How a batch is cut.
        size: Rows of a batch.
    """
    backbone, recipe, side = learner.backbone, learner.recipe, learner.backbone.image_size
    black = torch.zeros(size, 3, side, side, device=backbone.device)
    labels = torch.zeros(size, dtype=torch.int64, device=backbone.device)
    state = fresh_state(learner.parameters, passes, recipe, backbone)
    stages = learner.stages(2, passes)
    steps = steps_of(
        state, stages, lambda _, rows: black[: len(rows)], labels, size, recipe, backbone, learner.processes
    )
    if not isinstance(steps, RecordedSteps):
        return None
    for _ in range(2):  # the first steps of a run are no measure of the rest
        started = time.perf_counter()
        for _ in range(steps.ahead):
            steps.take(range(size), 0.0)
        steps.settle()
    steps.close()
    return (time.perf_counter() - started) / steps.ahead


def _prompts(config: DataConfig, classes: int) -> Prompts:
    """Prompts of classes of which nothing is known but what the files of the settings say."""
    files = [read_words("class-names", config.class_names), read_words("descriptions", config.descriptions)]
    known = list(dict.fromkeys(name for words in files for name in words))
    if len(known) > classes:
        raise InputError(f"classes is {classes}; expected {len(known)} or more: the prompts' files speak of so many")
    names = [*known, *(f"class {number}" for number in range(classes - len(known)))]
    return prompts_for(names, config, data="what is planned", template=DataConfig.template[0])


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    work()
    settle(device)
    started = time.perf_counter()
    work()
    settle(device)
    return time.perf_counter() - started
