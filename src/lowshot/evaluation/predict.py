"""From images to probabilities, in batches: images are decoded and cropped while those before them are computed."""

from __future__ import annotations

import collections
import contextlib
import functools
import itertools
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..belonging import Belonging
from ..data.ahead import computed_ahead
from ..data.crops import central_crops
from ..data.images import rows_of
from ..data.task import Images, Part
from ..errors import ImageError, RunError
from ..progress import Track, silent
from ..several_labels import Presence
from ..training.embeddings import EmbeddingCache, tower_key
from ..training.kept_images import KeptImages
from ..training.learner import Learner
from .conformal import Sets

BATCH_SIZE = 256
"""Images per forward pass. The last bits of a probability depend on it, so it is the same everywhere. No limit that
suits a CPU cuts it: of ViT-B/16 it is 50,000 tokens, which makes products large enough for a GPU."""
SHARED_EMBEDDINGS = EmbeddingCache()
"""Embeddings by frozen vision towers that the learners of this process share.

Two learners share an embedding if their towers are the same function: the same weights and settings, in the same
precision, on the same kind of device.
"""
_CPU_THREADS, _MOST_THREADS = 2, 16
_Crop = TypeVar("_Crop")
_BATCHES_UNDER_WAY = 2  # on a CUDA device: more would pile up in pinned memory where it is slower than decoding


def probabilities(
    learner: Learner,
    images: Images,
    *,
    temperature: float = 1.0,
    presence: Presence | None = None,
    track: Track = silent,
    features: EmbeddingCache = SHARED_EMBEDDINGS,
) -> NDArray[np.float32]:
    """Softmax of the learner's scores, ``(N, C)``; where images have several labels the probability of each class.

    Args:
        learner: A fitted method.
        images: N images of any sizes, at least one; their central crops are judged. They are asked for from several
            threads at once.
        temperature: What the scores are divided by first.
        presence: Where images have several labels: what makes probabilities of scores.
        track: Shows progress.
        features: Where embeddings are kept that other learners can use.

    Raises:
        DataError: An image cannot be decoded.
        RunError: A probability is not finite.
    """
    return _table(learner, images, normalised(temperature, presence), track, features)


def normalised(temperature: float, presence: Presence | None) -> Callable[[Tensor], Tensor]:
    """The function from class scores ``(..., C)`` to probabilities ``(..., C)``.

    Args:
        temperature: What scores are divided by before a softmax.
        presence: Where images have several labels; then there is no softmax.
    """
    if presence is None:
        return lambda scores: torch.softmax(scores / temperature, dim=-1)
    offsets = torch.tensor(presence.offsets, dtype=torch.float32)
    return lambda scores: torch.sigmoid(presence.slope * scores + offsets.to(scores.device))


def class_scores(
    learner: Learner,
    images: Images,
    *,
    track: Track = silent,
    features: EmbeddingCache = SHARED_EMBEDDINGS,
) -> NDArray[np.float32]:
    """The learner's scores as they are, ``(N, C)``.

    Args and errors are those of ``probabilities``.
    """
    return _table(learner, images, lambda scores: scores, track, features)


@torch.no_grad()
def _table(
    learner: Learner,
    images: Images,
    rows_of_scores: Callable[[Tensor], Tensor],
    track: Track,
    features: EmbeddingCache,
) -> NDArray[np.float32]:
    """Normalised scores of all images, batch by batch."""
    embeddings = _embedded(learner, images, track, features)
    embeddings = embeddings.to(learner.backbone.device)  # cached ones all at once, not batch by batch
    parts = (embeddings[start : start + BATCH_SIZE] for start in range(0, len(embeddings), BATCH_SIZE))
    scores = [rows_of_scores(learner.logits_of(part).float()) for part in parts]
    return finite(torch.cat(scores))


def finite(rows: Tensor, what: str = "probabilities") -> NDArray[np.float32]:
    """The same in an array; ``what`` they are is told where they are refused.

    Raises:
        RunError: One is not finite.
    """
    table: NDArray[np.float32] = rows.cpu().numpy()
    if not np.isfinite(table).all():
        raise RunError(f"the classifier gives {what} that are not finite: its training has diverged")
    return table


