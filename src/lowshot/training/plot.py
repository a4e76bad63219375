"""PLOT++: several prompts of each class meet several views of an image by optimal transport (arXiv 2210.01253).

Each class has N prompts, each behind trained tokens of its own, and the vision tower sees each image M times, each time
with trained tokens of its own behind the patches. With the cosines S of an image's M embeddings and a class's N, and
the transport plan T of the costs 1 - S, the score of the class is

    s sum_{m, n} T_mn S_mn

PLOT's paper has local features of a convolutional network in the place of the M embeddings. PLOT++ is its authors'
version for vision transformers, published as code alone: CHENGY12/PLOT, folder plot-pp. As there, training has two
stages. In the first only the tokens of the vision tower are trained, and s cos(mean of the M, mean of the N) is added
to the scores. In the second all tokens are trained, with the scores above.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor
from torch.nn import functional

from ..adapters import ContextAdapter
from ..errors import InputError
from ..models import Backbone
from .prompts import Owners
from .scoring import Scoring
from .sinkhorn import transport_plan
from .step import ExactStep, Passes
from .steps import Stage
from .weights import WeightsLearner

REGULARISATION = 0.1
"""The transport's, as in the code, for all data sets."""
_TENSORS_OF_PAIRS = 8
"""As large as the table of all pairs, at once: cosines and plan, which are kept, and Sinkhorn's kernel and products, or
gradients, which are not. Six were seen (torch's profiler, 1,000 classes); the others are room."""


@dataclasses.dataclass(frozen=True)
class TransportScoring:
    """Scores by optimal transport between an image's embeddings and a class's.

    Args:
        backbone: Has the logit scale, and the number of embeddings of an image.
        owners: The class of each prompt; each has as many.
        with_means: Whether the cosine of their means is added, as in the first stage.
    """

    backbone: Backbone
    owners: Owners
    with_means: bool = False

    def __post_init__(self) -> None:
        counts = torch.bincount(self.owners.index, minlength=self.owners.classes).tolist()
        if len(set(counts)) > 1:
            raise InputError(
                f"method plot++ needs as many prompts of each class; one class has {min(counts)}, another "
                f"{max(counts)}: give each as many texts in class-names and descriptions, or leave those out"
            )

    def classes(self, prompts: Tensor) -> Tensor:
        """Embeddings ``(C, N, D)`` of each class."""
        return prompts.view(self.owners.classes, -1, prompts.shape[-1])

    def scores(self, images: Tensor, classes: Tensor) -> Tensor:
        """Class scores ``(B, C)`` of images ``(B, M, D)``."""
        cosines = torch.einsum("bmd,cnd->bcmn", images, classes)
        plan = transport_plan(1 - cosines, REGULARISATION)
        scores = self.backbone.logit_scale * (plan * cosines).sum((-2, -1))
        if not self.with_means:
            return scores
        means = (functional.normalize(each.mean(1), dim=-1) for each in (images, classes))
        return scores + self.backbone.logits(*means)

    @property
    def image_bytes(self) -> int:
        """Some tables of all pairs of its embeddings and prompts, float32."""
        return _TENSORS_OF_PAIRS * 4 * (self.backbone.image_prompts or 1) * len(self.owners.index)


class PlotLearner(WeightsLearner):
    """Trained tokens at the inputs of both towers, whose embeddings are compared by optimal transport."""

    def scoring_of(self, owners: Owners) -> Scoring:
        """Scores by optimal transport."""
        return TransportScoring(self.backbone, owners)

    def stages(self, steps: int, passes: Passes) -> list[Stage]:
        """The tokens of the vision tower alone, then all tokens: the code gives both stages as many steps."""
        first = steps // 2
        return [Stage(first, self.first_step(passes)), Stage(steps - first, self.exact_step(passes))]

    def first_step(self, passes: Passes) -> ExactStep:
        """Return what computes the gradients of a step of the first stage: the text tower is no part of it."""
        assert isinstance(self.adapter, ContextAdapter)
        scoring = TransportScoring(self.backbone, self.class_vectors.owners, with_means=True)
        words = self.adapter.text.vectors
        words.requires_grad_(False)  # so that the prompts are encoded once for the whole stage
        try:
            return dataclasses.replace(self.exact_step(passes), vectors_are_trained=False, scoring=scoring)
        finally:
            words.requires_grad_(True)
