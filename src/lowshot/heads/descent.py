"""Gradient descent on embeddings: what the trained heads share."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..errors import RunError
from ..progress import Report, StepTaken
from .head import Schedule
from .shots import Shots

WARMUP_LEARNING_RATE = 1e-5
_ORDER = 5  # keeps the order of the images apart from a seed's other streams


def descend(
    scores_of: Callable[[Tensor], Tensor],
    shots: Shots,
    optimizer: torch.optim.Optimizer,
    schedule: Schedule,
    report: Report,
    *,
    epochs: int,
    warmup_epochs: int = 0,
) -> list[float]:
    """Minimise the cross-entropy of the shots; the last iterate is kept.

    An epoch shows each image once, in one of its views. A cosine over all steps brings the learning rate down to
    ``minimum_learning_rate``.

    Args:
        scores_of: Embeddings ``(B, D)`` to class scores ``(B, C)``.
        shots: What to learn from.
        optimizer: Of what ``scores_of`` uses.
        schedule: Learning rate, batch size and seed.
        report: Is told of every step.
        epochs: Passes over the images.
        warmup_epochs: Of these the first so many have a learning rate of 1e-5.

    Returns:
        The loss of each step.

    Raises:
        RunError: The loss is not a number.
    """
    batches = -(-len(shots.labels) // schedule.batch_size)
    steps, losses, images = epochs * batches, [], 0
    for step, (views, rows) in enumerate(_batches(shots, schedule, epochs)):
        started = time.perf_counter()
        rate = _learning_rate(schedule, step / steps, warming_up=step < warmup_epochs * batches)
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = functional.cross_entropy(scores_of(shots.features[views, rows]), shots.labels[rows])
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            raise RunError(f"the loss is {losses[-1]} at step {step + 1} of {steps}; try a smaller learning-rate")
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        images += len(rows)
        report.step(StepTaken(step + 1, steps, losses[-1], rate, images, time.perf_counter() - started))
    return losses


def epochs_by_shots(shots: int) -> int:
    """CoOp's: 50 passes for 1 image of each class, 100 for 2 and 4, else 200 (arXiv 2109.01134, section 4.1)."""
    return 50 if shots == 1 else 100 if shots <= 4 else 200


def _batches(shots: Shots, schedule: Schedule, epochs: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Numbers of views and of images, ``(B,)`` each: all images once in every epoch."""
    views, count, _ = shots.features.shape
    for epoch in range(epochs):
        generator = np.random.default_rng([schedule.seed, epoch, _ORDER])
        order, view_of = generator.permutation(count), generator.integers(0, views, count)
        for start in range(0, count, schedule.batch_size):
            rows = order[start : start + schedule.batch_size]
            yield tuple(torch.from_numpy(ids).to(shots.labels.device) for ids in (view_of[rows], rows))  # type: ignore[misc]


def _learning_rate(schedule: Schedule, progress: float, *, warming_up: bool) -> float:
    """At this share of all steps."""
    begins, ends = schedule.learning_rate, schedule.minimum_learning_rate
    if warming_up:
        return min(WARMUP_LEARNING_RATE, begins)
    return ends + (begins - ends) * (1 + math.cos(math.pi * progress)) / 2