class Judgement(NamedTuple):
    """The answer about one image."""

    probabilities: NDArray[np.float32]
    """``(C,)``."""
    p_value: float | None
    """That of belonging to one of the classes; None where it was not learnt to tell."""
    embedding: NDArray[np.float32]
    """By the vision tower with all that was learnt in it, ``(D,)``, of length 1."""
    members: NDArray[np.bool_] | None = None
    """Which classes are in its set, ``(C,)``; None where no sets were asked for."""


def judged_as_read(
    learner: Learner,
    images: Images,
    *,
    temperature: float = 1.0,
    presence: Presence | None = None,
    belonging: Belonging | None = None,
    sets: Sets | None = None,
) -> Generator[list[Judgement | ImageError], None, None]:
    """Yield what is said of any number of images, a batch at a time and nothing of it kept, as a list in their order.

    Each entry is of an image, or the error of one that cannot be decoded. Between two batches the learner is as it was.
    The probabilities are those of ``probabilities``, but for the last bits where an image of their batch cannot be
    decoded.

    Raises:
        RunError: As for ``probabilities``.
    """
    to_probabilities = normalised(temperature, presence)

    def crop_or_error(index: int) -> NDArray[Any] | ImageError:
        try:
            return _crop(images, learner, index)
        except ImageError as error:
            return error

    crops = _crops_ahead(learner, crop_or_error, len(images))
    # As for a table: merging takes time too, which a few images would not win back.
    is_merged = not learner.frozen_images and len(images) >= BATCH_SIZE
    with contextlib.closing(crops):
        while batch := list(itertools.islice(crops, BATCH_SIZE)):
            read = [crop for crop in batch if not isinstance(crop, ImageError)]
            with torch.no_grad(), learner.merged_for_inference() if is_merged else contextlib.nullcontext():
                rows = iter(_judgements(learner, read, to_probabilities, belonging, sets))
            yield [crop if isinstance(crop, ImageError) else next(rows) for crop in batch]


def _judgements(
    learner: Learner,
    crops: Sequence[NDArray[Any]],
    to_probabilities: Callable[[Tensor], Tensor],
    belonging: Belonging | None,
    sets: Sets | None,
) -> list[Judgement]:
    """Answers about the crops of a batch."""
    if not crops:
        return []
    embeddings = _encoded(learner, iter(crops), len(crops))
    table = finite(to_probabilities(learner.logits_of(embeddings).float()))
    places = finite(embeddings.float(), "embeddings")
    p_values: Iterable[float | None] = itertools.repeat(None)
    members: Iterable[NDArray[np.bool_] | None] = itertools.repeat(None)
    if belonging is not None:
        scores = finite(scores_of(belonging, learner, embeddings), "scores of belonging")
        p_values = belonging.held_out.p_values(scores).tolist()
    if sets is not None:
        members = sets.members(table, lambda: embeddings)
    return [Judgement(*each) for each in zip(table, p_values, places, members, strict=False)]


@torch.no_grad()
def belonging_scores(
    belonging: Belonging,
    learner: Learner,
    images: Images,
    *,
    track: Track = silent,
    features: EmbeddingCache = SHARED_EMBEDDINGS,
) -> NDArray[np.float32]:
    """Scores of belonging to one of a classifier's classes, ``(N,)``, by what was learnt with it.

    Args and errors are those of ``probabilities``.
    """
    embeddings = _embedded(learner, images, track, features)
    return finite(scores_of(belonging, learner, embeddings.to(learner.backbone.device)), "scores of belonging")


@torch.no_grad()
def scores_of(belonging: Belonging, learner: Learner, embeddings: Tensor) -> Tensor:
    """The scores of belonging ``(B,)`` of a classifier's embeddings of images ``(B, D)``."""
    return belonging.scores(embeddings, learner.prompt_cosines(embeddings))


