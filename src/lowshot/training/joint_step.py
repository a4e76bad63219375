"""The gradients of one step of each of several runs, computed together on the backbone that they share.

The rows of all runs go through the frozen weights as one batch, run after run, as many of each. What adapters add is a
product for each layer and run, and all those of a layer are one grouped product. A row meets the classes of its own run
and no others, and masks go by seed, step and sample, so that no run sees what is beside it: gradients are those that
each would have alone, but for rounding.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Hashable, Iterator, Sequence

import torch
from torch import Tensor

from ..adapters.joint import JointUpdates
from ..models import Products, TowerState
from ..models.tower_state import filled
from ..settings import SETTINGS, Decides, Recipe
from .prompts import ClassPrompts
from .scoring import CosineScoring
from .step import Batch, ExactStep, Passes, embeddings_of, parts, zero_loss


def joined_by(step: ExactStep, recipe: Recipe) -> Hashable | None:
    """Return a key that two runs have in common if their steps can be computed together.

    Returns:
        None where they cannot be: not all that is trained inside the backbone is plain LoRA or LoRA-XS.
    """
    backbone, vectors, updates = step.backbone, step.vectors, step.updates
    trained = {id(parameter) for parameter in backbone.model.parameters() if parameter.requires_grad}
    if trained != {id(parameter) for parameter in updates.parameters} or not trained:
        return None
    if not isinstance(step.scoring, CosineScoring | None) or step.processes.count > 1 or step.draws:
        return None
    cost = {name: getattr(recipe.engine, name) for name, row in SETTINGS.items() if row.decides is Decides.COST}
    return (
        *(backbone.identity.weights_sha256, backbone.identity.settings_sha256, backbone.device, backbone.dtype),
        *(dataclasses.astuple(recipe.model), tuple(cost.values()), updates.shapes, step.products_in),
        *(step.vectors_are_trained, backbone.first_trained_stage("vision"), recipe.training.views is None),
        *((vectors.stage, vectors.shared) if isinstance(vectors, ClassPrompts) else ()),
    )


@dataclasses.dataclass
class JointStep:
    """Computes the gradients of runs whose adapters have the same shapes.

    Args:
        steps: Of each of G runs what computes its gradients alone. They are for the same frozen weights, in the same
            precision; through those of the first one all rows go.
        passes: How to cut: images and prompts of all runs together, of each run at least one.
    """

    steps: Sequence[ExactStep]
    passes: Passes

    def __post_init__(self) -> None:
        first, *others = self.steps
        models = [step.backbone.model for step in others]
        self._backbone, self._trains_vectors = first.backbone, first.vectors_are_trained
        self._updates = JointUpdates(first.backbone.model, first.products_in, models)
        self._products = Products(self._updates)
        self._scoring = [step.scoring or CosineScoring(step.backbone) for step in self.steps]
        self._prompts = [step.vectors for step in self.steps if isinstance(step.vectors, ClassPrompts)]
        self._most_prompts = max(map(len, self._prompts), default=0)
        self._prompt_numbers = 2 * torch.arange(self._most_prompts, device=self._backbone.device) + 1

    def gradients(self, batches: Sequence[Batch]) -> list[Tensor]:
        """Add the gradients of the mean loss of each run's batch to its parameters.

        Args:
            batches: Of each run its batch.

        Returns:
            The loss of each; see ``ExactStep.gradients``.
        """
        self._updates.begin()
        if self._trains_vectors and self._prompts:
            losses = self._through_both_towers(batches)
        else:  # what is no tower's work each run does by itself
            with torch.set_grad_enabled(self._trains_vectors):
                encoded = [step.vectors.encode(range(len(step.vectors))) for step in self.steps]
            losses, gradients = self._through_images(batches, encoded)
            for vectors, gradient in zip(encoded, gradients, strict=False):  # there are none of what is not trained
                vectors.backward(gradient)  # type: ignore[no-untyped-call]
        self._updates.finish()
        return losses

    def _through_both_towers(self, batches: Sequence[Batch]) -> list[Tensor]:
        chunks = parts(range(self._most_prompts), self.passes.prompts // len(self.steps))
        whole = len(chunks) == 1
        encoded = []
        for part in chunks:
            with self._prompt_pass(batches, part), torch.set_grad_enabled(whole):
                encoded.append(self._encode(part))
        every = torch.cat(encoded, 1).detach()
        vectors = [each[: len(prompts)] for each, prompts in zip(every, self._prompts, strict=True)]
        losses, gradients = self._through_images(batches, vectors)
        gathered = torch.stack([filled(gradient, self._most_prompts) for gradient in gradients])
        for index, part in enumerate(chunks):
            with self._prompt_pass(batches, part):
                embeddings = encoded[index] if whole else self._encode(part)
                embeddings.backward(gathered[:, part.start : part.stop])  # type: ignore[no-untyped-call]
        return losses

    def _through_images(self, batches: Sequence[Batch], vectors: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """The loss of each run, and the gradient on its class vectors if such are trained.

        Args:
            batches: Of each run its batch.
            vectors: Of each run those of its classes, ``(P, D)``.
        """
        leaves = [each.detach().requires_grad_(self._trains_vectors) for each in vectors]
        compared = [scoring.classes(leaf) for scoring, leaf in zip(self._scoring, leaves, strict=True)]
        classes = [each.detach().requires_grad_(self._trains_vectors) for each in compared]
        losses = [zero_loss(each.device) for each in classes]
        for part in parts(range(max(len(batch.rows) for batch in batches)), self.passes.images // len(batches)):
            for number, loss in enumerate(self._image_pass(batches, classes, part)):
                losses[number] += loss
        if not self._trains_vectors:
            return losses, []
        gathered = [torch.zeros_like(each) if each.grad is None else each.grad for each in classes]
        return losses, list(torch.autograd.grad(compared, leaves, gathered))

    def _image_pass(self, batches: Sequence[Batch], classes: Sequence[Tensor], part: range) -> list[Tensor]:
        """Propagate the share of some rows of each run back into the vision tower; returns their part of the losses."""
        some = [_within(part, len(batch.rows)) for batch in batches]
        images = _evened([batch.images(at) for batch, at in zip(batches, some, strict=True)], len(part))
        samples = [
            filled(2 * batch.rows[at.start : at.stop], len(part)) for batch, at in zip(batches, some, strict=True)
        ]
        shares, losses = [], []
        with self._pass(batches, samples):
            embeddings = embeddings_of(self._backbone, images).view(len(batches), len(part), -1)
            for number, (batch, at) in enumerate(zip(batches, some, strict=True)):
                scores = self._scoring[number].scores(embeddings[number, : len(at)], classes[number])
                labels = batch.labels[at.start : at.stop]
                count = len(batch.rows) if batch.count is None else batch.count
                loss = self.steps[number].loss(scores, labels) / count
                losses.append(loss.detach())
                shares.append(loss * self.steps[number].loss_scale)
            torch.stack(shares).sum().backward()  # type: ignore[no-untyped-call]
        return losses

    def _encode(self, part: range) -> Tensor:
        """Unit embeddings ``(G, N, D)`` of some prompts of each run; one with fewer is filled up, if by its first."""
        states = [prompts.of(_within(part, len(prompts)) or range(1)) for prompts in self._prompts]
        embeddings = self._backbone.finish(TowerState.evened(states, len(part)))
        return embeddings.view(len(self.steps), len(part), -1)

    def _prompt_pass(self, batches: Sequence[Batch], part: range) -> contextlib.AbstractContextManager[None]:
        return self._pass(batches, [self._prompt_numbers[part.start : part.stop]] * len(batches))

    @contextlib.contextmanager
    def _pass(self, batches: Sequence[Batch], samples: Sequence[Tensor]) -> Iterator[None]:
        """Around a pass of all runs through a tower: masks go by each run's seed, step and samples."""
        with contextlib.ExitStack() as stack:
            for step, batch, each in zip(self.steps, batches, samples, strict=True):
                stack.enter_context(step.keys.of(batch.number, each))
            stack.enter_context(self._updates.passing())
            stack.enter_context(self._backbone.computed_by(self._products))
            yield


def _within(part: range, count: int) -> range:
    return range(min(part.start, count), min(part.stop, count))


def _evened(images: Sequence[Tensor | TowerState], rows: int) -> Tensor | TowerState:
    """Images of all runs, or these part of the way through the vision tower, each run's filled up to so many rows."""
    states = [each for each in images if isinstance(each, TowerState)]
    if states:
        return TowerState.evened(states, rows)
    return torch.cat([filled(each, rows) for each in images if isinstance(each, Tensor)])
