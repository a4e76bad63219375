"""LP++: a linear probe whose weights blend images and class prompts (arXiv 2404.02285)."""

from __future__ import annotations

import dataclasses
import time
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from ..errors import RunError
from ..progress import Report, StepTaken
from .head import Axes, Fit, OtherClasses, Schedule, as_saved, mean_of_last_tenth
from .shots import Shots, Text, by_class

EPOCHS = 300
MOMENTUM = 0.9
BLEND_EVERY = 10
"""The multipliers take one step while the weights take so many."""
BLEND_AT_FIRST = 250.0


@dataclasses.dataclass(frozen=True)
class LinearProbePlusPlus:
    """Scores are ``<f, w_c + alpha_c t_c>``, w and alpha trained together (arXiv 2404.02285, section 3).

    Block coordinate descent on the cross-entropy of all shots at once, with the step sizes that follow from bounds on
    its curvature (proposition 2), so that no learning rate is searched. 300 passes with momentum 0.9; w starts at the
    sum of a class's shots and every alpha at 250 times the mean similarity of a shot and its class's prompt. The
    authors keep the best pass by a validation set; here the last iterate is kept. Their code also has random biases,
    and adds up the gradients of alpha over all passes; the paper has neither.

    Args:
        weights: ``w``, ``(C, D)``.
        alpha: Multipliers of the class embeddings, ``(C,)``.
    """

    AXES: ClassVar[Axes] = {"weights": "CD", "alpha": "C"}
    TRAINED: ClassVar[tuple[str, ...]] = ("weights", "alpha")
    OTHER_CLASSES: ClassVar[OtherClasses] = "text"

    weights: Tensor
    alpha: Tensor

    @classmethod
    def fit(cls, shots: Shots, schedule: Schedule, report: Report) -> Fit:  # noqa: ARG003
        """Descend."""
        features, labels = shots.every_view()
        cosines = shots.text.cosines(features)
        weight_step, alpha_step = step_sizes(features, cosines)
        own = cosines.gather(1, labels[:, None]).flatten()
        mean_own = (by_class(own[None], labels, shots.classes)[0] / torch.bincount(labels)).mean()
        weights = shots.class_sums()
        alpha = (BLEND_AT_FIRST * mean_own).expand(shots.classes).clone()
        truth = functional.one_hot(labels, shots.classes).to(features)
        moved, losses = torch.zeros_like(weights), []
        for epoch in range(EPOCHS):
            started = time.perf_counter()
            scores = features @ weights.T + alpha * cosines
            losses.append(functional.cross_entropy(scores, labels).item())
            error = (torch.softmax(scores, 1) - truth) / len(features)
            moved = MOMENTUM * moved + error.T @ features
            weights = weights - weight_step * moved
            if (epoch + 1) % BLEND_EVERY == 0:
                alpha = alpha - alpha_step * (error * cosines).sum(0)
            facts = epoch + 1, EPOCHS, losses[-1], weight_step, (epoch + 1) * len(features)
            report.step(StepTaken(*facts, time.perf_counter() - started))
        if not bool(weights.isfinite().all() and alpha.isfinite().all()):
            raise RunError("the weights of lp++ are not finite: the embeddings of the shots are not")
        return Fit(cls(as_saved(weights), as_saved(alpha)), len(losses), mean_of_last_tenth(losses))

    def scores(self, images: Tensor, text: Text) -> Tensor:
        """Class scores ``(B, C)``."""
        return images @ self.weights.to(images).T + self.alpha.to(images) * text.cosines(images)


def step_sizes(features: Tensor, cosines: Tensor) -> tuple[float, float]:
    """The steps of the weights and of alpha.

    They are 4 N over the largest eigenvalue of ``F^t F``, and N over 4 times the largest sum of squares of a class's
    similarities.

    Args:
        features: F, ``(N, D)``.
        cosines: Similarities of the shots and the classes, ``(N, C)``.
    """
    largest = torch.linalg.eigvalsh((features.T @ features).double())[-1]
    return float(4 * len(features) / largest), float(len(features) / (4 * cosines.square().sum(0).max()))
