"""Calibration on held-out shots: how sure a classifier may be is learnt from the shots, and never from test images.

The shots are held out in turn, a fold at a time. A fresh classifier learns from the others and scores those held out.
From all of these scores come a temperature, which makes probabilities honest, and the quantiles that sets of classes
are made with. It costs as many trainings more as there are folds. A method that learns nothing scores all of its shots
at once. Of a head that is computed no training is needed: one shot of every class is left out at a time, and the
hyper-parameters stay those that all shots have chosen. Folds that choose their own give scores of different scales,
which no one temperature suits.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from ..calibration import LARGEST_TEMPERATURE, LEAST_TEMPERATURE, Calibration
from ..data.task import Examples
from ..errors import DataError, RunError
from ..progress import Track
from ..training.company import Company
from ..training.learner import Learner
from .conformal import scores_of as conformal_scores
from .predict import class_scores, finite

_Item = TypeVar("_Item")
_Scored: TypeAlias = tuple[int, NDArray[np.float32], NDArray[np.int64]]  # a fold, its images' scores and labels
_USUAL, _NEAR = (0.05, 20.0), 1.001
"""Where a temperature is looked for first, and how near to either end it is none: then further out."""


def fold_of_each(labels: NDArray[np.int64], folds: int) -> NDArray[np.int64]:
    """The fold in which each image is held out, ``(N,)``, from 0.

    Of every class, and of all images, the folds have equally many, to within one. A class's only image is in none
    (-1): it is always learnt from, since a classifier that has never seen the class would tell nothing of one that has.

    Args:
        labels: Class index of each image, ``(N,)``, in the order of the draw.
        folds: 2 or more.

    Raises:
        DataError: No class has two images, or there are fewer images to hold out than folds.
    """
    several = np.flatnonzero(np.bincount(labels)[labels] > 1)
    if not len(several):
        raise DataError(
            "calibration holds images out in turn, and no class has more than one; "
            "learn from 2 shots or more, or leave calibration-folds out"
        )
    if folds > len(several):
        raise DataError(f"calibration-folds is {folds}; expected at most {len(several)}, the images to be held out")
    grouped = several[np.argsort(labels[several], kind="stable")]
    fold_of = np.full(len(labels), -1, dtype=np.int64)
    fold_of[grouped] = np.arange(len(grouped)) % folds  # dealt out like cards, class by class
    return fold_of


def fold_checkpoints(checkpoint: Path, folds: int) -> list[Path]:
    """Where the folds' states of training are kept, beside the whole run's."""
    return [checkpoint.with_name(f"{checkpoint.stem}.fold-{fold}{checkpoint.suffix}") for fold in range(1, folds + 1)]


def held_out_scores(
    fresh: Callable[[], Learner],
    examples: Examples,
    fold_of: NDArray[np.int64] | None,
    *,
    first: int | None = None,
    track: Track,
    checkpoint: Path | None = None,
    contents: Sequence[str] = (),
    each_fold: Callable[[Learner, Examples, Examples], None] | None = None,
    together: int | None = 1,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Log-probabilities ``(H, C)`` of the held-out images, and their labels ``(H,)``, fold by fold.

    Where images have several labels they are the scores as they are, and labels ``(H, C)``.

    Each fold's classifier takes as many steps as the recipe has for the shots that it learns from.

    Args:
        fresh: Makes an untrained learner. There is one at a time, but where their steps are computed together.
        examples: The shots.
        fold_of: What ``fold_of_each`` gave; None for a method that learns nothing, which scores all shots at once.
        first: Only so many of the folds are held out.
        track: Shows the progress of each.
        checkpoint: File for the whole run's state of training; each fold has its own beside it.
        contents: Hashes of what the images show, one for each.
        each_fold: Is called with each fold: its classifier, the images it has learnt from, and those held out.
        together: Folds whose steps are computed together at most, where they can be; None for all of them.

    Raises:
        RunError: The training of a fold diverged.
    """
    if fold_of is None:
        return scored(fresh(), examples, track)
    folds = int(fold_of.max()) + 1
    files = [None] * folds if checkpoint is None else fold_checkpoints(checkpoint, folds)

    def of_fold(fold: int) -> _Scored:
        name = f"fold {fold + 1} of {folds}"
        rest, held = np.flatnonzero(fold_of != fold).tolist(), np.flatnonzero(fold_of == fold)
        learner, learnt, named = fresh(), examples.part(rest), _named(track, name)
        outcome = learner.fit(learnt, learnt.shots, named, files[fold], [contents[i] for i in rest] if contents else ())
        if outcome.stopped:
            raise RunError(f"{name} of the calibration: {outcome.stopped}")
        held_out = examples.part(held)
        if each_fold is not None:
            each_fold(learner, learnt, held_out)
        return fold, *scored(learner, held_out, named)

    works = [functools.partial(of_fold, fold) for fold in range(folds if first is None else first)]
    in_order = sorted(Company[_Scored](together or folds).results(works), key=lambda scored: scored[0])
    _, tables, labels = zip(*in_order, strict=True)
    return np.concatenate(tables), np.concatenate(labels)


