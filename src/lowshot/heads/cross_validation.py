"""Choosing a hyper-parameter by cross-validation over the shots alone.

Papers that search one do so on a validation set, which few-shot learning does not have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from .head import Head
from .shots import Shots

FOLDS = 5
"""Parts that the images of a class are held out in; as many as it has images if those are fewer."""
JUDGED_AT_ONCE = 256
_Candidate = TypeVar("_Candidate")


def recognised(scores: Tensor, labels: Tensor) -> Tensor:
    """How many images get their own class the highest score."""
    return (scores.argmax(1) == labels).sum()


def log_likelihood(scores: Tensor, labels: Tensor) -> Tensor:
    """Sum of the logarithms of the probabilities that images have of their own class."""
    return -functional.cross_entropy(scores.double(), labels, reduction="sum")


def choose(
    candidates: Sequence[_Candidate],
    heads_of: Callable[[Shots], Iterable[Head]],
    shots: Shots,
    merit: Callable[[Tensor, Tensor], Tensor] = recognised,
) -> tuple[_Candidate, bool]:
    """The candidate that does best on views of held-out shots; of equals the first.

    The images of each class are dealt to ``FOLDS`` parts in the order of the draw. A class's only image is never held
    out. So the order of the images has an influence, and a class has the same share in every part.

    Args:
        candidates: Values to choose from, the default first.
        heads_of: Shots to the head that each candidate makes of them, in the candidates' order.
        shots: All there are.
        merit: From class scores ``(B, C)`` and labels ``(B,)`` to what is added up.

    Returns:
        The candidate, and whether it was chosen: where every class has one image it is the default.
    """
    merits = torch.zeros(len(candidates), dtype=torch.float64, device=shots.labels.device)
    for held in held_out(shots.labels):
        images, labels = shots.subset(held).every_view()
        for index, head in enumerate(heads_of(shots.subset(~held))):
            scores = [head.scores(some, shots.text) for some in torch.split(images, JUDGED_AT_ONCE)]
            merits[index] += merit(torch.cat(scores), labels)
    sums = merits.tolist()  # read once: a device would be waited for at every candidate
    return candidates[sums.index(max(sums))], int(shots.counts.max()) > 1


def held_out(labels: Tensor) -> Iterator[Tensor]:
    """Masks ``(N,)`` of the images of each part that has any.

    Args:
        labels: Class of each image, ``(N,)``.
    """
    part = torch.full_like(labels, -1)
    for label in range(int(labels.max()) + 1):
        rows = (labels == label).nonzero().flatten()
        if len(rows) > 1:
            part[rows] = torch.arange(len(rows), device=labels.device) % FOLDS
    for number in range(FOLDS):
        if bool((part == number).any()):
            yield part == number


def not_chosen(said: str) -> str:
    """What to know where there was nothing to choose by.

    Args:
        said: The defaults in words, such as ``alpha 1``.
    """
    return f"one image of each class leaves none to hold out: {said}, the default, was not chosen on the shots"
