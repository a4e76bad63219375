"""Tip-Adapter: a cache of the shots beside the class prompts (arXiv 2207.09519)."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from typing import ClassVar

import torch
from torch import Tensor

from ..progress import Report
from .cross_validation import choose, not_chosen
from .descent import descend
from .head import Axes, Fit, Head, OtherClasses, Schedule, as_saved, mean_of_last_tenth, number
from .shots import Shots, Text, by_class

INITIAL = (1.17, 1.0)
"""alpha and beta that the authors' search starts from (``configs/imagenet.yaml``, and most others of their code)."""
CANDIDATES = (INITIAL, *itertools.product((0.5, 1.17, 3.0, 10.0, 30.0), (1.0, 3.0, 5.5, 10.0, 30.0)))
"""Values of alpha and beta that are tried: a coarse grid over the ranges that the authors search, up to 30 for both."""
EPOCHS = 20
EPSILON = 1e-4


@dataclasses.dataclass(frozen=True)
class TipAdapter:
    """Scores are ``scale <f, t_c> + alpha * sum over shots i of class c of exp(-beta (1 - <f, k_i>))``.

    Equations 3 and 4 of arXiv 2207.09519; k_i is the mean of a shot's views (ten crops of half the area or more, and
    mirrored ones), brought to length 1, and its value the one-hot label. The authors search alpha and beta on a
    validation set; here it is cross-validation over the shots.

    Args:
        keys: ``(N, D)``.
        labels: Their classes, ``(N,)``.
        alpha: Weight of the cache.
        beta: How sharply it looks.
    """

    AXES: ClassVar[Axes] = {"keys": "ND", "labels": "N", "alpha": "", "beta": ""}
    TRAINED: ClassVar[tuple[str, ...]] = ()
    OTHER_CLASSES: ClassVar[OtherClasses] = "text"

    keys: Tensor
    labels: Tensor
    alpha: Tensor
    beta: Tensor

    @classmethod
    def fit(cls, shots: Shots, schedule: Schedule, report: Report) -> Fit:  # noqa: ARG003
        """Keep the shots; choose alpha and beta."""

        def heads_of(learnt: Shots) -> Iterator[Head]:
            for alpha, beta in CANDIDATES:
                yield cls.cache(learnt, alpha, beta)

        (alpha, beta), chosen = choose(CANDIDATES, heads_of, shots)
        notes = () if chosen else (not_chosen(f"alpha {alpha:g} and beta {beta:g}"),)
        return Fit(cls.cache(shots, alpha, beta), chosen={"alpha": alpha, "beta": beta}, notes=notes)

    @classmethod
    def cache(cls, shots: Shots, alpha: float, beta: float) -> TipAdapter:
        """The cache of these shots."""
        keys = as_saved(shots.mean_views())
        return cls(keys, shots.labels.clone(), number(alpha, keys), number(beta, keys))

    @classmethod
    def again(cls, shots: Shots, chosen: Mapping[str, float]) -> TipAdapter:
        """See ``Computed``."""
        return cls.cache(shots, chosen["alpha"], chosen["beta"])

    def scores(self, images: Tensor, text: Text) -> Tensor:
        """Class scores ``(B, C)``."""
        affinities = torch.exp(self.beta.to(images) * (images @ self.keys.to(images).T - 1))
        cached = by_class(affinities, self.labels.to(images.device), len(text.embeddings))
        return text.logits(images) + self.alpha.to(images) * cached


@dataclasses.dataclass(frozen=True)
class TipAdapterF(TipAdapter):
    """Tip-Adapter with its keys fine-tuned (arXiv 2207.09519, section 3.2).

    AdamW with epsilon 1e-4, batches of 256, learning rate 1e-3 brought to 0 by a cosine, 20 passes: the authors' code.
    alpha and beta stay what their search starts from: they search both again after training, on a validation set, and
    keep the best epoch by the test set; here the last iterate is kept.
    """

    TRAINED: ClassVar[tuple[str, ...]] = ("keys",)

    @classmethod
    def fit(cls, shots: Shots, schedule: Schedule, report: Report) -> Fit:
        """Train the keys."""
        start = cls.cache(shots, *INITIAL)
        head = dataclasses.replace(start, keys=start.keys.clone().requires_grad_())
        rate, decay = schedule.learning_rate, schedule.weight_decay
        optimizer = torch.optim.AdamW([head.keys], lr=rate, weight_decay=decay, eps=EPSILON)
        losses = descend(
            lambda images: head.scores(images, shots.text), shots, optimizer, schedule, report, epochs=EPOCHS
        )
        trained = dataclasses.replace(head, keys=as_saved(head.keys))
        return Fit(trained, steps=len(losses), final_loss=mean_of_last_tenth(losses))
