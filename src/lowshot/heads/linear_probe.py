"""Linear probe: logistic regression on the embeddings."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator, Mapping
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..progress import Report
from .cross_validation import choose, not_chosen
from .head import Axes, Fit, Head, OtherClasses, Schedule, as_saved, number
from .shots import Shots, Text

CANDIDATES = (1e2, 1e6, 1e4, 1.0, 1e-2, 1e-4, 1e-6)
"""Inverse strengths C of the regularisation: those from which the linear probe in LP++'s code starts its search, over
the range that CLIP sweeps. The first is the default."""
MOST_STEPS = 1000
"""L-BFGS iterations, as CLIP's."""


@dataclasses.dataclass(frozen=True)
class LinearProbe:
    """Scikit-learn's logistic regression on unit embeddings, by L-BFGS (CLIP, arXiv 2103.00020, appendix A.3).

    The inverse strength C of its L2 penalty is chosen by cross-validation over the shots, where the papers
    have a validation set. It does not use the class names. Where images have several labels, it is a logistic
    regression for each class against the rest, all with one C.

    Args:
        weights: ``(C, D)``.
        biases: ``(C,)``.
        strength: The C that was taken.
    """

    AXES: ClassVar[Axes] = {"weights": "CD", "biases": "C", "strength": ""}
    TRAINED: ClassVar[tuple[str, ...]] = ("weights", "biases")
    OTHER_CLASSES: ClassVar[OtherClasses] = "none"

    weights: Tensor
    biases: Tensor
    strength: Tensor

    @classmethod
    def fit(cls, shots: Shots, schedule: Schedule, report: Report) -> Fit:  # noqa: ARG003
        """Choose C, then fit on all shots."""

        def heads_of(learnt: Shots) -> Iterator[Head]:
            for candidate in CANDIDATES:
                yield cls.regressed(learnt, candidate)[0]

        strength, chosen = choose(CANDIDATES, heads_of, shots)
        head, steps = cls.regressed(shots, strength)
        notes = () if chosen else (not_chosen(f"C {strength:g}"),)
        return Fit(head, steps=steps, chosen={"C": strength}, notes=notes)

    @classmethod
    def again(cls, shots: Shots, chosen: Mapping[str, float]) -> LinearProbe:
        """See ``Computed``: there is one minimum, wherever a search for it starts."""
        return cls.regressed(shots, chosen["C"])[0]

    @classmethod
    def regressed(cls, shots: Shots, strength: float) -> tuple[LinearProbe, int]:
        """The regression with this C, and how many iterations it took."""
        features, labels = (tensor.cpu().numpy() for tensor in shots.every_view())
        rows, span = features.astype(np.float64), None
        if len(rows) < rows.shape[1]:
            # Weights with an L2 penalty lie in the span of what they are learnt from. In its few dimensions every step
            # of L-BFGS is the same: it starts at zero, and no direction is another to it.
            span = np.linalg.qr(rows.T)[0]
            rows = rows @ span
        solve = _one_against_the_rest if shots.has_several else _multinomial
        weights, biases, steps = solve(rows, labels, strength)
        weights = weights if span is None else weights @ span.T
        device = shots.features.device
        saved, offsets = (as_saved(torch.from_numpy(array).to(device)) for array in (weights, biases))
        return cls(saved, offsets, number(strength, shots.features)), steps

    def scores(self, images: Tensor, text: Text) -> Tensor:  # noqa: ARG002
        """Log-odds ``(B, C)``."""
        return images @ self.weights.to(images).T + self.biases.to(images)


def _multinomial(
    rows: NDArray[np.float64], labels: NDArray[np.int64], strength: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Weights ``(C, D)`` and biases ``(C,)`` of the softmax regression, and the iterations."""
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        # Next to no penalty has no end to converge to, and one image of each class looks like no classification.
        warnings.simplefilter("ignore", UserWarning)
        model = LogisticRegression(C=strength, max_iter=MOST_STEPS).fit(rows, labels)
    weights, biases = model.coef_, model.intercept_
    if len(weights) == 1:  # of two classes scikit-learn scores the second against the first
        weights, biases = np.concatenate([-weights, weights]) / 2, np.concatenate([-biases, biases]) / 2
    return weights, biases, int(model.n_iter_.max())


def _one_against_the_rest(
    rows: NDArray[np.float64], labels: NDArray[np.int64], strength: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """The same of a logistic regression for each class by itself, all of them solved at once.

    Their losses have no number in common, so that the sum is least where each is. A class of which no image is there,
    or all are, has as many images more as one of each kind would be in a hundred: its bias stays finite.
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    count, classes = len(rows), labels.shape[1]
    lone = (labels.min(0) == labels.max(0)) * 0.01
    truth = labels * (1 - lone) + lone / 2

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights, biases = flat[:-classes].reshape(classes, -1), flat[-classes:]
        scores = rows @ weights.T + biases
        error = expit(scores) - truth
        value = strength * (np.logaddexp(0, scores) - truth * scores).sum() + 0.5 * (weights**2).sum()
        return float(value), np.concatenate([(strength * error.T @ rows + weights).ravel(), strength * error.sum(0)])

    start = np.zeros(classes * (rows.shape[1] + 1))
    scale = max(1.0, strength * count)  # scikit-learn divides the loss by that much, and stops by the same rule
    solution = minimize(
        lambda flat: tuple(part / scale for part in loss(flat)),
        start,
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": MOST_STEPS, "gtol": 1e-4, "ftol": 64 * np.finfo(float).eps},
    )
    return solution.x[:-classes].reshape(classes, -1), solution.x[-classes:], int(solution.nit)
