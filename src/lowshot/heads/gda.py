"""Gaussian discriminant analysis beside the class prompts (arXiv 2402.04087)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import ClassVar

import torch
from torch import Tensor

from ..errors import InputError
from ..progress import Report
from .cross_validation import choose, log_likelihood, not_chosen, recognised
from .head import Axes, Fit, Head, OtherClasses, Schedule, as_saved, number
from .shots import Shots, Text, by_class

CANDIDATES = (0.01, 0.0001, 0.001, 0.1, 1.0, 10.0, 100.0)
"""Weights of the Gaussians that are tried: the authors' own. The first is the default."""
WITHOUT_WORDS = (0.001, *(candidate for candidate in CANDIDATES if candidate != 0.001))
"""The same where they alone decide: of one photograph of each class in ten views the first was the likeliest."""


@dataclasses.dataclass(frozen=True)
class GaussianDiscriminant:
    """Scores are ``scale <f, t_c> + alpha (<w_c, f> + b_c)`` (arXiv 2402.04087, section 3.2).

    Every class is a Gaussian of one covariance, so that ``w_c = P m_c`` and ``b_c = -<m_c, P m_c> / 2`` with the mean
    m_c of its embeddings and the precision ``P = D ((n - 1) S + tr(S) I)^-1``, the empirical Bayes ridge estimator, of
    the pooled covariance S of all n views. Classes are taken to be equally likely. The authors choose alpha on a
    validation set; here it is cross-validation over the shots. Where there are no class prompts the
    Gaussians alone decide, and alpha how sure they are: it is chosen by the likelihood of held-out shots.

    Args:
        weights: ``w``, ``(C, D)``.
        biases: ``b``, ``(C,)``.
        alpha: Weight of the Gaussians.
    """

    AXES: ClassVar[Axes] = {"weights": "CD", "biases": "C", "alpha": ""}
    TRAINED: ClassVar[tuple[str, ...]] = ()
    OTHER_CLASSES: ClassVar[OtherClasses] = "text"

    weights: Tensor
    biases: Tensor
    alpha: Tensor

    @classmethod
    def fit(cls, shots: Shots, schedule: Schedule, report: Report) -> Fit:  # noqa: ARG003
        """Estimate, and choose alpha.

        Raises:
            InputError: There are no class prompts, and no class has two different views.
        """
        has_words = shots.text.has_words
        candidates = CANDIDATES if has_words else WITHOUT_WORDS

        def heads_of(learnt: Shots) -> Iterator[Head]:
            head = cls.estimated(learnt, 1.0)
            for candidate in candidates:
                yield dataclasses.replace(head, alpha=number(candidate, head.weights))

        alpha, chosen = choose(candidates, heads_of, shots, recognised if has_words else log_likelihood)
        head = cls.estimated(shots, alpha)
        notes = [] if chosen else [not_chosen(f"alpha {alpha:g}")]
        if not head.weights.any():
            if not has_words:
                raise InputError(
                    "gda knows only how images of a class differ, and no class has two different views; expected "
                    "more shots, or views, or method nearest-mean"
                )
            notes.append("no class has two different views, so that there is no covariance: gda judges as zero-shot")
        return Fit(head, chosen={"alpha": alpha}, notes=tuple(notes))

    @classmethod
    def estimated(cls, shots: Shots, alpha: float) -> GaussianDiscriminant:
        """The Gaussians of these shots. Without any spread the precision is 0, and so are weights and biases."""
        features, labels = shots.every_view()
        exact = features.double()
        counts = torch.bincount(labels, minlength=shots.classes)
        means = (by_class(exact.T, labels, shots.classes) / counts).T
        centred = exact - means[labels]
        scatter = centred.T @ centred  # (n - 1) S
        width, trace = scatter.shape[0], scatter.trace() / max(1, len(exact) - 1)
        ridge = torch.eye(width, dtype=exact.dtype, device=exact.device) * trace
        spread = bool(trace > torch.finfo(torch.float32).tiny)
        weights = width * torch.linalg.solve(scatter + ridge, means.T).T if spread else torch.zeros_like(means)
        biases = -(weights * means).sum(1) / 2
        return cls(as_saved(weights), as_saved(biases), number(alpha, features))

    @classmethod
    def again(cls, shots: Shots, chosen: Mapping[str, float]) -> GaussianDiscriminant:
        """See ``Computed``."""
        return cls.estimated(shots, chosen["alpha"])

    def scores(self, images: Tensor, text: Text) -> Tensor:
        """Class scores ``(B, C)``."""
        gaussians = images @ self.weights.to(images).T + self.biases.to(images)
        return text.logits(images) + self.alpha.to(images) * gaussians
