"""The gradient of one optimiser step, exact however the batch is cut up.

The loss is a mean over images, and each image meets all classes. So the class embeddings are computed once per step
and taken out of the graph; each chunk of images is put through its tower, its share of the loss is propagated back into
its own graph and into those embeddings, and its graph is gone before the next chunk comes. At the end what has gathered
on the embeddings is propagated into the text tower: all at once, or, where its graph would be too large, prompt chunk
by prompt chunk, each computed a second time. Sums of gradients do not depend on the cuts but for rounding.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..adapters import MaskKeys
from ..models import Backbone


@dataclasses.dataclass(frozen=True)
class Passes:
    """How much goes through a tower at once. It decides time and memory, never the result."""

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
        tokens: The class prompts, ``(C, L)`` each.
        keys: Those of the adapters' dropout.
        passes: How to cut.
        text_is_trained: Whether gradients go into the text tower.
    """

    backbone: Backbone
    tokens: dict[str, Tensor]
    keys: MaskKeys
    passes: Passes
    text_is_trained: bool

    def accumulate(
        self,
        number: int,
        rows: Sequence[int],
        labels: Tensor,
        images_of: Callable[[Sequence[int]], Tensor],
        frozen_classes: Tensor | None = None,
    ) -> float:
        """Add the gradients of the mean cross-entropy over the rows to the parameters.

        Args:
            number: Of the step, from 0: with the rows it decides the dropout's masks.
            rows: Which examples, B of them.
            labels: Their classes, ``(B,)``.
            images_of: Some of the rows to their images ``(N, 3, S, S)``.
            frozen_classes: Class embeddings ``(C, D)`` where the text tower is not trained.

        Returns:
            The loss.
        """
        whole = len(self.tokens["input_ids"]) <= self.passes.prompts
        if frozen_classes is not None:
            classes = frozen_classes
        else:
            with torch.set_grad_enabled(self.text_is_trained and whole):
                classes = torch.cat([self._encode(number, chunk) for chunk in self._prompt_chunks()])
        leaf = classes.detach().requires_grad_(self.text_is_trained)
        loss = self._through_images(number, rows, labels, images_of, leaf)
        if self.text_is_trained:
            self._through_prompts(number, classes if whole else None, leaf)
        return loss

    def _through_images(
        self,
        number: int,
        rows: Sequence[int],
        labels: Tensor,
        images_of: Callable[[Sequence[int]], Tensor],
        classes: Tensor,
    ) -> float:
        total = 0.0
        for start in range(0, len(rows), self.passes.images):
            part = rows[start : start + self.passes.images]
            with self.keys.of(number, [2 * row for row in part]):
                scores = self.backbone.logits(self.backbone.encode_images(images_of(part)), classes)
                chosen = labels[start : start + len(part)]
                loss = functional.cross_entropy(scores, chosen, reduction="sum") / len(rows)
                loss.backward()  # type: ignore[no-untyped-call]
            total += loss.item()
        return total

    def _through_prompts(self, number: int, classes: Tensor | None, leaf: Tensor) -> None:
        assert leaf.grad is not None
        if classes is not None:
            with self.keys.of(number, self._samples(range(len(leaf)))):
                classes.backward(leaf.grad)  # type: ignore[no-untyped-call]
            return
        for chunk in self._prompt_chunks():
            with self.keys.of(number, self._samples(chunk)):
                self._encode(number, chunk).backward(leaf.grad[chunk.start : chunk.stop])  # type: ignore[no-untyped-call]

    def _prompt_chunks(self) -> Iterator[range]:
        count = len(self.tokens["input_ids"])
        for start in range(0, count, self.passes.prompts):
            yield range(start, min(start + self.passes.prompts, count))

    def _encode(self, number: int, chunk: range) -> Tensor:
        tokens: dict[str, Any] = {name: ids[chunk.start : chunk.stop] for name, ids in self.tokens.items()}
        with self.keys.of(number, self._samples(chunk)):
            return self.backbone.encode_prompts(tokens)

    @staticmethod
    def _samples(classes: range) -> list[int]:
        """Images have even numbers, classes odd ones."""
        return [2 * index + 1 for index in classes]
