"""Methods that train weights inside the backbone, or tokens at its inputs: any adapter, by CLIP-LoRA's procedure.

Cross-entropy over cosine similarities times the logit scale, AdamW or what else the recipe names, a cosine down to
``minimum_learning_rate``, the last iterate is kept and no validation set is looked at (arXiv 2405.18541, section 4).
Where images have several labels the loss is ``scoring.SigmoidLoss``.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..adapters import adapter_bytes, keep_share, key_dropout
from ..belonging import pooled
from ..data.crops import batches
from ..data.task import Examples
from ..errors import InputError, RunError
from ..heads import FullConformal, KeptShots, read_kept_shots, write_kept_shots
from ..models import Backbone, is_out_of_memory, lacking_named, resolve_adapter_precision
from ..progress import UNREPORTED, Report, Track
from ..randomness import seeded
from ..settings import Recipe, Tower
from ..several_labels import solved_offsets
from .checkpoints import CheckpointFile
from .class_vectors import ClassVectors
from .classifier import Classifier, RowsAsTheyAre
from .company import working_seconds
from .create import refuse_other_classes
from .embeddings import encoded_views
from .images import pixels_bytes, step_images
from .joined import joined
from .learner import TrainingOutcome
from .loop import TrainingLoop
from .memory import memory_use
from .passes import Needs, choose_passes, measure_needs
from .placing import adapt
from .processes import Processes, join_processes
from .prompts import Owners, TokenizedPrompts
from .run import fresh_state, run_facts, steps_of
from .scoring import CosineScoring, Loss, Scoring, SigmoidLoss, cross_entropy
from .step import ExactStep, Passes
from .steps import Stage
from .views import views_bytes


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
        self._name_classes(prompts)
        self.vectors_are_trained = bool(self.class_vectors.parameters) or self._trains("text")
        """Whether gradients go into the class vectors, or into the text tower that gives them."""
        self.keys = key_dropout(backbone.model, recipe.training.seed)
        """Keys of the adapters' dropout."""
        self.kept: KeptShots | None = None
        self.loss: Loss = cross_entropy
        """The quantity that is minimised; known once training begins."""
        self.processes = Processes()
        """Those that train together; known once training begins."""

    def _name_classes(self, prompts: Sequence[str | Sequence[str]]) -> None:
        self.class_vectors: ClassVectors = (
            TokenizedPrompts.of(self.backbone, prompts)
            if self.backbone.has_text
            else Classifier(self.backbone, prompts, self.recipe.training)
        )
        """Where the vectors come from that images are compared with."""
        self.scoring = self.scoring_of(self.class_vectors.owners)
        """Compares images with these classes."""
        self._classes: Tensor | None = None

    def scoring_of(self, owners: Owners) -> Scoring:
        """Return what compares images with classes that have these prompts."""
        return CosineScoring(self.backbone, owners)

    @property
    def parameters(self) -> list[torch.nn.Parameter]:
        """The adapter's trainable parameters, and those of the class vectors."""
        return [*self.adapter.parameters(), *self.class_vectors.parameters]

    @property
    def trainable_parameters(self) -> int:
        """Numbers that training changes."""
        return sum(p.numel() for p in self.parameters)

    def stages(self, steps: int, passes: Passes) -> list[Stage]:
        """The stages of a run of so many steps, whose batches are cut like this; here there is one."""
        return [Stage(steps, self.exact_step(passes))]

    def end(self, steps: int, total: int) -> None:  # noqa: ARG002
        """Judge by what was trained in so many steps of a run's total."""
        self._classes = None

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
        with _faults_named(self.backbone.device):
            self.class_vectors.begin(examples, track)
            if examples.has_several:
                self.loss = self._sigmoid_loss(examples, track)
            loop = self._loop(examples, shots, checkpoint, contents)
        state, first_step, seed = loop.state, loop.state.step, self.recipe.training.seed
        order = (rows.tolist() for rows in batches(len(examples), self._batch_size, loop.total, seed))
        report.begin(state.run, state.losses)  # loading a tracker is not a part of the training
        with (
            _faults_named(self.backbone.device),
            memory_use(self.backbone.device) as memory,
            self.backbone.training(checkpointing=self.recipe.engine.gradient_checkpointing),
        ):
            stopped = loop.run(order, track, f"training {self.recipe.method.method}", report)
        if self.recipe.method.shrinkage:
            share = shots / (shots + self.recipe.method.shrinkage)
            keep_share(self.adapter, share)
            self.class_vectors.keep_share(share)
        self.end(state.step, loop.total)
        return TrainingOutcome(
            steps=state.step,
            seconds=state.seconds,
            static_memory_bytes=memory.static,
            peak_memory_bytes=memory.peak,
            reserved_memory_bytes=memory.reserved,
            final_loss=state.final_loss,
            begun_at_step=first_step,
            stopped=stopped,
            unwritten=loop.unwritten,
            notes=(loop.steps.note,) if loop.steps.note else (),
        )

    @torch.no_grad()
    def _sigmoid_loss(self, examples: Examples, track: Track) -> SigmoidLoss:
        """The loss where images have several labels, with offsets by the backbone's own scores of the shots."""
        what = "encoding the shots"
        [embeddings] = encoded_views(self.backbone, examples.images, self.recipe.training, None, track, what)
        scores = self.scoring.scores(embeddings, self.encode_classes())
        offsets = torch.from_numpy(solved_offsets(scores.float().cpu().numpy(), examples.labels))
        return SigmoidLoss(offsets.to(scores.device, torch.float32))

    def _loop(self, examples: Examples, shots: int, checkpoint: Path | None, contents: Sequence[str]) -> TrainingLoop:
        """A fresh run, or the one that the checkpoint is of, as far as it came."""
        config, engine, total = self.recipe.training, self.recipe.engine, self.recipe.steps(shots)
        device, size = self.backbone.device, min(self._batch_size, len(examples))
        self.processes = join_processes(device)
        needs, passes = self.cuts(size, len(examples))
        state = fresh_state(self.parameters, passes, self.recipe, self.backbone)
        file = None
        if checkpoint is not None:
            texts, count = self.class_vectors.texts, self.processes.count
            facts = run_facts(self.recipe, self.backbone, texts, examples, contents, total, count)
            file = CheckpointFile(checkpoint, facts, engine.checkpoint_seconds)
            file.read_into(state)
            self.processes.refuse_different_steps(state.step, device)
        images = step_images(examples, self.backbone, config, beside=self._crops_beside)
        labels = torch.from_numpy(examples.labels).to(device)
        stages = joined(self.stages(total, state.passes), self.parameters, needs, self.recipe, size)
        steps = steps_of(state, stages, images, labels, size, self.recipe, self.backbone, self.processes)
        written = file if self.processes.is_first else None
        return TrainingLoop(state, config, stages, steps, images, self._is_sound, written, working_seconds)

    def cuts(self, batch_size: int, images: int = 0) -> tuple[Needs, Passes]:
        """The memory that a step needs on this model, and the cuts of a batch that fit it.

        Args:
            batch_size: Images of one step.
            images: How many there are to learn from: what is kept of their views, if they have such, is counted.

        Raises:
            InputError: The recipe's memory budget is too small.
        """
        engine, views, backbone = self.recipe.engine, self.recipe.training.views, self.backbone
        with seeded(self.recipe.training.seed):
            needs = measure_needs(
                backbone,
                self.class_vectors.in_steps(),
                self.keys,
                self.trainable_parameters,
                vectors_are_trained=self.vectors_are_trained,
                checkpointing=engine.gradient_checkpointing,
                views_bytes=views_bytes(backbone, images, views) if views else 0,
                scores_bytes=self.scoring.image_bytes,
                buffers_bytes=pixels_bytes(backbone.device, backbone.image_size, batch_size, beside=self._crops_beside),
                products_in=self._products_in,
            )
        share = self.processes.largest_share
        return needs, choose_passes(needs, engine, share(batch_size), share(len(self.class_vectors)))

    @property
    def _crops_beside(self) -> bool:
        """Whether a device makes a batch's crops while it computes the one before: not where memory is counted."""
        return self.recipe.engine.memory_budget is None

    def exact_step(self, passes: Passes) -> ExactStep:
        """Return what computes a step's gradients with these cuts."""
        return ExactStep(
            self.backbone,
            self.class_vectors.in_steps(),
            self.keys,
            passes,
            self.vectors_are_trained,
            processes=self.processes,
            scoring=self.scoring,
            products_in=self._products_in,
            loss=self.loss,
        )

    @property
    def offsets(self) -> NDArray[np.float64] | None:
        """Those that scores were trained with where images have several labels, ``(C,)``."""
        return self.loss.offsets.double().cpu().numpy() if isinstance(self.loss, SigmoidLoss) else None

    @property
    def _products_in(self) -> torch.dtype | None:
        precision = resolve_adapter_precision(self.recipe.model.adapter_precision, self.backbone.device)
        return self.backbone.dtype if precision == "base" else None

    @property
    def _batch_size(self) -> int:
        """Images of one optimiser step."""
        return self.recipe.training.batch_size * self.recipe.training.gradient_accumulation_steps

    @torch.no_grad()
    def _is_sound(self) -> bool:
        """Whether the trained towers still give numbers: of the classes, and of a grey image. Training is over then."""
        side = self.backbone.image_size
        self._classes = None
        self.backbone.model.eval()
        scores = self.logits(torch.full((1, 3, side, side), 0.5))
        return bool(scores.isfinite().all())

    def encode_classes(self) -> Tensor:
        """The embeddings ``(C, ...)`` of the classes that ``scoring`` compares images with."""
        return self.scoring.classes(self.class_vectors.embeddings())

    @property
    def frozen_images(self) -> bool:
        """Whether the vision tower is as it was loaded."""
        return not self._trains("vision")

    def _trains(self, tower: Tower) -> bool:
        """Whether anything is trained in a tower, or at its input."""
        depths = self.backbone.depths
        return tower in depths and self.backbone.first_trained_stage(tower) <= depths[tower]

    def with_prompts(self, prompts: Sequence[str | Sequence[str]]) -> WeightsLearner:
        """The same trained towers, judging other classes.

        Raises:
            InputError: No text tower reads their names.
        """
        refuse_other_classes(self.backbone)
        other = copy.copy(self)
        other._name_classes(prompts)
        other.kept = None
        return other

    def with_rows(
        self, prompts: Sequence[str | Sequence[str]], rows: Tensor | None = None, kept: KeptShots | None = None
    ) -> WeightsLearner:
        """The same trained towers with a row for each class, in place of what its prompts say.

        Nothing is copied and this learner stays as it is.

        Args:
            prompts: Of each class: what it is called.
            rows: The rows ``(C, D)``, whose lengths count; ``load`` reads them if not given.
            kept: What is kept of the images that they were made of.
        """
        other = copy.copy(self)
        other.class_vectors = RowsAsTheyAre(self.backbone, prompts, self.recipe.training)
        if rows is not None:
            other.class_vectors.rows.data.copy_(rows)
        other.scoring = self.scoring_of(other.class_vectors.owners)
        other._classes, other.kept = None, kept
        return other

    def merged_for_inference(self) -> contextlib.AbstractContextManager[None]:
        """Merged weights, where that is exact."""
        return self.adapter.merged()

    def logits_of(self, embeddings: Tensor) -> Tensor:
        """Class scores ``(B, C)``; but for PLOT++ scaled cosine similarities."""
        classes = self._encoded_classes()
        return self.scoring.scores(embeddings.to(classes.device), classes)

    is_computed = False

    def left_out(self, examples: Examples, chosen: Mapping[str, float], track: Track) -> tuple[Tensor, Tensor]:
        """Only training tells."""
        raise NotImplementedError

    def full_conformal(self) -> FullConformal:
        """Its towers know their own shots, and no other image is like them."""
        raise InputError(
            f"method {self.recipe.method.method} trains the towers, which know their own shots better than any new "
            "image: no set of classes can be guaranteed; leave guaranteed out, or expected a head on frozen features "
            "(docs/concepts/rivals.md)"
        )

    @torch.no_grad()
    def prompt_cosines(self, embeddings: Tensor) -> Tensor | None:
        """Similarities ``(B, C)`` to the classes; where images and classes have several embeddings, of their means."""
        classes = self._encoded_classes()
        return pooled(embeddings.to(classes.device)) @ pooled(classes).T

    @torch.no_grad()
    def _encoded_classes(self) -> Tensor:
        if self._classes is None:
            self._classes = self.encode_classes()
        return self._classes

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """Class scores ``(B, C)``."""
        return self.logits_of(self.backbone.encode_images(images))

    @property
    def adapter_bytes(self) -> int:
        """Size of the tensors' file, and of the class vectors' if they have one."""
        return adapter_bytes(self.adapter) + self.class_vectors.nbytes

    def save(self, folder: Path) -> None:
        """Write the adapter's files, and what was trained of the class vectors."""
        self.adapter.save(folder, self.backbone.identity.id)
        self.class_vectors.save(folder)
        if self.kept is not None:
            write_kept_shots(folder, self.kept)

    def load(self, folder: Path) -> None:
        """Read them back, strictly."""
        self.adapter.load(folder)
        self.class_vectors.load(folder)
        if isinstance(self.class_vectors, RowsAsTheyAre):
            self.kept = read_kept_shots(folder, classes=len(self.class_vectors), width=self.backbone.embedding_size)
        self._classes = None


@contextlib.contextmanager
def _faults_named(device: torch.device) -> Iterator[None]:
    """Turn a device's out-of-memory error, and one of an operation that it lacks, into ones that name the way out."""
    try:
        with lacking_named(device):
            yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise RunError(
            "out of memory with one image and one prompt at a time; try gradient-checkpointing, or quantize nf4"
        ) from error
