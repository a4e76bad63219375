"""The start of a run: its state before the first step, and whatever takes its steps."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..adapters import draws_from_torch
from ..data.task import Examples
from ..models import Backbone
from ..settings import SETTINGS, Decides, Recipe
from .images import ImagesOf
from .joined import JoinedGradients
from .loop import LaunchedSteps
from .optimizers import create_optimizer
from .processes import Processes
from .recorded import RecordedSteps, recorder_on
from .state import FIRST_LOSS_SCALE, TrainingState
from .step import Passes
from .steps import Stage, Steps

BESIDE_OTHERS = (
    "steps were computed together with those of other runs: time is this run's share of theirs, memory that of all"
)


def fresh_state(
    parameters: Sequence[nn.Parameter], passes: Passes, recipe: Recipe, backbone: Backbone
) -> TrainingState:
    """The state of a run before its first step."""
    engine, is_float16 = recipe.engine, backbone.dtype == torch.float16
    return TrainingState(
        parameters,
        create_optimizer(parameters, recipe.training, backbone.device),
        passes,
        loss_scale=FIRST_LOSS_SCALE if is_float16 else 1.0,
        cut_by=(engine.images_per_pass, engine.prompts_per_pass, engine.memory_budget),
        is_float16=is_float16,
    )


def run_facts(
    recipe: Recipe,
    backbone: Backbone,
    texts: Iterable[object],
    examples: Examples,
    contents: Iterable[str],
    steps: int,
    processes: int,
) -> dict[str, Any]:
    """All that decides what a run computes, by name: weights, images and prompts by the hashes of what they are.

    Args:
        recipe: Its settings that decide the result.
        backbone: With its adapter.
        texts: Prompts of each class.
        examples: What is learnt from.
        contents: Hashes of what their images show, if they are known.
        steps: Of the whole run.
        processes: How many train together.
    """
    settings = {n: value for n, value in recipe.settings().items() if SETTINGS[n].decides is Decides.RESULT}
    buffers = (buffer.detach().cpu().contiguous().flatten() for buffer in backbone.model.buffers())
    images = zip(examples.identities, examples.labels.tolist(), strict=True)
    return {
        **settings,
        "steps": steps,
        "processes": processes,
        "device_type": backbone.device.type,
        "weights": backbone.identity.weights_sha256,
        "model_settings": backbone.identity.settings_sha256,
        "frozen_factors": _digest(buffer.view(torch.uint8).numpy().tobytes() for buffer in buffers),
        "images": _digest(f"{name} {label}".encode() for name, label in images),
        "image_contents": _digest(content.encode() for content in contents),
        "prompts": _digest(json.dumps(prompts).encode() for prompts in texts),
    }


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part + b"\n")
    return digest.hexdigest()[:16]


def steps_of(
    state: TrainingState,
    stages: Sequence[Stage],
    images_of: ImagesOf,
    labels: Tensor,
    size: int,
    recipe: Recipe,
    backbone: Backbone,
    processes: Processes,
) -> Steps:
    """Return what takes the steps of a run: on CUDA a recorded one is replayed, if it can be recorded.

    Steps that are computed together with those of other runs are launched: the more there are, the less it matters.

    Args:
        state: Of the run; changed in place.
        stages: Of the run.
        images_of: (number of the step, rows) to their images.
        labels: Of all examples, ``(N,)`` or ``(N, C)``, on the model's device.
        size: Rows of a full batch.
        recipe: Method, optimiser, and whether a step may be recorded.
        backbone: With its adapter.
        processes: Those that train together.
    """
    if any(isinstance(stage.exact, JoinedGradients) for stage in stages):
        return LaunchedSteps(state, stages, images_of, labels, processes, BESIDE_OTHERS)
    recorder = recorder_on(backbone.device) if recipe.engine.cuda_graph else None
    why_not = None if recorder is None else _why_not_recorded(stages, recipe, backbone, processes)
    if recorder is None or why_not is not None:
        note = "" if why_not is None else f"each step was launched by itself: {why_not}"
        return LaunchedSteps(state, stages, images_of, labels, processes, note)
    [stage] = stages
    return RecordedSteps(state, stage.exact, images_of, labels, size, recorder)


def _why_not_recorded(stages: Sequence[Stage], recipe: Recipe, backbone: Backbone, processes: Processes) -> str | None:
    """Why a step of a run must be launched by itself, if it must."""
    method, optimizer = recipe.method.method, recipe.training.optimizer
    if processes.count > 1:
        return "several processes train together"
    if len(stages) > 1:
        return f"method {method} trains in two stages"
    if optimizer not in ("adamw", "sgd"):
        return f"optimizer {optimizer} cannot be recorded"
    if draws_from_torch(backbone.model):
        return f"method {method} may draw from torch's generator"
    return None
