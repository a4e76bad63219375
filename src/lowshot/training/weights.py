"""Methods that train weights inside the backbone: CLIP-LoRA's procedure (arXiv 2405.18541, section 4), any adapter.

Cross-entropy over cosine similarities times the logit scale, AdamW, a cosine down to ``minimum_learning_rate``, the
last iterate is kept and no validation set is looked at.
"""

from __future__ import annotations

import contextlib
import functools
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..adapters import adapter_bytes, key_dropout
from ..config import Recipe
from ..data.crops import batches, random_crops
from ..data.task import Examples
from ..errors import RunError
from ..models import Backbone
from ..progress import Track
from ..randomness import seeded
from .learner import TrainingOutcome
from .memory import peak_memory
from .optimizers import create_optimizer
from .passes import Needs, choose_passes, measure_needs
from .placing import adapt
from .step import ExactStep, Passes


class WeightsLearner:
    """An adapter in a backbone.

    Args:
        backbone: Changed in place: brought to the recipe's precision, then adapted.
        prompts: One per class.
        recipe: Method, training and precision.
    """

    def __init__(self, backbone: Backbone, prompts: Sequence[str], recipe: Recipe) -> None:
        self.adapter = adapt(backbone, recipe)
        self.backbone = backbone
        self.recipe = recipe
        self._tokens = backbone.tokenize(prompts)
        self._text_is_trained = recipe.method.encoder != "vision"
        self._keys = key_dropout(backbone.model, recipe.training.seed)
        self._classes: Tensor | None = None

    @property
    def parameters(self) -> list[torch.nn.Parameter]:
        """The adapter's trainable parameters."""
        return self.adapter.parameters()

    @property
    def trainable_parameters(self) -> int:
        """Numbers that training changes."""
        return sum(p.numel() for p in self.parameters)

    def fit(self, examples: Examples, shots: int, track: Track) -> TrainingOutcome:
        """Train for the recipe's number of steps.

        Raises:
            RunError: The loss stopped being a number.
        """
        config, steps = self.recipe.training, self.recipe.steps(shots)
        device = self.backbone.device
        optimizer = create_optimizer(self.parameters, config, device)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, eta_min=config.minimum_learning_rate)
        batch_size = config.batch_size * config.gradient_accumulation_steps
        order = batches(len(examples), batch_size, steps, config.seed)
        gradients = self.exact_step(self.cuts(min(batch_size, len(examples)))[1])
        labels = torch.from_numpy(examples.labels).to(device)
        losses: list[float] = []
        started = time.perf_counter()
        with (
            _memory_named(),
            peak_memory(device) as peak,
            self.backbone.training(checkpointing=self.recipe.engine.gradient_checkpointing),
            seeded(config.seed),
        ):
            frozen = None if self._text_is_trained else self._encode_classes().detach()
            for step, rows in enumerate(track(order, what=f"training {self.recipe.method.method}", total=steps)):
                crops = functools.partial(self._crops, examples, step)
                losses.append(self._accumulate(gradients, step, rows.tolist(), labels[rows], crops, frozen))
                self._refuse_divergence(math.isfinite(losses[-1]), f"step {step + 1} of {steps}")
                optimizer.step()
                schedule.step()
        self._classes = None
        self._refuse_divergence(self._is_finite(), "the last step")
        last = losses[-max(1, steps // 10) :]
        return TrainingOutcome(steps, time.perf_counter() - started, peak.bytes, sum(last) / len(last))

    def cuts(self, batch_size: int) -> tuple[Needs, Passes]:
        """What a step needs on this model, and how a batch is cut up for it.

        Raises:
            InputError: The recipe's memory budget is too small.
        """
        engine, prompts = self.recipe.engine, len(self._tokens["input_ids"])
        with seeded(self.recipe.training.seed):
            needs = measure_needs(
                self.backbone,
                self._tokens,
                self._keys,
                self.trainable_parameters,
                text_is_trained=self._text_is_trained,
                checkpointing=engine.gradient_checkpointing,
            )
        return needs, choose_passes(needs, engine, batch_size, prompts)

    def exact_step(self, passes: Passes) -> ExactStep:
        """What computes a step's gradients with these cuts."""
        return ExactStep(self.backbone, self._tokens, self._keys, passes, self._text_is_trained)

    def _accumulate(self, gradients: ExactStep, *step: Any) -> float:
        """One step's gradients; where the device's memory does not suffice, again with half as much at once."""
        while True:
            for parameter in self.parameters:
                parameter.grad = None
            try:
                return gradients.accumulate(*step)
            except torch.OutOfMemoryError:
                smaller = gradients.passes.halved()
                if smaller is None:
                    raise
                gradients.passes = smaller
            torch.cuda.empty_cache()

    def _crops(self, examples: Examples, step: int, rows: Sequence[int]) -> Tensor:
        """Random crops ``(N, 3, S, S)`` of some examples: the same for the same seed, step and example."""
        config = self.recipe.training
        return random_crops(
            (examples.images[i] for i in rows),
            self.backbone.image_size,
            crop_minimum=config.crop_minimum,
            flip=config.flip,
            keys=[(config.seed, step, row) for row in rows],
        )

    def _refuse_divergence(self, fine: bool, where: str) -> None:
        if not fine:
            rate = self.recipe.training.learning_rate
            raise RunError(f"training diverged at {where}; try a lower learning rate than {rate:g}")

    @torch.no_grad()
    def _is_finite(self) -> bool:
        """Whether the trained towers still give numbers: of the classes, and of a grey image."""
        side = self.backbone.image_size
        scores = self.logits(torch.full((1, 3, side, side), 0.5))
        return bool(scores.isfinite().all())

    def _encode_classes(self) -> Tensor:
        return self.backbone.encode_prompts(self._tokens)

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """Scaled cosine similarities ``(B, C)``."""
        if self._classes is None:
            self._classes = self._encode_classes()
        return self.backbone.logits(self.backbone.encode_images(images), self._classes)

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


@contextlib.contextmanager
def _memory_named() -> Iterator[None]:
    """Turn a device's out-of-memory error into one that names the way out."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise RunError(
            "out of memory with one image and one prompt at a time; try gradient-checkpointing, or quantize nf4"
        ) from error
