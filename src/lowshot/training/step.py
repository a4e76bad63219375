"""The gradient of one optimiser step, exact however the batch is cut up.

The loss is a mean over images, and each image meets all classes. So the class vectors are computed once per step
and taken out of the graph; each chunk of images is put through its tower, its share of the loss is propagated back into
its own graph and into those embeddings, and its graph is gone before the next chunk comes. At the end what has gathered
on the embeddings goes back through what is made of a class's prompts and is propagated into the text tower: all at
once, or, where its graph would be too large, prompt chunk by prompt chunk, each computed a second time. Sums of
gradients do not depend on the cuts but for rounding.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ..adapters import MaskKeys, draws_from_torch
from ..adapters.joint import JointUpdates
from ..models import Backbone, Products, TowerState, has_float64
from ..randomness import seeded
from .class_vectors import StepVectors
from .processes import Processes
from .scoring import CosineScoring, Loss, Scoring, cross_entropy

_DRAWS = 3  # keeps this stream of a seed apart from those of crops and of the order


@dataclasses.dataclass(frozen=True)
class Passes:
    """How much goes through a tower at once. It decides time and memory, and of the result no more than rounding."""

    images: int
    """Images in one forward and backward pass."""
    prompts: int
    """Prompts in one pass; where that is fewer than all, the text tower runs forward twice."""

    def halved(self) -> Passes | None:
        """Half as much at once; None where there is nothing left to halve."""
        if self.images == self.prompts == 1:
            return None
        return Passes(max(1, self.images // 2), max(1, self.prompts // 2))


@dataclasses.dataclass(frozen=True)
class Batch:
    """The images and labels of one step. Where its numbers are tensors, all of it lies on the model's device.

    Args:
        number: Of the step, from 0: with the rows it decides the dropout's masks.
        rows: Which examples, ``(B,)``, int64.
        labels: Their classes, ``(B,)``, or ``(B, C)`` as ``Loss`` has them; ``IGNORED`` for a row that only fills the
            batch up.
        images: Some places of the batch to their images ``(N, 3, S, S)``, or to these part of the way through the
            vision tower.
        count: How many rows are not ignored; B if not given.
        first_rows: The number of the row at a place, for what draws from torch; None if nothing does.
    """

    number: int | Tensor
    rows: Tensor
    labels: Tensor
    images: Callable[[range], Tensor | TowerState]
    count: Tensor | None = None
    first_rows: Sequence[int] | None = None

    @classmethod
    def of(
        cls,
        number: int,
        rows: Sequence[int],
        labels: Tensor,
        images_of: Callable[[Sequence[int]], Tensor | TowerState],
    ) -> Batch:
        """Make a batch of rows that the processor knows.

        Args:
            number: Of the step, from 0.
            rows: Which examples, B of them.
            labels: Their classes, ``(B,)``.
            images_of: Some of the rows to their images ``(N, 3, S, S)``, or to these part of the way through the
                vision tower.
        """
        numbers = torch.as_tensor(list(rows), device=labels.device)
        return cls(number, numbers, labels, lambda at: images_of(rows[at.start : at.stop]), first_rows=rows)


class StepGradients(Protocol):
    """Computes the gradients of a step, so much at once, and leaves them on the parameters."""

    passes: Passes
    loss_scale: float | Tensor
    """Multiplies the loss before it is propagated back, and with it every gradient."""

    def gradients(self, batch: Batch) -> Tensor:
        """Add this process's share of the gradients; returns the loss of the whole batch, see ``zero_loss``."""


