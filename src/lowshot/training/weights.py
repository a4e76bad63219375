"""Methods that train weights inside the backbone, or tokens at its inputs: any adapter, by CLIP-LoRA's procedure.

Cross-entropy over cosine similarities times the logit scale, AdamW or what else the recipe names, a cosine down to
``minimum_learning_rate``, the last iterate is kept and no validation set is looked at (arXiv 2405.18541, section 4).
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor

from ..adapters import adapter_bytes, keep_share, key_dropout
from ..data.crops import PreparedCrops, batches, prepare_crops, random_crops
from ..data.task import Examples
from ..errors import RunError
from ..models import Backbone, Partway, Tower, resolve_adapter_precision
from ..progress import UNREPORTED, Report, Track
from ..randomness import seeded
from ..settings import SETTINGS, Decides, Recipe
from .ahead import CROPS_BYTES, ImagesAhead
from .checkpoints import CheckpointFile
from .gradients import FIRST_LOSS_SCALE, StepGradients
from .learner import TrainingOutcome
from .loop import TrainingLoop, learning_rate
from .memory import memory_use
from .optimizers import create_optimizer
from .passes import WORKSPACE, Needs, choose_passes, measure_needs
from .placing import adapt
from .processes import Processes, join_processes
from .prompts import Owners, encode_each, tokenized
from .recorded import RecordedSteps, recorder_on
from .scoring import CosineScoring, Scoring
from .state import TrainingState
from .step import ExactStep, Passes
from .steps import LaunchedSteps, Steps
from .views import Views, views_bytes

_Crops = TypeVar("_Crops")
ImagesOf: TypeAlias = Callable[[int, Sequence[int]], Tensor | Partway]
"""(number of a step, some of its rows) to what goes into the vision tower for them."""


class WeightsLearner:
    """An adapter in a backbone.

    Args:
        backbone: Changed in place: brought to the recipe's precision, then adapted.
        prompts: Of each class one, or several whose embeddings are averaged.
        recipe: Method, training and precision.
    """

    def __init__(self, backbone: Backbone, prompts: Sequence[str | Sequence[str]], recipe: Recipe) -> None:
        self.adapter = adapt(backbone, recipe)
        self.backbone = backbone
        self.recipe = recipe
        self._tokenize(prompts)
        self._text_is_trained = self._trains("text")
        self._keys = key_dropout(backbone.model, recipe.training.seed)
        self._processes = Processes()

    def _tokenize(self, prompts: Sequence[str | Sequence[str]]) -> None:
        self._prompts = tuple(prompts)
        self._tokens, owners = tokenized(self.backbone, prompts)
        self.scoring = self._scoring_of(owners)
        """Compares images with these classes."""
        self._classes: Tensor | None = None

    def _scoring_of(self, owners: Owners) -> Scoring:
        return CosineScoring(self.backbone, owners)

    @property
    def parameters(self) -> list[torch.nn.Parameter]:
        """The adapter's trainable parameters."""
        return self.adapter.parameters()

    @property
    def trainable_parameters(self) -> int:
        """Numbers that training changes."""
        return sum(p.numel() for p in self.parameters)

    @property
    def prompts(self) -> int:
        """Prompts of all classes together, as often as they go through the text tower."""
        return len(self._tokens["input_ids"])

    def fit(
        self,
        examples: Examples,
        shots: int,
        track: Track,
        checkpoint: Path | None = None,
        contents: Sequence[str] = (),
        report: Report = UNREPORTED,
    ) -> TrainingOutcome:
        """Train for the recipe's number of steps, or for those that are left of a run that a checkpoint is of.

        Raises:
            InputError: The checkpoint is of another run.
        """
        device, what = self.backbone.device, f"training {self.recipe.method.method}"
        with _memory_named():
            loop, images = self._loop(examples, shots, checkpoint, contents)
        order: Iterable[Sequence[int]] = self._order(examples, loop.steps)
        state, begun = loop.state, loop.state.step
        report.begin(state.run, state.losses)  # what it loads is not what training takes
        with (
            _memory_named(),
            memory_use(device) as memory,
            self.backbone.training(checkpointing=self.recipe.engine.gradient_checkpointing),
            seeded(self.recipe.training.seed),
            images if isinstance(images, ImagesAhead) else contextlib.nullcontext(),
        ):
            order = images.watching(order, begun) if isinstance(images, ImagesAhead) else order
            try:
                stopped = loop.run(order, track, what, report)
            finally:
                if isinstance(loop.taking, RecordedSteps):
                    self._drop_gradients()
        if self.recipe.method.shrinkage:
            keep_share(self.adapter, shots / (shots + self.recipe.method.shrinkage))
        self._classes = None
        return TrainingOutcome(
            steps=state.step,
            seconds=state.seconds,
            static_memory_bytes=memory.static,
            peak_memory_bytes=memory.peak,
            reserved_memory_bytes=memory.reserved,
            final_loss=state.final_loss,
            begun_at_step=begun,
            stopped=stopped,
            unwritten=loop.unwritten,
            notes=(loop.taking.note,) if loop.taking.note else (),
        )

    def _loop(
        self, examples: Examples, shots: int, checkpoint: Path | None, contents: Sequence[str]
    ) -> tuple[TrainingLoop, ImagesOf]:
        """A fresh run, or the one that the checkpoint is of, as far as it came; and what gives it images."""
        config, steps, device = self.recipe.training, self.recipe.steps(shots), self.backbone.device
        self._processes = join_processes(device)
        passes = self.cuts(min(self._batch_size, len(examples)), len(examples))[1]
        scale = FIRST_LOSS_SCALE if self.backbone.dtype == torch.float16 else 1.0
        engine = self.recipe.engine
        cut_by = (engine.images_per_pass, engine.prompts_per_pass, engine.memory_budget)
        optimizer = create_optimizer(self.parameters, config, device)
        state = TrainingState(self.parameters, optimizer, passes, scale, cut_by)
        file = None
        if checkpoint is not None:
            file = CheckpointFile(checkpoint, self._run_facts(examples, contents, steps), engine.checkpoint_seconds)
            file.read_into(state)
            self._processes.refuse_different_steps(state.step, device)
        labels = torch.from_numpy(examples.labels).to(device)
        kept = file if self._processes.is_first else None
        size, images = min(self._batch_size, len(examples)), self._images_of(examples)
        taking = self._taking(state, self.exact_step(state.passes), images, labels, size, steps)
        return TrainingLoop(state, config, steps, taking, self._is_sound, self._rate, kept), images

    def _taking(
        self, state: TrainingState, exact: ExactStep, images_of: ImagesOf, labels: Tensor, size: int, steps: int
    ) -> Steps:
        """What takes the steps: on CUDA a recorded one is replayed, if it can be recorded."""
        recorder = recorder_on(self.backbone.device) if self.recipe.engine.cuda_graph else None
        if recorder is not None and self._cannot_record(exact) is None:
            return RecordedSteps(state, exact, images_of, labels, size, recorder)
        gradients = StepGradients(state, exact, images_of, labels)
        note = f"each step was launched by itself: {self._cannot_record(exact)}" if recorder is not None else ""
        return LaunchedSteps(state, self._gradients(gradients, steps), note)

    def step_seconds(self, passes: Passes, size: int) -> float | None:
        """Seconds of a step that is replayed, measured on black images; None where steps are launched by themselves.

        Nothing is learnt: the learning rate is zero.
        """
        device, side = self.backbone.device, self.backbone.image_size
        optimizer = create_optimizer(self.parameters, self.recipe.training, device)
        state = TrainingState(self.parameters, optimizer, passes)
        black = torch.zeros(size, 3, side, side, device=device)
        labels = torch.zeros(size, dtype=torch.int64, device=device)
        taking = self._taking(state, self.exact_step(passes), lambda _, rows: black[: len(rows)], labels, size, 2)
        if not isinstance(taking, RecordedSteps):
            return None
        for _ in range(2):  # what comes first in a run is no measure of the rest
            started = time.perf_counter()
            for _ in range(taking.ahead):
                taking.take(range(size), 0.0)
            taking.settle()
        self._drop_gradients()
        return (time.perf_counter() - started) / taking.ahead

    def _drop_gradients(self) -> None:
        """Those of a recorded step hold on to all memory that it takes."""
        for parameter in self.parameters:
            parameter.grad = None

    def _cannot_record(self, exact: ExactStep) -> str | None:
        """Why a step of this run must be launched by itself, if it must."""
        if self._processes.count > 1:
            return "several processes train together"
        if self._first_stage(2):
            return f"method {self.recipe.method.method} trains in two stages"
        optimizer, is_float16 = self.recipe.training.optimizer, self.backbone.dtype == torch.float16
        # Where SGD's first step is to be taken again with a smaller scale, its momentum has not been written.
        if optimizer not in ("adamw", "sgd") or (optimizer == "sgd" and is_float16):
            return f"optimizer {optimizer} cannot be recorded{' in float16' if is_float16 else ''}"
        if exact.draws:
            return f"method {self.recipe.method.method} may draw from torch's generator"
        return None

    def _gradients(self, gradients: StepGradients, steps: int) -> Callable[[int, Sequence[int]], float]:  # noqa: ARG002
        """What computes each of a run's steps that are launched by themselves."""
        return gradients

    def _rate(self, step: int, steps: int) -> float:
        """The learning rate of one of a run's steps: a cosine, or one for each stage."""
        first, config = self._first_stage(steps), self.recipe.training
        if step < first:
            return learning_rate(step, first, config)
        return learning_rate(step - first, steps - first, config)

    def _first_stage(self, steps: int) -> int:  # noqa: ARG002
        """How many of a run's steps are a stage of their own; 0 where all are one."""
        return 0

    def cuts(self, batch_size: int, images: int = 0) -> tuple[Needs, Passes]:
        """What a step needs on this model, and how a batch is cut up for it.

        Args:
            batch_size: Images of one step.
            images: How many there are to learn from: what is kept of their views, if they have such, is counted.

        Raises:
            InputError: The recipe's memory budget is too small.
        """
        engine, views, prompts = self.recipe.engine, self.recipe.training.views, len(self._tokens["input_ids"])
        with seeded(self.recipe.training.seed):
            needs = measure_needs(
                self.backbone,
                self._tokens,
                self._keys,
                self.trainable_parameters,
                text_is_trained=self._text_is_trained,
                checkpointing=engine.gradient_checkpointing,
                views_bytes=views_bytes(self.backbone, images, views) if views else 0,
                scores_bytes=self.scoring.image_bytes,
                buffers_bytes=self._buffers_bytes(batch_size),
                products_in=self._products_in,
            )
        share = self._processes.largest_share
        return needs, choose_passes(needs, engine, share(batch_size), share(prompts))

    def _buffers_bytes(self, batch_size: int) -> int:
        """Of a batch's pixels on a device: those that a step reads, those that come, and what these are made from."""
        device, side = self.backbone.device.type, self.backbone.image_size
        if device == "cpu":
            return 0
        batches, workspace = (3, WORKSPACE.get(device, 0)) if self._crops_beside else (2, 0)
        return batches * batch_size * 3 * side**2 * 4 + workspace + CROPS_BYTES

    @property
    def _crops_beside(self) -> bool:
        """Whether a device makes a batch's crops while it computes the one before: not where memory is counted."""
        return self.recipe.engine.memory_budget is None

    def exact_step(self, passes: Passes) -> ExactStep:
        """What computes a step's gradients with these cuts."""
        return ExactStep(
            self.backbone,
            self._tokens,
            self._keys,
            passes,
            self._text_is_trained,
            processes=self._processes,
            scoring=self.scoring,
            products_in=self._products_in,
        )

    @property
    def _products_in(self) -> torch.dtype | None:
        precision = resolve_adapter_precision(self.recipe.model.adapter_precision, self.backbone.device)
        return self.backbone.dtype if precision == "base" else None

    @property
    def _batch_size(self) -> int:
        """Images of one optimiser step."""
        return self.recipe.training.batch_size * self.recipe.training.gradient_accumulation_steps

    def _order(self, examples: Examples, steps: int) -> Iterator[list[int]]:
        for rows in batches(len(examples), self._batch_size, steps, self.recipe.training.seed):
            yield rows.tolist()

    def _images_of(self, examples: Examples) -> ImagesOf:
        """(number of a step, some of its rows) to what goes into the vision tower for them."""
        config, device, size = self.recipe.training, self.backbone.device, self.backbone.image_size

        def cropped(views: Sequence[tuple[int, int]], crop: Callable[..., _Crops]) -> _Crops:
            keys = [(config.seed, view, row) for row, view in views]
            images = (examples.images[row] for row, _ in views)
            return crop(images, size, crop_minimum=config.crop_minimum, flip=config.flip, keys=keys, device=device)

        if config.views is not None:
            return Views(self.backbone, lambda views: cropped(views, random_crops), config.views, config.seed)
        if device.type == "cpu":  # each step is a view of its own
            return lambda step, rows: cropped([(row, step) for row in rows], random_crops)

        def prepared(step: int, rows: Sequence[int]) -> PreparedCrops:
            return cropped([(row, step) for row in rows], prepare_crops)

        return ImagesAhead(prepared, device, beside=self._crops_beside)

    def _run_facts(self, examples: Examples, contents: Sequence[str], steps: int) -> dict[str, Any]:
        """All that decides what a run computes, by name: weights, images and prompts by the hashes of what they are."""
        settings = {n: value for n, value in self.recipe.settings().items() if SETTINGS[n].decides is Decides.RESULT}
        identity = self.backbone.identity
        return {
            **settings,
            "steps": steps,
            "processes": self._processes.count,
            "device_type": self.backbone.device.type,
            "weights": identity.weights_sha256,
            "model_settings": identity.settings_sha256,
            "frozen_factors": _digest(map(_bytes, self.backbone.model.buffers())),
            "images": _digest(
                f"{name} {label}".encode() for name, label in zip(examples.identities, examples.labels, strict=True)
            ),
            "image_contents": _digest(content.encode() for content in contents),
            "prompts": _digest(json.dumps(said).encode() for said in self._prompts),
        }

    @torch.no_grad()
    def _is_sound(self) -> bool:
        """Whether the trained towers still give numbers: of the classes, and of a grey image. Training is over then."""
        side = self.backbone.image_size
        self._classes = None
        self.backbone.model.eval()
        scores = self.logits(torch.full((1, 3, side, side), 0.5))
        return bool(scores.isfinite().all())

    def _encode_classes(self) -> Tensor:
        """What images are compared with, some prompts at a time: all at once may be more than training ever needs."""
        return self.scoring.classes(encode_each(self.backbone, self._tokens, _PROMPTS_AT_ONCE))

    @property
    def frozen_images(self) -> bool:
        """Whether the vision tower is as it was loaded."""
        return not self._trains("vision")

    def _trains(self, tower: Tower) -> bool:
        """Whether anything is trained in a tower, or at its input."""
        return self.backbone.first_trained_stage(tower) <= self.backbone.depths[tower]

    def with_prompts(self, prompts: Sequence[str | Sequence[str]]) -> WeightsLearner:
        """The same trained towers, judging other classes."""
        other = copy.copy(self)
        other._tokenize(prompts)
        return other

    def merged_for_inference(self) -> contextlib.AbstractContextManager[None]:
        """Merged weights, where that is exact."""
        return self.adapter.merged()

    @torch.no_grad()
    def logits_of(self, embeddings: Tensor) -> Tensor:
        """Class scores ``(B, C)``; but for PLOT++ scaled cosine similarities."""
        if self._classes is None:
            self._classes = self._encode_classes()
        return self.scoring.scores(embeddings.to(self._classes.device), self._classes)

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """Class scores ``(B, C)``."""
        return self.logits_of(self.backbone.encode_images(images))

    @property
    def adapter_bytes(self) -> int:
        """Size of the tensors' file."""
        return adapter_bytes(self.adapter)

    def save(self, folder: Path) -> None:
        """Write the adapter's files."""
        self.adapter.save(folder, self.backbone.identity.id)

    def load(self, folder: Path) -> None:
        """Read them back, strictly."""
        self.adapter.load(folder)
        self._classes = None


_PROMPTS_AT_ONCE = 64


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part + b"\n")
    return digest.hexdigest()[:16]


@contextlib.contextmanager
def _memory_named() -> Iterator[None]:
    """Turn a device's out-of-memory error into one that names the way out."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise RunError(
            "out of memory with one image and one prompt at a time; try gradient-checkpointing, or quantize nf4"
        ) from error
