"""Which image to label next: of those that nobody has labelled, the ones whose labels will teach most."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..data import (
    Examples,
    Images,
    ImagesOnDemand,
    addition_from,
    are_of_cameras,
    images_below,
    images_in_order,
    prompts_for,
)
from ..data.store import source_of
from ..errors import DataError, InputError
from ..evaluation import embeddings_of
from ..heads import HEADS, Schedule, Shots, Text
from ..heads.gda import GaussianDiscriminant
from ..models import is_photos_installed, load_backbone
from ..models.classes import embedded
from ..progress import UNREPORTED, Track, silent
from ..settings import Recipe
from ..threads import cpu_threads
from ..torch_state import own_torch_state
from ..training import Learner, create_learner
from .next_images import next_images

MOST_IMAGES = 5_000
"""Unlabelled images that are looked at: of more, so many are drawn. Memory and time grow with the square."""
_METHOD = "gda"
_UNUSED = Schedule(learning_rate=0.0, minimum_learning_rate=0.0, weight_decay=0.0, batch_size=1, seed=0)


@dataclasses.dataclass(frozen=True)
class Suggestion:
    """An image to label."""

    image: str
    """Its file, or its number where it has none."""
    index: int
    """Its number among the unlabelled images, from 0."""
    why: str
    """``typical`` of many others, or ``unsure``: the classifier is, of it and of what is like it."""
    looks_like: str | None
    """The most probable class; None where nothing is known of classes."""
    probability: float | None
    """Its probability."""


@own_torch_state()
def suggested_images(
    unlabelled: str | os.PathLike[str] | Sequence[Any],
    recipe: Recipe,
    data: Any = None,
    labels: Any = None,
    *,
    classes: Sequence[str] = (),
    count: int = 20,
    track: Track = silent,
    warn: list[str] | None = None,
) -> list[Suggestion]:
    """Choose the images whose labels will teach most, the most useful first.

    While there are fewer labels than classes they are typical images of clusters, then those that many images lie near
    of which ``gda`` is unsure (``next_images``). Label them, and ask again.

    Args:
        unlabelled: A folder of images, or images.
        recipe: Model and draw; the method is ``gda`` on central crops.
        data: The labelled images so far, as for ``FewShotClassifier.add``; None where there are none.
        labels: The class of each, where ``data`` is images.
        classes: Names of classes that have no labelled image yet.
        count: Images to choose.
        track: Shows progress.
        warn: Receives a line for each thing that a person should know.

    Raises:
        DataError: Images cannot be used, or there are none.
        InputError: The count is below 1, or the model cannot be used.
    """
    if count < 1:
        raise InputError(f"count is {count}; expected 1 or more")
    warn = [] if warn is None else warn
    with cpu_threads(recipe.engine.threads):
        images = _images(unlabelled, warn)
        config = recipe.data
        known = None if data is None else addition_from(data, labels, config.on_bad_image, warn, config.root)
        rows = np.arange(len(images))
        if len(images) > MOST_IMAGES:
            rows = np.sort(np.random.default_rng(recipe.training.seed).permutation(len(images))[:MOST_IMAGES])
            warn.append(f"{MOST_IMAGES:,} of {len(images):,} images are looked at, drawn by the seed")
        some = Examples(images, np.zeros(len(images), dtype=np.int64), tuple(map(str, range(len(images))))).subset(rows)
        names = list(dict.fromkeys([*(known.class_names if known else ()), *classes]))
        texts = prompts_for(names, config, data="the labelled images") if names else ((" ",),)
        backbone = load_backbone(recipe.model.loaded, recipe.model.device)
        learner = create_learner(backbone, texts, recipe.replace(method=_METHOD))
        features = _encoded(learner, some.images, track)
        labelled = features[:0] if known is None else _encoded(learner, known.examples.images, track)
        table = None
        if len(names) > 1:
            numbers = torch.from_numpy(np.empty(0, dtype=np.int64) if known is None else known.examples.labels)
            embeddings, lengths = embedded(backbone, texts)
            text = Text(embeddings, backbone.logit_scale, lengths, has_words=backbone.has_text)
            table = class_probabilities(torch.from_numpy(features), torch.from_numpy(labelled), numbers, text)
        unsure = np.ones(len(features), dtype=np.float32)
        if table is not None:
            ordered = np.sort(table, axis=1)
            unsure = 1 - (ordered[:, -1] - ordered[:, -2])
        # Without names nobody knows how many classes there are: then all are typical.
        many = len(names) if names else len(features) + 1
        chosen = next_images(features, labelled, unsure, many, count, recipe.training.seed)
        return [
            Suggestion(
                image=_name(images, int(rows[each.row])),
                index=int(rows[each.row]),
                why="typical" if each.is_typical else "unsure",
                looks_like=None if table is None else names[int(table[each.row].argmax())],
                probability=None if table is None else float(table[each.row].max()),
            )
            for each in chosen
        ]


def suits_photos(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder's images are in formats of cameras and phones, and ``photos`` is installed to look at them.

    Raises:
        DataError: There is no such folder, or no image in it.
    """
    return is_photos_installed() and are_of_cameras([os.fspath(each) for each in images_below(Path(folder), [])])


@torch.no_grad()
def class_probabilities(images: Tensor, labelled: Tensor, labels: Tensor, text: Text) -> NDArray[np.float32] | None:
    """What ``gda`` on the labelled images says of others, ``(N, C)``; None where nothing tells classes apart.

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
            head = HEADS[_METHOD].fit(Shots(labelled[None], own, some), _UNUSED, UNREPORTED).head
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


def _encoded(learner: Learner, images: Images, track: Track) -> NDArray[np.float32]:
    """Unit embeddings ``(N, D)`` of central crops."""
    return embeddings_of(learner, images, learner.backbone.image_size, track=track)


def _images(unlabelled: str | os.PathLike[str] | Sequence[Any], warn: list[str]) -> Images:
    if isinstance(unlabelled, str | os.PathLike):
        path = Path(unlabelled)
        if not path.is_dir():
            raise DataError(f"{path} {'is no folder' if path.exists() else 'does not exist'}; expected one of images")
        return ImagesOnDemand([str(each) for each in images_below(path, warn)])
    given = ImagesOnDemand(images_in_order(unlabelled))
    if not len(given):
        raise DataError("there are no unlabelled images")
    return given


def _name(images: Images, row: int) -> str:
    source = source_of(images, row)
    return str(source) if isinstance(source, Path) else f"image {row}"
