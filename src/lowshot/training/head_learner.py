"""Methods on the backbone's frozen features: one pass over the shots, and a head on what it gives."""

from __future__ import annotations

import contextlib
import copy
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from ..data.store import DecodedOnce
from ..data.task import Examples, Images, ImageSubset, Part
from ..errors import InputError
from ..heads import (
    HEADS,
    Computed,
    FullConformal,
    Head,
    KeptShots,
    Schedule,
    Shots,
    Text,
    left_out,
    read_head,
    read_kept_shots,
    tensors_of,
    trained_numbers,
    write_head,
    write_kept_shots,
)
from ..heads.kept_shots import MOST_BYTES
from ..models import Backbone, has_float64, lacking_named, resolve_precision, set_precision
from ..models.classes import embedded
from ..progress import UNREPORTED, Report, Track
from ..settings import Recipe
from ..tensor_file import serialized_size
from .create import refuse_other_classes
from .embeddings import EmbeddingCache, Embeddings, encoded_views, tower_key
from .kept_images import KeptImages
from .learner import TrainingOutcome
from .memory import memory_use

SHARED_SHOTS = EmbeddingCache()
"""Embeddings of shots that the learners of this process share."""


class HeadLearner:
    """A head on a frozen backbone; for ``zero-shot`` there is none.

    Zero-shot is CLIP as it is: the class whose prompt, or mean of prompts, is nearest (arXiv 2103.00020, section
    3.1.2). The other methods are in ``heads``.

    Args:
        backbone: Changed in place: brought to the recipe's precision.
        prompts: Of each class one, or several whose embeddings are averaged.
        recipe: Method, training and precision.
    """

    frozen_images = True
    offsets = None

    def __init__(self, backbone: Backbone, prompts: Sequence[str | Sequence[str]], recipe: Recipe) -> None:
        self.backbone = backbone
        self.recipe = recipe
        model = recipe.model
        linears = backbone.quantized_linears(projection=model.quantize_projection)
        precision = resolve_precision(model.quantize, model.precision, backbone)
        set_precision(backbone.model, linears, quantize=model.quantize, precision=precision)
        for other in backbone.beside:
            set_precision(other.model, (), precision=precision)
        self._kind = HEADS.get(recipe.method.method)
        self.head: Head | None = None
        """The trained head; None before training, and for classes that have no shots."""
        self.kept: KeptShots | None = None
        """The shots that the head was learnt from; None before, and where they were not kept."""
        self._tokenize(prompts)

    @torch.no_grad()
    def _tokenize(self, prompts: Sequence[str | Sequence[str]]) -> None:
        self.classes, self._lengths = embedded(self.backbone, prompts)
        """Class embeddings ``(C, D)``, and what they measured before they were brought to length 1."""

    @property
    def text(self) -> Text:
        """The class prompts as a head takes them."""
        return Text(self.classes, self.backbone.logit_scale, self._lengths, has_words=self.backbone.has_text)

    @property
    def trainable_parameters(self) -> int:
        """Numbers that an optimiser trained: 0 before, and where all of them are computed."""
        return 0 if self.head is None else trained_numbers(type(self.head), tensors_of(self.head))

    def fit(
        self,
        examples: Examples,
        shots: int,  # noqa: ARG002
        track: Track,
        checkpoint: Path | None = None,
        contents: Sequence[str] = (),  # noqa: ARG002
        report: Report = UNREPORTED,
    ) -> TrainingOutcome:
        """Encode the shots, unless another learner has done so, and fit the head to them.

        It takes so little time that no state is kept: a run that was interrupted starts again.

        Raises:
            InputError: There is a state of training, which is not of this; or there are too many shots for the method.
            RunError: The training of the head diverged.
        """
        if checkpoint is not None and checkpoint.exists():
            raise InputError(
                f"training state {checkpoint} is of another run: {self.recipe.method.method} keeps none; remove it"
            )
        if self._kind is None:
            return TrainingOutcome()
        report.begin(uuid.uuid4().hex, ())
        with lacking_named(self.backbone.device), memory_use(self.backbone.device) as memory:
            embeddings = self._embeddings(examples.images, self.recipe.training.views, track)
            started = time.perf_counter()
            shots_of_head, config = self._shots(examples, embeddings), self.recipe.training
            schedule = Schedule(
                learning_rate=config.learning_rate,
                minimum_learning_rate=config.minimum_learning_rate,
                weight_decay=config.weight_decay,
                batch_size=config.batch_size,
                seed=config.seed,
            )
            fit = self._kind.fit(shots_of_head, schedule, report)
            seconds = embeddings.seconds + time.perf_counter() - started
        moved = {name: tensor.to(self.backbone.device) for name, tensor in tensors_of(fit.head).items()}
        self.head = type(fit.head)(**moved)
        notes = [*fit.notes, *self._keep(examples, embeddings.values, track)]
        return TrainingOutcome(
            steps=fit.steps,
            seconds=seconds,
            static_memory_bytes=memory.static,
            peak_memory_bytes=memory.peak,
            reserved_memory_bytes=memory.reserved,
            final_loss=fit.final_loss,
            chosen=fit.chosen,
            notes=tuple(notes),
        )

    def _shots(self, examples: Examples, embeddings: Embeddings) -> Shots:
        # Several heads are solved for in float64: without it on the device that is done on the CPU.
        device = self.backbone.device if has_float64(self.backbone.device) else torch.device("cpu")
        labels = torch.from_numpy(examples.labels).to(device)
        return Shots(embeddings.values.to(device), labels, self.text.to(device))

    @property
    def is_computed(self) -> bool:
        """Whether the head is computed from the shots, with hyper-parameters that may stay as they are."""
        return self._kind is not None and "again" in vars(self._kind)  # one that derives from such may train it further

    @torch.no_grad()
    def left_out(self, examples: Examples, chosen: Mapping[str, float], track: Track) -> tuple[Tensor, Tensor]:
        """Class scores ``(N, C)`` of the central crop of each image."""
        shots = self._shots(examples, self._embeddings(examples.images, self.recipe.training.views, track))
        images = self._embeddings(examples.images, None, track).values[0]
        return left_out(cast("type[Computed]", self._kind), shots, images.to(shots.features), chosen)

    def _keep(self, examples: Examples, embeddings: Tensor, track: Track) -> list[str]:
        """Keep the shots for a class more; returns a line where they are too many."""
        if isinstance(examples.images, Part):  # a fold
            return []
        config, central = self.recipe.training, embeddings[:0]
        # What is told of held-out shots is made anew with a class more.
        if config.views and (config.calibration_folds or config.reject or examples.has_several):
            central = self._embeddings(examples.images, None, track).values
        labels = torch.from_numpy(examples.labels.copy())
        kept = KeptShots(embeddings.float(), labels, central.float())
        if kept.bytes > MOST_BYTES:
            size, most = kept.bytes / 1e6, MOST_BYTES / 1e6
            return [
                f"the embeddings of the shots have {size:,.0f} MB, and {most:.0f} MB at most are kept: for a class "
                "more this adapter must be fitted anew"
            ]
        self.kept = kept
        return []

    def _embeddings(self, images: Images, views: int | None, track: Track, first: int = 0) -> Embeddings:
        """Embeddings ``(V, N, D)`` of V views of each image: random crops, or the central one without ``views``.

        A part of the shots has the views that its images have among all of them.

        Args:
            images: N images.
            views: V, or None.
            track: Shows progress.
            first: Number of the first image among the shots, by which its random crops are drawn.
        """
        if isinstance(images, Part):
            values, seconds = self._embeddings(images.images, views, track, first)
            return Embeddings(values[:, list(images.indices)], seconds)
        if isinstance(images, KeptImages):
            known = images.shots.features if views == self.recipe.training.views else images.shots.central
            if not len(images.more):
                return Embeddings(known, 0.0)
            values, seconds = self._embeddings(images.more, views, track, len(images.shots))
            return Embeddings(torch.cat([known, values], dim=1), seconds)
        config, given = self.recipe.training, images
        rows: Sequence[int] = range(len(images))
        # The sequence that these images are some of, decoded once or not, is what the cache knows them by.
        while isinstance(images, ImageSubset | DecodedOnce):
            if isinstance(images, ImageSubset):
                rows = [images.indices[row] for row in rows]
            images = images.images
        crops = (views, config.crop_minimum, config.flip, config.seed, first) if views else ()
        key = *tower_key(self.backbone, self.recipe.model), crops, tuple(rows)
        what = f"encoding for {self.recipe.method.method}"
        return SHARED_SHOTS.get(
            key, images, lambda: encoded_views(self.backbone, given, config, views, track, what, first)
        )

    def with_prompts(self, prompts: Sequence[str | Sequence[str]]) -> HeadLearner:
        """The same towers, judging other classes, of which there are no shots.

        Methods that blend shots and prompts judge them by the prompts alone, CLIP-Adapter through its bottleneck.

        Raises:
            InputError: The method knows a class by its shots alone.
        """
        judged_by = "text" if self._kind is None else self._kind.OTHER_CLASSES
        refuse_other_classes(self.backbone)
        if judged_by == "none":
            raise InputError(
                f"method {self.recipe.method.method} knows a class by its shots alone and cannot judge others; "
                "expected a method that uses class prompts (docs/concepts/rivals.md), or the protocol few-shot"
            )
        other = copy.copy(self)
        other.head = self.head if judged_by == "head" else None
        other._tokenize(prompts)
        return other

    def full_conformal(self) -> FullConformal:
        """P-values by the shots as they are judged, whichever head was learnt from them."""
        method, kept = self.recipe.method.method, self.kept
        if self._kind is None:
            raise InputError(
                f"method {method} learns from no shots that a guarantee could come from; leave guaranteed out, or "
                "expected another head on frozen features (docs/concepts/rivals.md)"
            )
        if kept is None:
            raise InputError(
                "this adapter has no shots beside it (shots.safetensors), which sets with a guarantee are made by; "
                "leave guaranteed out, or fit it anew"
            )
        if self.recipe.training.views and not len(kept.central):
            raise InputError(
                f"method {method} has kept random crops of its shots alone, and images are judged by their middle; fit "
                "it with --calibration-folds 4, which keeps that too (calibration_folds=4 from Python)"
            )
        embeddings = kept.central if len(kept.central) else kept.features
        return FullConformal(Shots(embeddings, kept.labels, self.text.to(torch.device("cpu"))))

    def merged_for_inference(self) -> contextlib.AbstractContextManager[None]:
        """Nothing to prepare."""
        return contextlib.nullcontext()

    def logits_of(self, embeddings: Tensor) -> Tensor:
        """Class scores ``(B, C)``; scaled cosine similarities where there is no head."""
        images = embeddings.to(self.classes.device)
        if self.head is None:
            return self.backbone.logits(images, self.classes)
        return self.head.scores(images, self.text)

    @torch.no_grad()
    def prompt_cosines(self, embeddings: Tensor) -> Tensor | None:
        """Similarities ``(B, C)`` to the class prompts, of which the head has no part; None without a text tower."""
        return self.text.cosines(embeddings.to(self.classes.device)) if self.backbone.has_text else None

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """Class scores ``(B, C)``."""
        return self.logits_of(self.backbone.encode_images(images))

    @property
    def adapter_bytes(self) -> int:
        """Size of the head's file; 0 where there is none."""
        return 0 if self.head is None else serialized_size(tensors_of(self.head))

    def save(self, folder: Path) -> None:
        """Write the head's tensors; of zero-shot there is nothing to write: the prompts in the record say it all."""
        if self.head is not None:
            write_head(folder, self.head)
        if self.kept is not None:
            write_kept_shots(folder, self.kept)

    def load(self, folder: Path) -> None:
        """Read them back, strictly."""
        if self._kind is not None:
            (classes, width), device = self.classes.shape, self.classes.device
            self.head = read_head(folder, self._kind, classes=classes, width=width, device=device)
            self.kept = read_kept_shots(folder, classes=classes, width=width)
