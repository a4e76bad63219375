"""Sets of classes with a guarantee: full conformal prediction by class, in closed form.

An image x that is of class c, and the n shots of c, are drawn alike: whichever of the n + 1 is the new one, they are
exchangeable, whatever the shots of other classes are. So each is scored by what was learnt from all the others. That is
the regression of all shots for x, and for shot i the regression with x in its place. The p-value of x and c is

``(1 + number of shots of c that fit c no better than x does) / (n + 1)``

which is at most a with a probability of at most a, for images of every class (Vovk, Gammerman and Shafer, 2005: full
conformal prediction, class-conditional; for adapted vision-language models Silva-Rodriguez et al., arXiv 2506.06076).
The set of x has the classes whose p-value is above one minus the coverage. No shots are set aside for it.

What is learnt is ProKeR's kernel ridge regression, since solving it anew has a formula. With
``M = (K / lambda + I)^-1`` and the coefficients ``a = M R`` of all shots, let ``u = M k(F, x) / lambda``,
``d = 1 + 1 / lambda - <k(F, x), u> / lambda`` and h the prediction at x. With x as a shot of class c the coefficients
are ``a_i - u_i (e_c - h) / d`` and the diagonal of the inverse is ``M_ii + u_i^2 / d``. Without shot i its prediction
is ``<f_i, t> + lambda (R_i - a_i / M_ii)`` of these, the classic residual over one minus the hat matrix. How well an
image fits c is the logarithm of the odds of c.

beta and lambda must not depend on which of the n + 1 is the new one. Those of every other class are chosen on the shots
of the classes between them, and the other way round.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ..errors import InputError
from .proker import MOST_CHOSEN_WITH, ProKeR, published, system
from .shots import Shots

_MOST_NUMBERS = 1 << 22
"""Scores in memory at once: of some images, each with every shot and every class."""
_ROUNDING = 1e-9
"""Differences of log-odds below this are none: an image that equals a shot fits as well as it does."""


@dataclasses.dataclass(frozen=True, eq=False)
class _Regression:
    """A regression of all shots, and the classes that it judges."""

    classes: Tensor
    """Numbers of the classes."""
    beta: float
    penalty: float
    inverse: Tensor
    """M, ``(N, N)``."""
    residuals: Tensor
    """R, ``(N, C)``."""
    coefficients: Tensor
    """a, ``(N, C)``."""

    @classmethod
    def of(cls, shots: Shots, classes: Tensor, beta: float, penalty: float) -> _Regression:
        """Solve it."""
        factor, residuals = system(shots, beta, penalty)
        inverse = torch.cholesky_inverse(factor)
        return cls(classes, beta, penalty, inverse, residuals, inverse @ residuals)


class FullConformal:
    """P-values of images and classes, by the shots that a head was learnt from.

    Args:
        shots: N images in one view each, as images are judged, on the CPU.

    Raises:
        InputError: There are more shots than this is done for.
    """

    def __init__(self, shots: Shots) -> None:
        count = len(shots.labels)
        if count > MOST_CHOSEN_WITH:
            raise InputError(
                f"there are {count:,} shots, and sets with a guarantee are made by at most {MOST_CHOSEN_WITH:,}: each "
                "image is compared with all of them; leave guaranteed out"
            )
        text = dataclasses.replace(shots.text, embeddings=shots.text.embeddings.double())
        self._shots = exact = dataclasses.replace(shots, features=_exact(shots.features), text=text)
        self._features, self._cosines = exact.features[0], text.cosines(exact.features[0])
        halves = [torch.arange(first, shots.classes, 2) for first in range(2)]  # every other class, then the others
        self._regressions = [_Regression.of(exact, classes, *_chosen_beside(shots, classes)) for classes in halves]

    @property
    def counts(self) -> NDArray[np.int64]:
        """Shots of each class, ``(C,)``."""
        counts: NDArray[np.int64] = self._shots.counts.numpy()
        return counts

    @torch.no_grad()
    def p_values(self, images: Tensor) -> NDArray[np.float64]:
        """The p-values ``(B, C)`` of unit embeddings ``(B, D)``; of a class of n shots they are 1 / (n + 1) or more."""
        text, labels = self._shots.text, self._shots.labels
        exact = _exact(images)
        at_once = max(1, _MOST_NUMBERS // max(1, self._cosines.numel()))
        values = exact.new_empty(len(exact), text.embeddings.shape[0])
        for rows in torch.split(torch.arange(len(exact)), at_once):
            for regression in self._regressions:
                judged = torch.isin(labels, regression.classes)
                of_images, of_shots = self._log_odds(exact[rows], regression, judged)
                no_better = of_shots <= of_images[:, labels[judged]] + _ROUNDING
                number = no_better.new_zeros(len(rows), text.embeddings.shape[0], dtype=torch.float64)
                number.index_add_(1, labels[judged], no_better.double())
                values[rows[:, None], regression.classes] = number[:, regression.classes]
        p_values: NDArray[np.float64] = ((1 + values) / (1 + self._shots.counts)).numpy()
        return p_values

    def _log_odds(self, images: Tensor, regression: _Regression, judged: Tensor) -> tuple[Tensor, Tensor]:
        """Log-odds of each class of images ``(B, C)``, and of their own class of the ``judged`` shots, ``(B, J)``.

        Each shot is judged by the regression with the image in its place.
        """
        text, labels, penalty = self._shots.text, self._shots.labels[judged], regression.penalty
        similarities = torch.exp(regression.beta * (images @ self._features.T - 1)) / penalty
        cosines = text.cosines(images)
        weight = penalty if text.has_words else 1.0
        summed = similarities @ regression.coefficients
        update = similarities @ regression.inverse
        pivots = 1 + 1 / penalty - (similarities * update).sum(1, keepdim=True)
        part = update[:, judged] / pivots
        diagonal = regression.inverse.diagonal()[judged] + update[:, judged] * part
        coefficients = regression.coefficients[judged] + part[:, :, None] * (cosines + summed)[:, None]
        coefficients[:, torch.arange(len(labels)), labels] -= part
        left_out = regression.residuals[judged] - coefficients / diagonal[:, :, None]
        of_shots = text.scale * (self._cosines[judged] + weight * left_out)
        own = of_shots.gather(2, labels.expand(len(images), -1)[:, :, None])
        of_shots.scatter_(2, labels.expand(len(images), -1)[:, :, None], -torch.inf)
        return _log_odds(text.scale * (cosines + weight * summed)), own[:, :, 0] - of_shots.logsumexp(2)


def _exact(embeddings: Tensor) -> Tensor:
    """The same on the CPU in float64, of length 1 to the last bit: an image must be as like itself as a shot is."""
    return functional.normalize(embeddings.to(device="cpu", dtype=torch.float64), dim=-1)


def _log_odds(scores: Tensor) -> Tensor:
    """Each class's score minus the logarithm of the sum of the others' exponentials, ``(B, C)``."""
    classes = scores.shape[1]
    others = torch.eye(classes, dtype=torch.bool)
    return scores - scores[:, None].masked_fill(others, -torch.inf).logsumexp(2)


def _chosen_beside(shots: Shots, classes: Tensor) -> tuple[float, float]:
    """The beta and lambda for some classes, chosen on the shots of all others; the published ones of fewer than two."""
    others = torch.ones(shots.classes, dtype=torch.bool)
    others[classes] = False
    if int(others.sum()) < 2:
        return published(shots)
    text = dataclasses.replace(shots.text, embeddings=shots.text.embeddings[others], lengths=shots.text.lengths[others])
    some = shots.subset(others[shots.labels])
    number = others.cumsum(0) - 1
    return ProKeR.chosen_on(dataclasses.replace(some, labels=number[some.labels], text=text))[0]
