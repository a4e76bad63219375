"""The classes of images that nobody has labelled, as far as the labelled ones and the names of the classes tell."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..data import prompts_for
from ..errors import InputError
from ..evaluation import presence_of
from ..heads import HEADS, Schedule, Shots, Text, left_out
from ..heads.gda import GaussianDiscriminant
from ..heads.proker import ProKeR
from ..models import Backbone
from ..models.classes import embedded
from ..progress import UNREPORTED
from ..settings import DataConfig
from ..several_labels import Presence, members_named, sigmoid

METHOD, METHOD_OF_SEVERAL = "gda", "proker"
_UNUSED = Schedule(learning_rate=0.0, minimum_learning_rate=0.0, weight_decay=0.0, batch_size=1, seed=0)


@dataclasses.dataclass(frozen=True)
class Guess:
    """The classes that a classifier sees in images that nobody has labelled.

    Args:
        table: Probabilities ``(N, C)``.
        presence: Where images have several labels: which of them an image has.
    """

    table: NDArray[np.floating]
    presence: Presence | None = None

    @property
    def unsure(self) -> NDArray[np.floating]:
        """The doubt about each image, from 0 to 1, ``(N,)``.

        It is 1 less the lead of the most probable class over the next. Where images have several labels each class is
        one question, and it is the mean over them of ``1 - |2p - 1|``.
        """
        if self.presence is not None:
            doubtful: NDArray[np.floating] = (1 - np.abs(2 * self.table - 1)).mean(1)
            return doubtful
        ordered = np.sort(self.table, axis=1)
        lead: NDArray[np.floating] = ordered[:, -1] - ordered[:, -2]
        return 1 - lead

    def of(self, row: int, names: Sequence[str]) -> dict[str, Any]:
        """The classes of an image, as fields of a suggestion."""
        probabilities = self.table[row]
        likeliest = int(probabilities.argmax())
        top = {"looks_like": names[likeliest], "probability": float(probabilities[likeliest])}
        if self.presence is None:
            return top
        labels = members_named(names, probabilities, self.presence.present(probabilities))
        return {**top, "labels": labels, "probabilities": dict(zip(names, probabilities.tolist(), strict=True))}


def guess_of(
    backbone: Backbone,
    settings: DataConfig,
    names: Sequence[str],
    features: NDArray[np.float32],
    labelled: NDArray[np.float32],
    labels: NDArray[np.int64],
) -> Guess | None:
    """Guess the classes of images; None where nothing is known of classes.

    Args:
        backbone: The model that says what the names mean.
        settings: Prompts, and labels per image.
        names: The C classes.
        features: Unit embeddings of the images ``(N, D)``.
        labelled: The same of the labelled images, ``(L, D)``.
        labels: Their classes, ``(L,)``; where images have several labels 1 for each that they have, else 0, ``(L, C)``.
    """
    several = settings.has_several
    if not (names and len(labelled) if several else len(names) > 1):
        return None
    embeddings, lengths = embedded(backbone, prompts_for(names, settings, data="the labelled images"))
    text = Text(embeddings, backbone.logit_scale, lengths, has_words=backbone.has_text)
    images, known = torch.from_numpy(features), (torch.from_numpy(labelled), torch.from_numpy(labels))
    if several:
        return Guess(*label_probabilities(images, *known, text))
    table = class_probabilities(images, *known, text)
    return None if table is None else Guess(table)


@torch.no_grad()
def class_probabilities(images: Tensor, labelled: Tensor, labels: Tensor, text: Text) -> NDArray[np.float32] | None:
    """The probabilities of images by ``gda`` on the labelled ones, ``(N, C)``; None where nothing tells classes apart.

    A class without a labelled image has its prompts alone, and the mean of the other classes' Gaussians; without a text
    tower it has probability 0.

    Args:
        images: Unit embeddings ``(N, D)``.
        labelled: The same of the labelled images, ``(L, D)``.
        labels: Their classes, ``(L,)``.
        text: What the prompts say of all C classes.
    """
    device = text.embeddings.device
    images, labelled, labels = images.to(device), labelled.to(device), labels.to(device)
    scores = text.logits(images)
    seen, own = torch.unique(labels, return_inverse=True)
    if len(seen):
        some = Text(text.embeddings[seen], text.scale, text.lengths[seen], has_words=text.has_words)
        try:
            head = HEADS[METHOD].fit(Shots(labelled[None], own, some), _UNUSED, UNREPORTED).head
        except InputError:  # no two images of a class, and no words
            return None
        assert isinstance(head, GaussianDiscriminant)
        gaussians = images @ head.weights.T + head.biases
        every = gaussians.mean(1, keepdim=True).repeat(1, len(scores[0]))
        every[:, seen] = gaussians
        scores = scores + head.alpha * every
    if not text.has_words:
        if len(seen) < 2:
            return None
        unseen = torch.ones(len(scores[0]), dtype=torch.bool, device=device)
        unseen[seen] = False
        scores[:, unseen] = -torch.inf
    table: NDArray[np.float32] = torch.softmax(scores.float(), dim=1).cpu().numpy()
    return table


@torch.no_grad()
def label_probabilities(
    images: Tensor, labelled: Tensor, labels: Tensor, text: Text
) -> tuple[NDArray[np.float64], Presence]:
    """The probabilities of images by ``proker`` on those of several labels, ``(N, C)``, and which labels images have.

    How probable a label is and from where on an image has it are told by labelled images that are left out, if two
    parts of them can be; else by all of them.

    Args:
        images: Unit embeddings ``(N, D)``.
        labelled: The same of the labelled images, ``(L, D)``; one or more.
        labels: 1 for each class that they show, else 0, ``(L, C)``.
        text: What the prompts say of all C classes.
    """
    device = text.embeddings.device
    images, labelled, labels = images.to(device), labelled.to(device), labels.to(device)
    shots = Shots(labelled[None], labels, text)
    fit = ProKeR.fit(shots, _UNUSED, UNREPORTED)
    scores, part = left_out(ProKeR, shots, labelled, fit.chosen)
    if int(part.max()) < 1:
        scores, part = fit.head.scores(labelled, text), torch.zeros_like(part)
    judged = part >= 0
    presence = presence_of(scores[judged].cpu().numpy(), labels[judged].cpu().numpy(), int(part.max()) + 1)
    margins = presence.slope * fit.head.scores(images, text).double().cpu().numpy() + np.asarray(presence.offsets)
    return sigmoid(margins), presence