@dataclasses.dataclass
class ExactStep:
    """Computes the gradients of a backbone's adapters.

    Args:
        backbone: With its adapter, in training mode.
        vectors: Those of the classes.
        keys: Those of the adapters' dropout.
        passes: How to cut.
        vectors_are_trained: Whether gradients go into them, or into the text tower that gives them.
        processes: Those that share the batch and the prompts between them.
        loss_scale: What the loss is multiplied by before it is propagated back, and with it every gradient.
        scoring: Compares images with classes; None for cosine similarity, where each class has one vector.
        products_in: Type of the adapters' own products; that of their parameters if not given.
        joint: Compute layers that see the same input together.
        loss: Of the scores and labels of some images.
    """

    backbone: Backbone
    vectors: StepVectors
    keys: MaskKeys
    passes: Passes
    vectors_are_trained: bool
    processes: Processes = dataclasses.field(default_factory=Processes)
    loss_scale: float | Tensor = 1.0
    scoring: Scoring | None = None
    products_in: torch.dtype | None = None
    joint: bool = True
    loss: Loss = cross_entropy

    def __post_init__(self) -> None:
        self._scoring = CosineScoring(self.backbone) if self.scoring is None else self.scoring
        self.updates = JointUpdates(self.backbone.model, self.products_in)
        """Those of the layers that are computed together."""
        self._products = Products(self.updates)
        self._prompt_numbers = 2 * torch.arange(len(self.vectors), device=self.backbone.device) + 1
        self.draws = draws_from_torch(self.backbone.model)
        """Whether a pass may draw from torch; then its draws are seeded."""

    def accumulate(
        self,
        number: int,
        rows: Sequence[int],
        labels: Tensor,
        images_of: Callable[[Sequence[int]], Tensor | TowerState],
    ) -> float:
        """Add the gradients of the rows of a step, and wait for the loss; see ``Batch.of`` and ``gradients``."""
        return self.gradients(Batch.of(number, rows, labels, images_of)).item()

    def gradients(self, batch: Batch) -> Tensor:
        """Add the gradients of the mean of ``loss`` over the rows to the parameters: this process's share of them.

        Returns:
            The loss, in the type of ``zero_loss``. It stays on the device, and nothing here waits for one.
        """
        self.updates.begin()
        if self.vectors_are_trained:
            own = self.processes.share(len(self.vectors))
            whole = len(own) <= self.passes.prompts
            with torch.set_grad_enabled(whole):
                encoded = [self._encode(batch, chunk) for chunk in parts(own, self.passes.prompts)]
            prompts = self._gathered(batch, encoded, own).requires_grad_()
            compared = self._scoring.classes(prompts)
            classes = compared.detach().requires_grad_()
            loss = self._through_images(batch, classes)
            gathered = torch.zeros_like(classes) if classes.grad is None else classes.grad
            self.processes.add_up(gathered)
            (gradient,) = torch.autograd.grad(compared, prompts, gathered)
            self._through_prompts(batch, own, encoded if whole else None, gradient)
        else:
            with torch.no_grad():
                encoded = [self._encode(batch, chunk) for chunk in parts(range(len(self.vectors)), self.passes.prompts)]
            loss = self._through_images(batch, self._scoring.classes(torch.cat(encoded)))
        self.updates.finish()
        return loss

    def _through_prompts(self, batch: Batch, own: range, encoded: Sequence[Tensor] | None, gradient: Tensor) -> None:
        """Propagate the gradient of all vectors ``(P, D)`` back into whatever gives them.

        Args:
            batch: Of the step.
            own: This process's prompts.
            encoded: Their embeddings, chunk by chunk, with their graphs; None where those have to be computed again.
            gradient: Of the loss.
        """
        for index, chunk in enumerate(parts(own, self.passes.prompts)):
            part = gradient[chunk.start : chunk.stop]
            if encoded is None:
                with self._prompt_pass(batch, chunk):
                    self.vectors.encode(chunk).backward(part)  # type: ignore[no-untyped-call]
            else:
                with self._pass(batch.number, self._prompt_numbers[chunk.start : chunk.stop]):
                    encoded[index].backward(part)  # type: ignore[no-untyped-call]

    def _gathered(self, batch: Batch, encoded: Sequence[Tensor], own: range) -> Tensor:
        """The embeddings of all prompts ``(P, D)``, outside the graph: this process's and the others'."""
        mine = torch.cat([part.detach() for part in encoded]) if encoded else None
        if self.processes.count == 1:
            assert mine is not None
            return mine
        with torch.no_grad():  # where there are fewer prompts than processes some have none
            like = self._encode(batch, range(1)) if mine is None else mine
        prompts = torch.zeros(len(self.vectors), like.shape[1], dtype=like.dtype, device=like.device)
        if mine is not None:
            prompts[own.start : own.stop] = mine
        self.processes.add_up(prompts)
        return prompts

    def _through_images(self, batch: Batch, classes: Tensor) -> Tensor:
        own, numbers = self.processes.share(len(batch.rows)), 2 * batch.rows  # prompts have odd numbers
        count = len(batch.rows) if batch.count is None else batch.count
        total = zero_loss(classes.device)
        for part in parts(own, self.passes.images):
            first = None if batch.first_rows is None else 2 * batch.first_rows[part.start]
            images = batch.images(part)
            with self._pass(batch.number, numbers[part.start : part.stop], first):
                scores = self._scoring.scores(embeddings_of(self.backbone, images), classes)
                labels = batch.labels[part.start : part.stop]
                loss = self.loss(scores, labels) / count
                (loss * self.loss_scale).backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        self.processes.add_up(total)
        return total

    def _encode(self, batch: Batch, chunk: range) -> Tensor:
        with self._prompt_pass(batch, chunk):
            return self.vectors.encode(chunk)

    def _prompt_pass(self, batch: Batch, chunk: range) -> contextlib.AbstractContextManager[None]:
        return self._pass(batch.number, self._prompt_numbers[chunk.start : chunk.stop], 2 * chunk.start + 1)

    @contextlib.contextmanager
    def _pass(self, number: int | Tensor, samples: Tensor, first: int | None = None) -> Iterator[None]:
        """Seed the draws of a pass by seed, step and samples: a pass taken again draws the same.

        The masks of our own dropout do not even depend on the cut. Some of PEFT's tuners draw from torch.

        Args:
            number: Of the step.
            samples: Numbers of the rows, ``(N,)``.
            first: That of the first row, where what torch draws is to be seeded.
        """
        with contextlib.ExitStack() as stack:
            if self.draws and first is not None:
                draws = np.random.SeedSequence([self.keys.seed, int(number), first, _DRAWS])
                stack.enter_context(seeded(int(draws.generate_state(1, np.uint64)[0])))
            stack.enter_context(self.keys.of(number, samples))
            stack.enter_context(self.updates.passing())
            if self.joint:
                stack.enter_context(self.backbone.computed_by(self._products))
            yield


def parts(whole: range, most: int) -> list[range]:
    """A range in parts of so many at most."""
    return [whole[start : start + most] for start in range(0, len(whole), most)]


def zero_loss(device: torch.device) -> Tensor:
    """A sum of losses to begin with: float64 where the device has that, else float32."""
    return torch.zeros((), dtype=torch.float64 if has_float64(device) else torch.float32, device=device)


def embeddings_of(backbone: Backbone, images: Tensor | TowerState) -> Tensor:
    """Unit embeddings of images, or of what is part of the way through the vision tower."""
    return backbone.finish(images) if isinstance(images, TowerState) else backbone.encode_images(images)
