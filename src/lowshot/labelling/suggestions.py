"""Which image to label next: of those that nobody has labelled, the ones whose labels will teach most."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
)
from ..errors import DataError, InputError
from ..evaluation import embeddings_of
from ..models import is_photos_installed, load_backbone
from ..progress import Track, silent
from ..settings import Recipe
from ..threads import cpu_threads
from ..torch_state import own_torch_state
from ..training import Learner, create_learner
from .guesses import METHOD, METHOD_OF_SEVERAL, guess_of
from .naming import file_of
from .next_images import next_images

MOST_IMAGES = 5_000
"""Unlabelled images that are looked at: of more, so many are drawn. Memory and time grow with the square."""


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
        self._recipe = recipe
        several = recipe.data.has_several
        self._names = () if known is None else known.class_names
        self._labels = np.zeros((0, 0) if several else 0, dtype=np.int64) if known is None else known.examples.labels
        self._images = _images(unlabelled, warn)
        every = Examples(
            self._images, np.zeros(len(self._images), dtype=np.int64), tuple(map(str, range(len(self._images))))
        )
        free = np.asarray(good_images(every, ("image",), recipe.data.on_bad_image, warn), dtype=np.int64)
        if known is not None:
            labelled = {_real_file(known.examples.images, row) for row in range(len(known.examples))} - {None}
            free = free[[_real_file(self._images, int(row)) not in labelled for row in free]]
        if not len(free):
            raise DataError(f"all {len(every):,} images have labels already; there is none to suggest")
        if len(free) > MOST_IMAGES:
            chosen = np.random.default_rng(recipe.training.seed).permutation(len(free))[:MOST_IMAGES]
            warn.append(f"{MOST_IMAGES:,} of {len(free):,} images are looked at, drawn by the seed")
            free = free[np.sort(chosen)]
        self._rows: list[int] = free.tolist()
        with cpu_threads(recipe.engine.threads), bad_images_explained(recipe.data.on_bad_image):
            self._backbone = load_backbone(recipe.model.loaded, recipe.model.device)
            learner = create_learner(
                self._backbone, ((" ",),), recipe.replace(method=METHOD_OF_SEVERAL if several else METHOD)
            )
            self._features = _encoded(learner, every.subset(free).images, track)
            self._labelled = self._features[:0] if known is None else _encoded(learner, known.examples.images, track)

    @property
    def numbers(self) -> Mapping[str, int]:
        """The number of each image that is in a file, by the file's absolute path."""
        files = ((file_of(self._images, row), row) for row in range(len(self._images)))
        return {os.path.abspath(file): row for file, row in files if file is not None}  # noqa: PTH100 - links stay

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
        given = {row: (label,) if isinstance(label, str) else tuple(label) for row, label in (given or {}).items()}
        names = list(dict.fromkeys(itertools.chain(self._names, *given.values(), classes)))
        since = [place for place, row in enumerate(self._rows) if row in given]
        closed = {*given, *left_out}
        free = [place for place, row in enumerate(self._rows) if row not in closed]
        if not free:
            return []
        features, labelled = self._features[free], np.concatenate([self._labelled, self._features[since]])
        labels = self._labels_with([given[self._rows[place]] for place in since], names)
        with cpu_threads(self._recipe.engine.threads):
            guess = guess_of(self._backbone, self._recipe.data, names, features, labelled, labels)
        unsure = np.ones(len(features), dtype=np.float32) if guess is None else guess.unsure
        # Without names nobody knows how many classes there are: then all are typical.
        many = len(names) if names else len(features) + 1
        chosen = next_images(features, labelled, unsure, many, count, self._recipe.training.seed)
        return [
            Suggestion(
                image=str(file_of(self._images, row) or f"image {row}"),
                index=row,
                why="typical" if each.is_typical else "unsure",
                **({"looks_like": None, "probability": None} if guess is None else guess.of(each.row, names)),
            )
            for each in chosen
            for row in [self._rows[free[each.row]]]
        ]

    def _labels_with(self, given: Sequence[Sequence[str]], names: Sequence[str]) -> NDArray[np.int64]:
        """Those of the labelled images, then those given since: ``(L,)``, or ``(L, C)`` where images have several."""
        if not self._recipe.data.has_several:
            return np.concatenate([self._labels, np.asarray([names.index(name) for [name] in given], dtype=np.int64)])
        table = np.zeros((len(self._labels) + len(given), len(names)), dtype=np.int64)
        table[: len(self._labels), : self._labels.shape[1]] = self._labels
        for row, labels in enumerate(given, len(self._labels)):
            table[row, [names.index(name) for name in labels]] = 1
        return table


def suits_photos(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder's images are in formats of cameras and phones, and ``photos`` is installed to look at them.

    Raises:
        DataError: There is no such folder, or no image in it.
    """
    return is_photos_installed() and are_of_cameras([os.fspath(each) for each in images_below(Path(folder), [])])


def _encoded(learner: Learner, images: Images, track: Track) -> NDArray[np.float32]:
    """Unit embeddings ``(N, D)`` of central crops."""
    return embeddings_of(learner, images, track=track)


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


def _real_file(images: Images, row: int) -> Path | None:
    """An image's file, behind any links; None where it is in none."""
    file = file_of(images, row)
    return None if file is None else file.resolve()
