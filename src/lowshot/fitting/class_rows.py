"""Rows for classes that are set on top of adapted towers, by a few images of each.

The towers stay as they are, and so do the vectors of their own classes. A class on top has the row

    w = a u,  u = normalised((1 - b) t + b m)

with the unit vector t that the adapted text tower gives its prompt and the normalised mean m of its images' unit
embeddings. Images lie nearer to each other than to any prompt, so that u of length 1 would draw images of other classes
to it: its length a makes up for that.

The towers have never seen the images of classes on top. What is told of one of them by the others is honest
(leave-one-out). Images of the towers' own classes tell something only if the towers were not trained on them: those
that they were trained on lie nearer to their classes than new images do.

With such known images a and b, the same for all classes on top, have the least negative log-likelihood of all
these images, where every class counts alike. Without them a class's a is such that its own images, each left out, are
as near to w as they are to t, and b is 0.35: chosen on validation splits by ``benchmarks/one_more.py``.

A single image tells nothing of how near others of its class are: its row is a t, or m where there is no t. So known
images choose a and b only where an image of a class on top can be left out too: they alone would have a at its least.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..evaluation import calibrated, fold_of_each, log_sums
from ..on_top import Recognised

BLEND = 0.35
"""b where no known images are there to choose it by."""
BLENDS = (0.0, 0.2, 0.35, 0.5, 0.65, 0.8, 1.0)
LENGTHS = tuple(round(0.05 * step, 2) for step in range(10, 27))
"""From 0.5 to 1.3."""
FOLDS = 8
_Vectors = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Placed:
    """Rows of classes on top.

    Args:
        rows: w, ``(K, D)``.
        blend: b.
    """

    rows: _Vectors
    blend: float


@dataclasses.dataclass(frozen=True)
class Recognition:
    """Answers about images that were held out in turn, each by rows that were made without it.

    Args:
        scores: Of the held-out images and all classes, ``(H, F + K)``, the temperature included.
        labels: Their classes, ``(H,)``.
        before: Which of them were recognised among the fixed classes, ``(H,)``.
        folds: Parts that they were held out in.
        fixed: F.
    """

    scores: _Vectors
    labels: NDArray[np.int64]
    before: NDArray[np.bool_]
    folds: int
    fixed: int

    @property
    def new(self) -> Recognised | None:
        """Of the images of classes on top; None where there are none."""
        is_new = self.labels >= self.fixed
        return Recognised(int(is_new.sum()), int((self._right & is_new).sum())) if is_new.any() else None

    @property
    def known(self) -> Recognised | None:
        """Of the images of fixed classes; None where there are none."""
        is_known = self.labels < self.fixed
        if not is_known.any():
            return None
        return Recognised(*(int(each.sum()) for each in (is_known, self._right & is_known, self.before & is_known)))

    @property
    def _right(self) -> NDArray[np.bool_]:
        right: NDArray[np.bool_] = self.scores.argmax(1) == self.labels
        return right

    def calibration(self, temperature: float) -> Mapping[str, Any]:
        """The calibration by scores that were divided by this; empty where a fixed class has no image."""
        if len(set(self.labels[self.labels < self.fixed].tolist())) < self.fixed:
            return {}
        return calibrated(self.scores * temperature, self.labels, self.folds).to_dict()


class Evidence:
    """Images as adapted towers see them, and what is to be made of them.

    Args:
        fixed: Vectors of the F classes that stay as they are, ``(F, D)``.
        prompts: Unit vectors of the prompts of K classes on top, ``(K, D)``; None where no text tower reads them.
        embeddings: Unit embeddings of N images, ``(N, D)``.
        labels: Their classes, ``(N,)``: from F on those on top, of which each has an image.
        scale: What cosines are multiplied by before they are scores, the temperature included.
    """

    def __init__(
        self, fixed: _Vectors, prompts: _Vectors | None, embeddings: _Vectors, labels: NDArray[np.int64], scale: float
    ) -> None:
        self._prompts, self._images, self._labels, self._scale = prompts, embeddings, labels, scale
        self._first = len(fixed)
        self._count = int(labels.max()) + 1 - self._first
        self.scores = scale * embeddings @ fixed.T
        """Of the images and the fixed classes, ``(N, F)``."""
        self._fixed = log_sums(self.scores)
        self._own = self.scores[np.arange(len(labels)), np.minimum(labels, self._first - 1)]

    @property
    def is_known(self) -> NDArray[np.bool_]:
        """Which images are of fixed classes, ``(N,)``."""
        return self._labels < self._first

    def placed(self, used: NDArray[np.bool_]) -> Placed:
        """The rows by some of the images, ``(N,)``."""
        is_known = self.is_known[used]
        if is_known.any() and self._weights(used)[~is_known].any():
            return self._likeliest(used)
        blend = 1.0 if self._prompts is None else BLEND
        rows = [self._level(label, used, blend) for label in range(self._count)]
        return Placed(np.stack(rows), blend)

    def held_out(self) -> Recognition:
        """Hold the images out in turn; one that is its class's only image is not."""
        labels, most = self._labels, int(np.bincount(self._labels).max())
        folds = min(FOLDS, most) if most > 1 else 0
        fold_of = fold_of_each(labels, folds) if folds else np.full(len(labels), -1)
        scores = np.zeros((len(labels), self._first + self._count))
        for fold in range(folds):
            held = fold_of == fold
            on_top = self._scale * self._images[held] @ self.placed(~held).rows.T
            scores[held] = np.concatenate([self.scores[held], on_top], axis=1)
        judged, before = fold_of >= 0, self.scores.argmax(1) == labels
        return Recognition(scores[judged], labels[judged], before[judged], folds, self._first)

    def _level(self, label: int, used: NDArray[np.bool_], blend: float) -> _Vectors:
        """The row of a class as near to its own images as its prompt is."""
        images, row = self._of(label, used), self._row(label, used, blend)
        if self._prompts is None or len(images) == 1:
            return row
        near = float((images @ self._prompts[label]).mean() / max(self._left_out(label, used, blend).mean(), 1e-6))
        return float(np.clip(near, LENGTHS[0], LENGTHS[-1])) * row

    def _likeliest(self, used: NDArray[np.bool_]) -> Placed:
        """The rows by which all images used are likeliest, where every class counts alike."""
        weights, labels = self._weights(used), self._labels[used]
        images, place = np.arange(len(labels)), np.maximum(labels - self._first, 0)
        least, likeliest = np.inf, Placed(np.zeros(0), 0.0)
        for blend in BLENDS if self._prompts is not None else (1.0,):
            units = np.stack([self._row(label, used, blend) for label in range(self._count)])
            scores = self._scale * self._images[used] @ units.T
            for label in range(self._count):  # of its own images each by what the row would be without it
                scores[labels == self._first + label, label] = self._scale * self._left_out(label, used, blend)
            for length in LENGTHS:
                on_top = length * scores
                own = np.where(labels < self._first, self._own[used], on_top[images, place])
                losses = log_sums(np.concatenate([self._fixed[used][:, None], on_top], axis=1)) - own
                if (loss := float(weights @ losses)) < least:
                    least, likeliest = loss, Placed(length * units, blend)
        return likeliest

    def _weights(self, used: NDArray[np.bool_]) -> _Vectors:
        """Of each image, so that every class counts alike; 0 where nothing is left of a class without its image."""
        labels = self._labels[used]
        counts = np.bincount(labels)[labels]
        weights: _Vectors = 1.0 / counts
        if self._prompts is None:
            weights[(labels >= self._first) & (counts == 1)] = 0.0
        return weights

    def _of(self, label: int, used: NDArray[np.bool_]) -> _Vectors:
        images: _Vectors = self._images[used & (self._labels == self._first + label)]
        return images

    def _left_out(self, label: int, used: NDArray[np.bool_], blend: float) -> _Vectors:
        """Cosines ``(n,)`` of a class's images, each with the unit row that the others give."""
        images = self._of(label, used)
        cosines: _Vectors = np.sum(images * self._unit(label, images.sum(0) - images, blend), axis=1)
        return cosines

    def _row(self, label: int, used: NDArray[np.bool_], blend: float) -> _Vectors:
        """The unit row ``(D,)`` of a class by its images; its prompt where one image tells nothing of others."""
        images = self._of(label, used)
        if self._prompts is not None and len(images) == 1:
            prompt: _Vectors = self._prompts[label]
            return prompt
        return self._unit(label, images.sum(0), blend)

    def _unit(self, label: int, sums: _Vectors, blend: float) -> _Vectors:
        """The unit row ``(..., D)`` of a class by the sums of its images; its prompt where there are none."""
        means = _normalised(sums)
        if self._prompts is None:
            return means
        prompt: _Vectors = self._prompts[label]
        return _normalised((1 - blend) * prompt + blend * means)


def _normalised(vectors: _Vectors) -> _Vectors:
    lengths: _Vectors = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.where(lengths > 1e-9, vectors / np.maximum(lengths, 1e-9), 0.0)
