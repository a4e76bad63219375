"""Images that are of none of the classes, told from the others by held-out shots.

Images of none are not at hand. So some of the classes are taken for unknown in turn: they are left out of the
Gaussians and of the class prompts, and their held-out images are to be told from the held-out images of the others.
The weight of the prompts is the one that does so best, by the area under the ROC curve.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..belonging import Belonging, Gaussians, HeldOutBelonging, combined, pooled
from ..data.task import Examples
from ..training.learner import Learner
from .calibration import fold_of_each
from .predict import embeddings_of

WEIGHTS = (0.5, 0.25, 1.0, 0.0, 2.0, 4.0)
"""Weights of the class prompts that are tried. The first is taken where there is nothing to choose by."""
GROUPS = 4
"""Parts in which classes are taken for unknown; half as many as there are classes if those are fewer."""
FOLDS = 8
"""Parts in which the shots of a frozen tower are held out, if a class has as many."""
_CHOOSING_FOLDS = 4
"""Folds in which classes are taken for unknown."""
_LEAST_CLASSES = 4
_LEAST_SPREAD = 1e-6


@dataclasses.dataclass(frozen=True, eq=False)
class _Told:
    """Ratios and fits of held-out images ``(H,)``, and which of them are of a class that was not left out."""

    ratio: NDArray[np.float64]
    fit: NDArray[np.float64]
    known: NDArray[np.bool_]


class BelongingEvidence:
    """Gathers what held-out images tell, fold by fold.

    Args:
        classes: C.
    """

    def __init__(self, classes: int) -> None:
        groups = min(GROUPS, classes // 2) if classes >= _LEAST_CLASSES else 0
        self._group_of = np.arange(classes) % groups if groups else np.full(classes, -1)
        self._groups = groups
        self._all: list[_Told] = []
        self._left_out: list[_Told] = []
        self._has_words = True

    def add_fold(self, learner: Learner, learnt: Examples, held: Examples) -> None:
        """Take in a fold: its classifier, the images that it learnt from, and those held out."""
        tables = [embeddings_of(learner, examples.images) for examples in (learnt, held)]
        self.add(tables[0], learnt.labels, tables[1], held.labels, prompt_cosines(learner, tables[1]))

    def add(
        self,
        learnt: NDArray[np.float32],
        labels: NDArray[np.int64],
        held: NDArray[np.float32],
        held_labels: NDArray[np.int64],
        cosines: NDArray[np.float32] | None,
    ) -> None:
        """The same of embeddings ``(N, D)`` and ``(H, D)``, their labels, and cosines ``(H, C)`` to class prompts."""
        learnt, held = (pooled(torch.from_numpy(table)).numpy() for table in (learnt, held))
        self._has_words = cosines is not None
        gaussians = Gaussians.of(learnt, labels, len(self._group_of))
        self._all.append(_told(gaussians, held, held_labels, cosines, np.ones(len(self._group_of), dtype=np.bool_)))
        if cosines is None or len(self._all) > _CHOOSING_FOLDS:  # there is no weight to choose, or enough to do it by
            return
        for group in range(self._groups):
            known = self._group_of != group
            rows, number = known[labels], np.cumsum(known) - 1
            some = Gaussians.of(learnt[rows], number[labels[rows]], int(known.sum()))
            self._left_out.append(_told(some, held, held_labels, cosines, known))

    def told(self, reject: float) -> HeldOutBelonging:
        """The result of all folds together.

        Args:
            reject: Share of known images that may be turned away.

        Raises:
            InputError: Too few images were held out for it.
        """
        ratio, fit = (np.concatenate([getattr(each, name) for each in self._all]) for name in ("ratio", "fit"))
        spreads = max(float(ratio.std()), _LEAST_SPREAD), max(float(fit.std()), _LEAST_SPREAD)
        weight = self._best_weight(spreads) if self._has_words else 0.0
        scored = HeldOutBelonging(reject, weight, spreads, tuple(map(float, ratio)))
        # By the arithmetic that an image is scored with: a score and its equal must compare as equals.
        ratios, fits = (torch.from_numpy(values.astype(np.float32)) for values in (ratio, fit))
        scores = np.sort(combined(ratios, fits, scored).numpy())
        return dataclasses.replace(scored, scores=tuple(map(float, scores)))

    def _best_weight(self, spreads: tuple[float, float]) -> float:
        """The weight with which classes that were left out are told best from the others."""
        if not self._left_out:
            return WEIGHTS[0]
        areas = []
        for weight in WEIGHTS:
            scores = [each.ratio / spreads[0] + weight * each.fit / spreads[1] for each in self._left_out]
            apart = [
                roc_area(own[each.known], own[~each.known]) for own, each in zip(scores, self._left_out, strict=True)
            ]
            areas.append(np.nanmean(apart))
        return WEIGHTS[int(np.argmax(areas))]


def _told(
    gaussians: Gaussians,
    held: NDArray[np.float32],
    labels: NDArray[np.int64],
    cosines: NDArray[np.float32] | None,
    known: NDArray[np.bool_],
) -> _Told:
    """Scores that Gaussians of the ``known`` classes give held-out images ``(H, D)`` with labels ``(H,)``."""
    ratio = gaussians.ratio(torch.from_numpy(held)).numpy().astype(np.float64)
    fit = np.zeros(len(held)) if cosines is None else cosines[:, known].max(1).astype(np.float64)
    return _Told(ratio, fit, known[labels])


@torch.no_grad()
def prompt_cosines(learner: Learner, embeddings: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """Similarities ``(N, C)`` of images' embeddings ``(N, D)`` and a learner's classes; see ``Learner``."""
    cosines = learner.prompt_cosines(torch.from_numpy(embeddings))
    if cosines is None:
        return None
    table: NDArray[np.float32] = cosines.float().cpu().numpy()
    return table


def belonging_of(learner: Learner, examples: Examples, held_out: HeldOutBelonging | None, reject: float) -> Belonging:
    """The rule that tells a fitted classifier's classes from others.

    Args:
        learner: It, with all that it has learnt.
        examples: The shots. Some class has two or more.
        held_out: What the folds of a calibration told. None for a method on frozen features: its shots are held out
            here, which takes no training.
        reject: Share of known images that may be turned away.

    Raises:
        InputError: Too few images can be held out for that share.
    """
    embeddings, labels = embeddings_of(learner, examples.images), examples.labels
    classes = int(labels.max()) + 1
    if held_out is None:
        evidence, cosines = BelongingEvidence(classes), prompt_cosines(learner, embeddings)
        fold_of = fold_of_each(labels, min(FOLDS, int(np.bincount(labels).max())))
        for fold in range(int(fold_of.max()) + 1):
            held = fold_of == fold
            of_held = None if cosines is None else cosines[held]
            evidence.add(embeddings[~held], labels[~held], embeddings[held], labels[held], of_held)
        held_out = evidence.told(reject)
    return Belonging(Gaussians.of(pooled(torch.from_numpy(embeddings)).numpy(), labels, classes), held_out)


def roc_area(known: NDArray[np.floating[Any]], unknown: NDArray[np.floating[Any]]) -> float:
    """Area under the ROC curve: the probability that a known image scores higher than an unknown one, ties halved.

    Not a number where there are none of either.
    """
    from scipy.stats import rankdata

    if not (len(known) and len(unknown)):
        return float("nan")
    ranks = rankdata(np.concatenate([known, unknown]))[: len(known)]
    return float((ranks.sum() - len(known) * (len(known) + 1) / 2) / (len(known) * len(unknown)))


def accepted_share(known: NDArray[np.floating[Any]], unknown: NDArray[np.floating[Any]], share: float = 0.95) -> float:
    """Share of the unknown images that score at least as high as what this share of the known ones does."""
    least = np.sort(known)[len(known) - int(np.ceil(share * len(known)))]
    return float((unknown >= least).mean())
