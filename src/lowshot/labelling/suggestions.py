"""Which image to label next: of those that nobody has labelled, the ones whose labels will teach most."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..data import (
    Addition,
    Examples,
    Images,
    ImagesOnDemand,
    addition_from,
    are_of_cameras,
    bad_images_explained,
    good_images,
    images_below,
    images_in_order,
    prompts_for,
    source_of,
)
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
    of which ``gda`` is unsure (``next_images``). Label them, and ask again. Images that ``data`` has are not chosen.

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
    recipe.data.refuse_several("suggest")
    if count < 1:
        raise InputError(f"count is {count}; expected 1 or more")
    warn, config = [] if warn is None else warn, recipe.data
    known = None if data is None else addition_from(data, labels, config.on_bad_image, warn, config.root)
    return Unlabelled(unlabelled, recipe, known, track=track, warn=warn).suggestions(count, classes)


class Unlabelled:
    """Images that nobody has labelled, encoded once: which ones to label next can be asked for again and again.

    Args:
        unlabelled: A folder of images, or images.
        recipe: As for ``suggested_images``.
        known: The labelled images so far.
        track: Shows progress.
        warn: Receives a line for each thing that a person should know.

    Raises:
        DataError: Images cannot be used, or there are none.
        InputError: The model cannot be used.
    """

    @own_torch_state()
    def __init__(
        self,
        unlabelled: str | os.PathLike[str] | Sequence[Any],
        recipe: Recipe,
        known: Addition | None = None,
        *,
        track: Track = silent,
        warn: list[str] | None = None,
    ) -> None:
        warn = [] if warn is None else warn
        self._recipe, self._known = recipe, known
        self._images = _images(unlabelled, warn)
        every = Examples(
            self._images, np.zeros(len(self._images), dtype=np.int64), tuple(map(str, range(len(self._images))))
        )
        free = np.asarray(good_images(every, ("image",), recipe.data.on_bad_image, warn), dtype=np.int64)
        if known is not None:
            labelled = set(_files(known.examples.images))
            free = free[[_file(self._images, int(row)) not in labelled for row in free]]
        if not len(free):
            raise DataError(f"all {len(every):,} images have labels already; there is none to suggest")
        if len(free) > MOST_IMAGES:
            chosen = np.random.default_rng(recipe.training.seed).permutation(len(free))[:MOST_IMAGES]
            warn.append(f"{MOST_IMAGES:,} of {len(free):,} images are looked at, drawn by the seed")
            free = free[np.sort(chosen)]
        self._rows = free
        with cpu_threads(recipe.engine.threads), bad_images_explained(recipe.data.on_bad_image):
            self._backbone = load_backbone(recipe.model.loaded, recipe.model.device)
            learner = create_learner(self._backbone, ((" ",),), recipe.replace(method=_METHOD))
            self._features = _encoded(learner, every.subset(free).images, track)
            self._labelled = self._features[:0] if known is None else _encoded(learner, known.examples.images, track)

    @property
    def numbers(self) -> Mapping[str, int]:
        """The number of each image that is in a file, by the file's absolute path."""
        files = ((source_of(self._images, row), row) for row in range(len(self._images)))
        return {os.path.abspath(file): row for file, row in files if isinstance(file, Path)}  # noqa: PTH100 - links stay

    @own_torch_state()
    def suggestions(
        self,
        count: int,
        classes: Sequence[str] = (),
        *,
        given: Mapping[int, str] | None = None,
        left_out: Collection[int] = (),
    ) -> list[Suggestion]:
        """Choose the images whose labels will teach most, the most useful first.

        Args:
            count: Images to choose.
            classes: Names of classes that have no labelled image yet.
            given: Labels that some of the images have got since, by their number.
            left_out: Numbers of images that are not to be chosen either.
        """
        given = {} if given is None else given
        known_names = () if self._known is None else self._known.class_names
        names = list(dict.fromkeys([*known_names, *given.values(), *classes]))
        got = np.asarray([place for place, row in enumerate(self._rows.tolist()) if row in given], dtype=np.int64)
        closed = {*given, *left_out}
        free = np.asarray([place for place, row in enumerate(self._rows.tolist()) if row not in closed], dtype=np.int64)
        labels = [] if self._known is None else [self._known.examples.labels]
        labels += [np.asarray([names.index(given[int(self._rows[place])]) for place in got], dtype=np.int64)]
        if not len(free):
            return []
        features, labelled = self._features[free], np.concatenate([self._labelled, self._features[got]])
        with cpu_threads(self._recipe.engine.threads):
            table = self._probabilities(names, features, labelled, np.concatenate(labels)) if len(names) > 1 else None
        unsure = np.ones(len(features), dtype=np.float32)
        if table is not None:
            ordered = np.sort(table, axis=1)
            unsure = 1 - (ordered[:, -1] - ordered[:, -2])
        # Without names nobody knows how many classes there are: then all are typical.
        many = len(names) if names else len(features) + 1
        chosen = next_images(features, labelled, unsure, many, count, self._recipe.training.seed)
        return [
            Suggestion(
                image=_name(self._images, row),
                index=row,
                why="typical" if each.is_typical else "unsure",
                looks_like=None if table is None else names[int(table[each.row].argmax())],
                probability=None if table is None else float(table[each.row].max()),
            )
            for each in chosen
            for row in [int(self._rows[free[each.row]])]
        ]

    def _probabilities(
        self,
        names: Sequence[str],
        features: NDArray[np.float32],
        labelled: NDArray[np.float32],
        labels: NDArray[np.int64],
    ) -> NDArray[np.float32] | None:
        """What is known of the classes of images, ``(N, C)``; None where that is nothing."""
        texts = prompts_for(names, self._recipe.data, data="the labelled images")
        embeddings, lengths = embedded(self._backbone, texts)
        text = Text(embeddings, self._backbone.logit_scale, lengths, has_words=self._backbone.has_text)
        known = torch.from_numpy(labelled), torch.from_numpy(labels)
        return class_probabilities(torch.from_numpy(features), *known, text)


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


def _file(images: Images, row: int) -> Path | None:
    """Where an image's file really is; None where it has none."""
    source = source_of(images, row)
    return source.resolve() if isinstance(source, Path) else None


def _files(images: Images) -> Iterator[Path]:
    return (file for row in range(len(images)) if (file := _file(images, row)) is not None)


def _name(images: Images, row: int) -> str:
    source = source_of(images, row)
    return str(source) if isinstance(source, Path) else f"image {row}"
