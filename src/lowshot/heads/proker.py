"""ProKeR: kernel ridge regression on what the class prompts leave unexplained (arXiv 2501.11175)."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from typing import ClassVar

import torch
from torch import Tensor

from ..errors import InputError
from ..progress import Report
from .cross_validation import choose, not_chosen
from .head import Axes, Fit, Head, OtherClasses, Schedule, as_saved, number
from .shots import Shots, Text, shown

PUBLISHED = {1: (3.0, 0.05), 2: (2.6, 0.05), 4: (1.5, 0.05), 8: (1.66, 0.07), 16: (1.7, 0.1)}
"""Images per class -> beta and lambda that the authors found on ImageNet, for all data sets."""
CANDIDATES = tuple(itertools.product((0.5, 1.7, 3.0), (0.1, 1 / 3, 2 / 3, 1.0)))
"""Further values of beta and lambda that are tried: a coarse grid over the ranges that the authors search."""
MOST_CHOSEN_WITH = 4_096
"""Embeddings up to which they are chosen: it takes 60 solutions, and time grows with the third power."""
MOST_ROWS = 16_384
"""Embeddings that are solved for at most: the matrix of their similarities then has 2.1 GB."""


def published(shots: Shots) -> tuple[float, float]:
    """The authors' beta and lambda for as many images per class, or for the next smaller number."""
    return PUBLISHED[max(known for known in PUBLISHED if known <= shots.per_class)]


def system(shots: Shots, beta: float, penalty: float) -> tuple[Tensor, Tensor]:
    """The Cholesky factor of ``K / lambda + I``, ``(V, V)``, and the residuals ``Y - F T^t``, ``(V, C)``; float64."""
    features, labels = shots.every_view()
    exact = features.double()
    residuals = shown(labels, shots.classes) - shots.text.cosines(features).double()
    # One matrix in all: it is made, scaled and factorised in the same place.
    matrix = (exact @ exact.T).sub_(1).mul_(beta).exp_().div_(penalty)
    matrix.diagonal().add_(1)
    failed = torch.empty((), dtype=torch.int32, device=matrix.device)
    torch.linalg.cholesky_ex(matrix, out=(matrix, failed))
    return matrix, residuals


def weight(text: Text, penalty: float) -> float:
    """The divisor of coefficients: lambda weighs the regression against class prompts, where there are any."""
    return 1.0 if text.has_words else penalty


@dataclasses.dataclass(frozen=True)
class ProKeR:
    """Scores are ``scale * (<f, t_c> + sum over i of k(f, f_i) a_ic)`` with ``a = (K / lambda + I)^-1 (Y - F T^t)``.

    The proximal kernel ridge regression of arXiv 2501.11175, section 4: F are the embeddings of all views of the shots,
    Y their one-hot labels, T the class embeddings, ``k(f, g) = exp(-beta (1 - <f, g>))`` and K its values between the
    shots. Where images have several labels, Y has a 1 for each. As the authors' code computes it, the sum is lambda
    times that of a plain kernel ridge regression of the residuals with penalty lambda. The scale, which changes no
    ranking, makes the scores those of CLIP where there is nothing to correct.

    Where there are no class prompts T is 0, and the sum is that plain regression, of the labels.

    The authors search beta and lambda on a validation set, or take for all data sets what they found on ImageNet. Here
    cross-validation over the shots decides between the latter and others; it alone is taken for one image
    of each class, and for more than 4,096 embeddings.

    Args:
        keys: F, ``(V, D)``.
        coefficients: a, ``(V, C)``.
        beta: How sharply the kernel looks.
    """

    AXES: ClassVar[Axes] = {"keys": "VD", "coefficients": "VC", "beta": ""}
    TRAINED: ClassVar[tuple[str, ...]] = ()
    OTHER_CLASSES: ClassVar[OtherClasses] = "text"

    keys: Tensor
    coefficients: Tensor
    beta: Tensor

    @classmethod
    def fit(cls, shots: Shots, schedule: Schedule, report: Report) -> Fit:  # noqa: ARG003
        """Choose, then solve."""
        rows = shots.features.shape[0] * shots.features.shape[1]
        if rows > MOST_ROWS:
            raise InputError(
                f"proker solves for all {rows:,} embeddings of the shots at once, which takes "
                f"{8 * rows**2 / 1e9:,.0f} GB; expected at most {MOST_ROWS:,}: ask for fewer views or shots"
            )
        default = published(shots)
        defaults = f"beta {default[0]:g} and lambda {default[1]:g}"
        if rows > MOST_CHOSEN_WITH:
            beta, penalty = default
            notes = [f"{rows:,} embeddings are too many to choose with: proker takes its authors' {defaults}"]
        else:
            (beta, penalty), chosen = cls.chosen_on(shots)
            notes = [] if chosen else [not_chosen(defaults)]
        chosen_values = {"beta": beta, "lambda": penalty}
        return Fit(cls.solved(shots, beta, penalty), chosen=chosen_values, notes=tuple(notes))

    @classmethod
    def chosen_on(cls, shots: Shots) -> tuple[tuple[float, float], bool]:
        """The beta and lambda that do best on held-out shots, and whether there were any; see ``choose``."""
        candidates = (published(shots), *CANDIDATES)

        def heads_of(learnt: Shots) -> Iterator[Head]:
            for beta, penalty in candidates:
                yield cls.solved(learnt, beta, penalty)

        return choose(candidates, heads_of, shots)

    @classmethod
    def solved(cls, shots: Shots, beta: float, penalty: float) -> ProKeR:
        """The regression with these settings, in float64."""
        features, _ = shots.every_view()
        factor, residuals = system(shots, beta, penalty)
        coefficients = torch.cholesky_solve(residuals, factor) / weight(shots.text, penalty)
        return cls(as_saved(features), as_saved(coefficients), number(beta, features))

    @classmethod
    def again(cls, shots: Shots, chosen: Mapping[str, float]) -> ProKeR:
        """See ``Computed``."""
        return cls.solved(shots, chosen["beta"], chosen["lambda"])

    def scores(self, images: Tensor, text: Text) -> Tensor:
        """Class scores ``(B, C)``."""
        similarities = torch.exp(self.beta.to(images) * (images @ self.keys.to(images).T - 1))
        return text.scale * (text.cosines(images) + similarities @ self.coefficients.to(images))