def left_out_scores(
    learner: Learner, examples: Examples, chosen: Mapping[str, float], track: Track
) -> tuple[NDArray[np.float32], NDArray[np.int64], int]:
    """Log-probabilities ``(H, C)`` of shots by what would have been learnt without them, and their labels ``(H,)``.

    Also the number of parts that they were left out in. A class's only shot is not judged. Where images have several
    labels they are the scores as they are, and labels ``(H, C)``.

    Args:
        learner: It has learnt from the shots, and is computed from them (``is_computed``).
        examples: The shots.
        chosen: The hyper-parameters that its outcome has, which stay as they are.
        track: Shows progress.

    Raises:
        RunError: A score is not finite.
    """
    scores, part = (tensor.cpu() for tensor in learner.left_out(examples, chosen, track))
    judged = part >= 0
    rows = scores[judged] if examples.has_several else torch.log_softmax(scores[judged], dim=-1)
    table = rows.float().numpy()
    if not np.isfinite(table).all():
        raise RunError("the scores of shots that are left out are not finite: embeddings of the shots are damaged")
    return table, examples.labels[judged.numpy()], int(part.max()) + 1


def scored(learner: Learner, examples: Examples, track: Track) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Answers about images that were held out: log-probabilities ``(H, C)``, and their labels ``(H,)``.

    Where images have several labels they are the scores as they are, and labels ``(H, C)``.

    Raises:
        RunError: One is not finite.
    """
    scores = class_scores(learner, examples.images, track=track)
    if not examples.has_several:  # scores far enough apart give a logarithm that is not finite
        scores = finite(torch.log_softmax(torch.from_numpy(scores), dim=-1))
    return scores, examples.labels


def _named(track: Track, prefix: str) -> Track:
    """The same, with a word on which classifier it is about."""

    def named(items: Iterable[_Item], /, *, what: str, total: int) -> Iterator[_Item]:
        return track(items, what=f"{prefix}: {what}", total=total)

    return named


def calibrated(scores: NDArray[np.floating], labels: NDArray[np.int64], folds: int) -> Calibration:
    """Fit the temperature, and keep the scores of the true classes at that temperature.

    Args:
        scores: Class scores or log-probabilities of H held-out images, ``(H, C)``.
        labels: Their classes, ``(H,)``.
        folds: Parts that they were held out in; 0 where nothing is learnt.
    """
    temperature = fitted_temperature(scores, labels)
    scaled = scores.astype(np.float64) / temperature
    table = np.exp(scaled - log_sums(scaled)[:, None])
    return Calibration(folds, temperature, conformal_scores(table, labels), int((scores.argmax(1) == labels).sum()))


def fitted_temperature(scores: NDArray[np.floating], labels: NDArray[np.int64]) -> float:
    """The temperature T whose ``softmax(scores / T)`` has the least negative log-likelihood.

    Temperature scaling (arXiv 1706.04599, section 4.2) of class scores or log-probabilities ``(N, C)`` with labels
    ``(N,)``. The likelihood is log-concave in 1/T, so that there is one best T. Where every image is recognised there
    is none, since it is the likelier the surer the classifier is made: that few images without a mistake are no reason
    to make it surer, and T is 1. Scores that know less than nothing of the classes have the largest T.
    """
    from scipy.optimize import minimize_scalar

    exact, rows = scores.astype(np.float64), np.arange(len(labels))
    if (exact.argmax(1) == labels).all():
        return 1.0

    def loss(log_temperature: float) -> float:
        scaled = exact / math.exp(log_temperature)
        return float((log_sums(scaled) - scaled[rows, labels]).mean())

    for least, largest in (_USUAL, (LEAST_TEMPERATURE, LARGEST_TEMPERATURE)):
        bounds = math.log(least), math.log(largest)
        best = math.exp(minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6}).x)
        if least * _NEAR < best < largest / _NEAR:
            break
    return min(max(best, LEAST_TEMPERATURE), LARGEST_TEMPERATURE)


def log_sums(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logarithm of the sum of each row's exponentials, ``(N,)``, whatever their size."""
    largest = scores.max(1)
    sums: NDArray[np.float64] = largest + np.log(np.exp(scores - largest[:, None]).sum(1))
    return sums
