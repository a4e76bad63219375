"""The gradient of one optimiser step, exact however the batch is cut up.

The loss is a mean over images, and each image meets all classes. So the class embeddings are computed once per step
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

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..adapters import MaskKeys
from ..models import Backbone, Partway
from ..randomness import seeded
from .processes import Processes
from .prompts import ClassPrompts
from .scoring import CosineScoring, Scoring

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


@dataclasses.dataclass
class ExactStep:
    """Computes the gradients of a backbone's adapters.

    Args:
        backbone: With its adapter, in training mode.
        tokens: The prompts of all classes, ``(P, L)`` each.
        keys: Those of the adapters' dropout.
        passes: How to cut.
        text_is_trained: Whether gradients go into the text tower.
        shared_prefix: Put what all prompts begin with through the text tower once, where that is exact.
        partway: Compute what enters the first trained block of the text tower in the first step, and keep it.
        processes: Those that share the batch and the prompts between them.
        loss_scale: What the loss is multiplied by before it is propagated back, and with it every gradient.
        scoring: Compares images with classes; None for cosine similarity, where each class has one prompt.
    """

    backbone: Backbone
    tokens: dict[str, Tensor]
    keys: MaskKeys
    passes: Passes
    text_is_trained: bool
    shared_prefix: bool = True
    partway: bool = True
    processes: Processes = dataclasses.field(default_factory=Processes)
    loss_scale: float = 1.0
    scoring: Scoring | None = None

    def __post_init__(self) -> None:
        self._scoring = CosineScoring(self.backbone) if self.scoring is None else self.scoring
        self._prompts = ClassPrompts(self.backbone, self.tokens, shared_prefix=self.shared_prefix, partway=self.partway)

    def accumulate(
        self,
        number: int,
        rows: Sequence[int],
        labels: Tensor,
        images_of: Callable[[Sequence[int]], Tensor | Partway],
    ) -> float:
        """Add the gradients of the mean cross-entropy over the rows to the parameters: this process's share of them.

        Args:
            number: Of the step, from 0: with the rows it decides the dropout's masks.
            rows: Which examples, B of them.
            labels: Their classes, ``(B,)``.
            images_of: Some of the rows to their images ``(N, 3, S, S)``, or to these part of the way through the
                vision tower.

        Returns:
            The loss.
        """
        if not self.text_is_trained:
            classes = self._scoring.classes(self._frozen(number))
            return self._through_images(number, rows, labels, images_of, classes).item()
        own = self.processes.share(len(self._prompts))
        whole = len(own) <= self.passes.prompts
        with torch.set_grad_enabled(whole):
            encoded = [self._encode(number, chunk) for chunk in self._chunks(own)]
        prompts = self._gathered(encoded, own).requires_grad_()
        compared = self._scoring.classes(prompts)
        classes = compared.detach().requires_grad_()
        loss = self._through_images(number, rows, labels, images_of, classes)
        gathered = torch.zeros_like(classes) if classes.grad is None else classes.grad
        self.processes.add_up(gathered)
        (gradient,) = torch.autograd.grad(compared, prompts, gathered)
        for chunk, part in zip(self._chunks(own), encoded, strict=True):
            with self.keys.of(number, self._samples(chunk)):
                again = part if whole else self._encode(number, chunk)
                again.backward(gradient[chunk.start : chunk.stop])  # type: ignore[no-untyped-call]
        return loss.item()  # asked for last: a device has work until then

    def _frozen(self, number: int) -> Tensor:
        with torch.no_grad():
            return torch.cat([self._encode(number, chunk) for chunk in self._chunks(range(len(self._prompts)))])

    def _gathered(self, encoded: Sequence[Tensor], own: range) -> Tensor:
        """The embeddings of all prompts ``(P, D)``, outside the graph: this process's and the others'."""
        mine = torch.cat([part.detach() for part in encoded]) if encoded else None
        if self.processes.count == 1:
            assert mine is not None
            return mine
        with torch.no_grad():  # where there are fewer prompts than processes some have none
            like = self._encode(0, range(1)) if mine is None else mine
        prompts = torch.zeros(len(self._prompts), like.shape[1], dtype=like.dtype, device=like.device)
        if mine is not None:
            prompts[own.start : own.stop] = mine
        self.processes.add_up(prompts)
        return prompts

    def _through_images(
        self,
        number: int,
        rows: Sequence[int],
        labels: Tensor,
        images_of: Callable[[Sequence[int]], Tensor | Partway],
        classes: Tensor,
    ) -> Tensor:
        own = self.processes.share(len(rows))
        total = torch.zeros((), dtype=torch.float64, device=classes.device)
        for start in range(own.start, own.stop, self.passes.images):
            part = rows[start : min(start + self.passes.images, own.stop)]
            with self._drawing(number, [2 * row for row in part]):
                scores = self._scoring.scores(self._encode_images(images_of(part)), classes)
                chosen = labels[start : start + len(part)]
                loss = functional.cross_entropy(scores, chosen, reduction="sum") / len(rows)
                (loss * self.loss_scale).backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        self.processes.add_up(total)
        return total

    def _encode_images(self, images: Tensor | Partway) -> Tensor:
        if isinstance(images, Partway):
            return self.backbone.finish(images)
        return self.backbone.encode_images(images)

    def _chunks(self, prompts: range) -> Iterator[range]:
        for start in range(prompts.start, prompts.stop, self.passes.prompts):
            yield range(start, min(start + self.passes.prompts, prompts.stop))

    def _encode(self, number: int, chunk: range) -> Tensor:
        with self._drawing(number, self._samples(chunk)):
            return self.backbone.finish(self._prompts.of(chunk))

    @contextlib.contextmanager
    def _drawing(self, number: int, samples: Sequence[int]) -> Iterator[None]:
        """What is drawn in a pass depends on the seed, the step and the samples: a pass taken again draws the same.

        The masks of our own dropout do not even depend on the cut. Some of PEFT's tuners draw from torch's generator.
        """
        draws = np.random.SeedSequence([self.keys.seed, number, samples[0], _DRAWS])
        with seeded(int(draws.generate_state(1, np.uint64)[0])), self.keys.of(number, samples):
            yield

    @staticmethod
    def _samples(prompts: range) -> list[int]:
        """Images have even numbers, prompts odd ones."""
        return [2 * index + 1 for index in prompts]
