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
from ..evaluation import embeddings_of, presence_of
from ..heads import HEADS, Schedule, Shots, Text, left_out
from ..heads.gda import GaussianDiscriminant
from ..heads.proker import ProKeR
from ..models import is_photos_installed, load_backbone
from ..models.classes import embedded
from ..progress import UNREPORTED, Track, silent
from ..settings import Recipe
from ..several_labels import Presence, sigmoid
from ..threads import cpu_threads
from ..torch_state import own_torch_state
from ..training import Learner, create_learner
from .next_images import next_images

MOST_IMAGES = 5_000
"""Unlabelled images that are looked at: of more, so many are drawn. Memory and time grow with the square."""
_METHOD, _METHOD_OF_SEVERAL = "gda", "proker"
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
    labels: tuple[str, ...] | None = None
    """Where images have several labels: those that are probable enough, the most probable first."""
    probabilities: Mapping[str, float] | None = None
    """Where images have several labels: the probability of each class."""


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
    Where images have several labels ``proker`` takes the place of ``gda``.

    Args:
        unlabelled: A folder of images, or images.
        recipe: Model, draw and labels per image; the method is ``gda`` or ``proker`` on central crops.
        data: The labelled images so far, as for ``FewShotClassifier.add``; None where there are none.
        labels: The class of each, where ``data`` is images; all classes of each where images have several labels.
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
    warn, config = [] if warn is None else warn, recipe.data
    known = (
        None if data is None else addition_from(data, labels, config.on_bad_image, warn, config.root, config.several)
    )
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
        method = _METHOD_OF_SEVERAL if recipe.data.has_several else _METHOD
        with cpu_threads(recipe.engine.threads), bad_images_explained(recipe.data.on_bad_image):
            self._backbone = load_backbone(recipe.model.loaded, recipe.model.device)
            learner = create_learner(self._backbone, ((" ",),), recipe.replace(method=method))
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
        given: Mapping[int, str | Sequence[str]] | None = None,
        left_out: Collection[int] = (),
    ) -> list[Suggestion]:
        """Choose the images whose labels will teach most, the most useful first.

        Args:
            count: Images to choose.
            classes: Names of classes that have no labelled image yet.
            given: Labels that some of the images have got since, by their number; all of an image that has several.
            left_out: Numbers of images that are not to be chosen either.
        """
        given = {row: (got,) if isinstance(got, str) else tuple(got) for row, got in (given or {}).items()}
        known_names = () if self._known is None else self._known.class_names
        names = list(dict.fromkeys([*known_names, *(name for got in given.values() for name in got), *classes]))
        got = np.asarray([place for place, row in enumerate(self._rows.tolist()) if row in given], dtype=np.int64)
        closed = {*given, *left_out}
        free = np.asarray([place for place, row in enumerate(self._rows.tolist()) if row not in closed], dtype=np.int64)
        if not len(free):
            return []
        features, labelled = self._features[free], np.concatenate([self._labelled, self._features[got]])
        labels = self._labels(names, [given[int(self._rows[place])] for place in got])
        with cpu_threads(self._recipe.engine.threads):
            guess = self._guess(names, features, labelled, labels)
        unsure = np.ones(len(features), dtype=np.float32) if guess is None else guess.unsure
        # Without names nobody knows how many classes there are: then all are typical.
        many = len(names) if names else len(features) + 1
        chosen = next_images(features, labelled, unsure, many, count, self._recipe.training.seed)
        return [
            Suggestion(
                image=_name(self._images, row),
                index=row,
                why="typical" if each.is_typical else "unsure",
                **({"looks_like": None, "probability": None} if guess is None else guess.of(each.row, names)),
            )
            for each in chosen
            for row in [int(self._rows[free[each.row]])]
        ]

    def _labels(self, names: Sequence[str], given: Sequence[Sequence[str]]) -> NDArray[np.int64]:
        """Those of the labelled images, then those given since: ``(L,)``, or ``(L, C)`` where images have several."""
        known = None if self._known is None else self._known.examples
        if not self._recipe.data.has_several:
            one = np.asarray([names.index(name) for [name] in given], dtype=np.int64)
            return one if known is None else np.concatenate([known.labels, one])
        table = np.asarray([[name in got for name in names] for got in given], dtype=np.int64)
        table = table.reshape(len(given), len(names))
        if known is None:
            return table
        return np.concatenate([np.pad(known.labels, ((0, 0), (0, len(names) - known.labels.shape[1]))), table])

    def _guess(
        self,
        names: Sequence[str],
        features: NDArray[np.float32],
        labelled: NDArray[np.float32],
        labels: NDArray[np.int64],
    ) -> _Guess | None:
        """What is known of the classes of images; None where that is nothing."""
        several = self._recipe.data.has_several
        if not (names and len(labelled) if several else len(names) > 1):
            return None
        texts = prompts_for(names, self._recipe.data, data="the labelled images")
        embeddings, lengths = embedded(self._backbone, texts)
        text = Text(embeddings, self._backbone.logit_scale, lengths, has_words=self._backbone.has_text)
        images, known = torch.from_numpy(features), (torch.from_numpy(labelled), torch.from_numpy(labels))
        if several:
            return _Guess(*label_probabilities(images, *known, text))
        table = class_probabilities(images, *known, text)
        return None if table is None else _Guess(table)


@dataclasses.dataclass(frozen=True)
class _Guess:
    """What a classifier says of images that nobody has labelled.

    Args:
        table: Probabilities ``(N, C)``.
        presence: Where images have several labels: which of them an image has.
    """

    table: NDArray[np.floating]
    presence: Presence | None = None

    @property
    def unsure(self) -> NDArray[np.floating]:
        """How unsure it is of each image, from 0 to 1, ``(N,)``.

        By how little the most probable class is ahead of the next. Where images have several labels each class is one
        question, and it is the mean over them of ``1 - |2p - 1|``.
        """
        if self.presence is not None:
            doubtful: NDArray[np.floating] = (1 - np.abs(2 * self.table - 1)).mean(1)
            return doubtful
        ordered = np.sort(self.table, axis=1)
        lead: NDArray[np.floating] = ordered[:, -1] - ordered[:, -2]
        return 1 - lead

    def of(self, row: int, names: Sequence[str]) -> dict[str, Any]:
        """What a suggestion says of an image's classes."""
        order = np.argsort(-self.table[row], kind="stable").tolist()
        top = {"looks_like": names[order[0]], "probability": float(self.table[row, order[0]])}
        if self.presence is None:
            return top
        has = self.presence.present(self.table[row])
        labels = tuple(names[label] for label in order if has[label])
        return {**top, "labels": labels, "probabilities": dict(zip(names, self.table[row].tolist(), strict=True))}


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


@torch.no_grad()
def label_probabilities(
    images: Tensor, labelled: Tensor, labels: Tensor, text: Text
) -> tuple[NDArray[np.float64], Presence]:
    """What ``proker`` on images of several labels says of others, ``(N, C)``, and which labels images have.

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
