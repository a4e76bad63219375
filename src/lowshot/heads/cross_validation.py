"""Choosing a hyper-parameter by cross-validation over the shots alone.

Papers that search one do so on a validation set, which few-shot learning does not have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from ..several_labels import average_precisions, dealt, mean_of_known
from .head import Computed, Head
from .shots import Shots

FOLDS = 5
"""Parts that the images of a class are held out in; as many as it has images if those are fewer."""
MOST_PARTS = 16
"""Parts in which shots are left out with the hyper-parameters as they are: one of every class up to so many of each."""
MANY = 4_096
"""Shots beyond which they are left out in ``FOLDS`` parts: a regression of so many takes as long as all else."""
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
    if shots.has_several:
        return _chosen_by_ranking(candidates, heads_of, shots)
    merits = torch.zeros(len(candidates), dtype=torch.float64, device=shots.labels.device)
    for held in held_out(parts_of(shots.labels, FOLDS)):
        images, labels = shots.subset(held).every_view()
        for index, head in enumerate(heads_of(shots.subset(~held))):
            scores = [head.scores(some, shots.text) for some in torch.split(images, JUDGED_AT_ONCE)]
            merits[index] += merit(torch.cat(scores), labels)
    sums = merits.tolist()  # read once: a device would be waited for at every candidate
    return candidates[sums.index(max(sums))], int(shots.counts.max()) > 1


def _chosen_by_ranking(
    candidates: Sequence[_Candidate], heads_of: Callable[[Shots], Iterable[Head]], shots: Shots
) -> tuple[_Candidate, bool]:
    """The same where images have several labels: the candidate with the highest mean average precision.

    The views of all parts are ranked together, by each class.
    """
    parts = dealt(shots.labels.cpu().numpy(), FOLDS)
    part = torch.from_numpy(parts).to(shots.labels.device)
    numbers = sorted({*parts.tolist()} - {-1})
    if len(numbers) < 2:
        return candidates[0], False
    tables: list[list[Tensor]] = [[] for _ in candidates]
    truth = []
    for number in numbers:
        held = part == number
        images, labels = shots.subset(held).every_view()
        truth.append(labels)
        for table, head in zip(tables, heads_of(shots.subset(~held)), strict=True):
            table += [head.scores(some, shots.text) for some in torch.split(images, JUDGED_AT_ONCE)]
    shown = torch.cat(truth).cpu().numpy()
    merits = [mean_of_known(average_precisions(torch.cat(table).cpu().numpy(), shown)) for table in tables]
    return candidates[merits.index(max(merits))], True


def left_out(kind: type[Computed], shots: Shots, images: Tensor, chosen: Mapping[str, float]) -> tuple[Tensor, Tensor]:
    """Class scores of shots, each by the head of others with the same hyper-parameters.

    One shot of every class is left out at a time, with all of its views. Were it alone left out, its class would have a
    shot less than any other, and be the less probable by that. Where images have several labels they are dealt to as
    many parts (``several_labels.dealt``).

    Args:
        kind: The method.
        shots: N shots, all there are.
        images: An image of each shot as it would be judged, unit embeddings ``(N, D)``.
        chosen: The hyper-parameters, as ``Fit.chosen`` has them.

    Returns:
        Scores ``(N, C)``, and the part in which each shot was left out, ``(N,)``. A class's only shot never is: its
        part is -1, and its scores are 0.
    """
    scores = images.new_zeros(len(images), shots.classes)
    parts = MOST_PARTS if len(shots.labels) <= MANY else FOLDS
    if shots.has_several:
        part = torch.from_numpy(dealt(shots.labels.cpu().numpy(), parts)).to(shots.labels.device)
    else:
        part = parts_of(shots.labels, parts)
    for held in held_out(part):
        scores[held] = kind.again(shots.subset(~held), chosen).scores(images[held], shots.text)
    return scores, part


def parts_of(labels: Tensor, parts: int) -> Tensor:
    """The part of each image, ``(N,)``: those of a class are dealt out in their order. A class's only one has -1.

    Args:
        labels: Class of each image, ``(N,)``.
        parts: How many there are at most.
    """
    part = torch.full_like(labels, -1)
    for label in range(int(labels.max()) + 1):
        rows = (labels == label).nonzero().flatten()
        if len(rows) > 1:
            part[rows] = torch.arange(len(rows), device=labels.device) % parts
    return part


def held_out(part: Tensor) -> Iterator[Tensor]:
    """Masks ``(N,)`` of the images of each part.

    Args:
        part: What ``parts_of`` gave.
    """
    for number in range(int(part.max()) + 1):
        yield part == number


def not_chosen(defaults: str) -> str:
    """A note for heads that had nothing to choose by.

    Args:
        defaults: The defaults in words, such as ``alpha 1``.
    """
    return f"one image of each class leaves none to hold out: {defaults}, the default, was not chosen on the shots"