@torch.no_grad()
def embeddings_of(
    learner: Learner,
    images: Images,
    *,
    track: Track = silent,
    features: EmbeddingCache = SHARED_EMBEDDINGS,
) -> NDArray[np.float32]:
    """Unit embeddings of images by the vision tower with all that was learnt in it, ``(N, D)``.

    Args and errors are those of ``probabilities``.
    """
    return finite(_embedded(learner, images, track, features).float(), "embeddings")


def _embedded(learner: Learner, images: Images, track: Track, features: EmbeddingCache) -> Tensor:
    if learner.frozen_images and isinstance(images, Part):
        return _embedded(learner, images.images, track, features)[list(images.indices)]
    if isinstance(images, KeptImages):
        known = images.shots.central if len(images.shots.central) else images.shots.features
        if not len(images.more):
            return known[0]
        return torch.cat([known[0], _embedded(learner, images.more, track, features)])
    if learner.frozen_images:
        key = tower_key(learner.backbone, learner.recipe.model)
        return features.get(key, images, lambda: _computed(learner, images, track)).values
    # Merging takes time too, which a few images would not win back.
    merged = learner.merged_for_inference() if len(images) >= BATCH_SIZE else contextlib.nullcontext()
    with merged:
        return _computed(learner, images, track)


def _computed(learner: Learner, images: Images, track: Track) -> Tensor:
    """Unit embeddings ``(N, D)``, on the learner's device.

    While a batch is computed, the crops of the next one are made on threads: there are two batches of crops at most,
    and no more photographs in full size than threads.
    """
    count = len(images)
    crops = _crops_ahead(learner, functools.partial(_crop, images, learner), count)
    starts = range(0, count, BATCH_SIZE)
    embeddings, under_way = [], _UnderWay(learner.backbone.device)
    with contextlib.closing(crops):
        for start in track(starts, what="evaluating", total=len(starts)):
            embeddings.append(_encoded(learner, crops, min(BATCH_SIZE, count - start)))
            under_way.add()
    return torch.cat(embeddings)


def _crops_ahead(learner: Learner, crop: Callable[[int], _Crop], count: int) -> Generator[_Crop, None, None]:
    """The crop of each of so many images in order, made on threads while the caller computes with those before."""
    threads = _CPU_THREADS  # few where torch computes on the same cores
    if learner.backbone.device.type != "cpu":
        threads = min(max(_CPU_THREADS, torch.get_num_threads()), _MOST_THREADS)
    return computed_ahead(crop, range(count), threads, ahead=BATCH_SIZE + 1)


def _encoded(learner: Learner, crops: Iterator[NDArray[Any]], count: int) -> Tensor:
    """Unit embeddings ``(B, D)`` of the next crops, on the learner's device."""
    device, side = learner.backbone.device, learner.backbone.image_size
    # A CUDA device copies by itself from memory that is pinned.
    batch = torch.empty(count, 3, side, side, pin_memory=device.type == "cuda")
    for row in batch:
        row.copy_(torch.from_numpy(next(crops)))
    return learner.backbone.encode_images(batch.to(device, non_blocking=device.type != "mps"))


def _crop(images: Images, learner: Learner, index: int) -> NDArray[Any]:
    """The central crop of an image where it is decoded, ``(3, S, S)``, float32 in [0, 1].

    A thread hands on what is left of a photograph, not all of it.
    """
    backbone = learner.backbone
    crop = central_crops([rows_of(images, index)], backbone.image_size, backbone.resizing)[0]
    # A copy: else as long as it waits it would hold on to all of the resized image, which may be a long panorama.
    pixels: NDArray[Any] = crop.contiguous().numpy()
    return pixels


class _UnderWay:
    """Batches that a CUDA device was given and has not finished; a CPU has finished when it returns."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._done: collections.deque[torch.cuda.Event] = collections.deque()

    def add(self) -> None:
        """Note that one more was given; wait for the oldest where there are too many."""
        if self._device.type != "cuda":
            return
        self._done.append(torch.cuda.Event())  # type: ignore[no-untyped-call]
        self._done[-1].record(torch.cuda.current_stream(self._device))
        if len(self._done) > _BATCHES_UNDER_WAY:
            self._done.popleft().synchronize()
