"""What a recipe will take on this machine, before it is run: one image and one chunk of prompts tell."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..config import Recipe
from ..errors import InputError
from ..methods import method_spec
from ..models import load_backbone
from .memory import resident_bytes
from .step import Passes
from .weights import WeightsLearner


@dataclasses.dataclass(frozen=True)
class Plan:
    """What training is predicted to take."""

    passes: Passes
    peak_bytes: int
    """Of a step: of the whole process on a CPU, of what is allocated on CUDA."""
    resident_bytes: int
    """Of that, what is there before the first step."""
    step_seconds: float
    steps: int

    @property
    def train_seconds(self) -> float:
        """Of all steps."""
        return self.step_seconds * self.steps


def plan(recipe: Recipe, *, classes: int, shots: int) -> Plan:
    """Load the model, choose the cuts as training would, and time one pass of each tower.

    Args:
        recipe: Its model, method, precision, batch and engine count.
        classes: Number of classes; their names are taken to be as long as ``class 17``.
        shots: Images per class.

    Raises:
        InputError: The recipe trains nothing, does not fit the model, or not into its memory budget.
    """
    if method_spec(recipe.method.method).kind != "weights":
        raise InputError(f"method {recipe.method.method} trains nothing: there is nothing to plan")
    backbone = load_backbone(recipe.model.model, recipe.model.device)
    prompts = [recipe.data.template.replace("{}", f"class {number}") for number in range(classes)]
    learner = WeightsLearner(backbone, prompts, recipe)
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
        one, more = (_seconds(pass_of(images), backbone.device) for images in (1, passes.images + 1))
    image_seconds = max(0.0, (more - one) / passes.images)
    seconds = max(0.0, one - image_seconds) + batch * image_seconds
    return Plan(passes, needs.peak(passes, classes), before, seconds, recipe.steps(shots))


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started
