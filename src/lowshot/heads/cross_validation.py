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
    out. So the order of the images has an influence, and a class has the same share in every part. Where images have
    several labels, the candidate is that of the highest mean average precision.

    Args:
        candidates: Values to choose from, the default first.
        heads_of: Shots to the head that each candidate makes of them, in the candidates' order.
        shots: All there are.
        merit: From class scores ``(B, C)`` and labels ``(B,)`` to what is added up.

    Returns:
        The candidate, and whether it was chosen: where every class has one image it is the default.
    """
    part = parts_of(shots, FOLDS)
    if int(part.max()) < 1:
        return candidates[0], False
    judged = _judged(heads_of, shots, part)
    if shots.has_several:
        merits = _ranking_merits(judged, len(candidates))
    else:
        sums = torch.zeros(len(candidates), dtype=torch.float64, device=shots.labels.device)
        for index, scores, labels in judged:
            sums[index] += merit(scores, labels)
        merits = sums.tolist()  # read once: a device would be waited for at every candidate
    return candidates[merits.index(max(merits))], True


def _judged(
    heads_of: Callable[[Shots], Iterable[Head]], shots: Shots, part: Tensor
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Number of a candidate, scores of all views of a part by what it makes of the others, and their labels."""
    for held in held_out(part):
        images, labels = shots.subset(held).every_view()
        for index, head in enumerate(heads_of(shots.subset(~held))):
            scores = [head.scores(some, shots.text) for some in torch.split(images, JUDGED_AT_ONCE)]
            yield index, torch.cat(scores), labels


def _ranking_merits(judged: Iterable[tuple[int, Tensor, Tensor]], candidates: int) -> list[float]:
    """The mean average precision of each candidate: the views of all parts are ranked together, by each class."""
    tables, truths = ([list[Tensor]() for _ in range(candidates)] for _ in range(2))
    for index, scores, labels in judged:
        tables[index].append(scores)
        truths[index].append(labels)
    together = ([torch.cat(each).cpu().numpy() for each in parts] for parts in (tables, truths))
    return [mean_of_known(average_precisions(table, truth)) for table, truth in zip(*together, strict=True)]


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
    part = parts_of(shots, MOST_PARTS if len(shots.labels) <= MANY else FOLDS)
    for held in held_out(part):
        scores[held] = kind.again(shots.subset(~held), chosen).scores(images[held], shots.text)
    return scores, part


def parts_of(shots: Shots, parts: int) -> Tensor:
    """The part of each image, ``(N,)``: those of a class are dealt out in their order. A class's only one has -1.

    Args:
        shots: N images; of several labels as ``several_labels.dealt`` deals them.
        parts: How many there are at most.
    """
    labels = shots.labels
    if shots.has_several:
        return torch.from_numpy(dealt(labels.cpu().numpy(), parts)).to(labels.device)
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
