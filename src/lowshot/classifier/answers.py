"""Answers of a fitted classifier about images."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Generator, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..belonging import Belonging
from ..calibration import Calibration
from ..data import (
    Images,
    ImagesOnDemand,
    Label,
    as_pixels,
    images_in_order,
    positions,
)
from ..data.crops import central_crops
from ..errors import ImageError, InputError
from ..estimator import Estimator, not_fitted
from ..evaluation import (
    GuaranteedSets,
    HeldOutSets,
    Judgement,
    Sets,
    belonging_scores,
    embeddings_of,
    judged_as_read,
    normalised,
    prediction_sets,
    probabilities,
)
from ..explaining import Explanation, explain
from ..models import Backbone
from ..progress import Track
from ..records import RunRecord
from ..several_labels import Presence, members_named
from ..threads import cpu_threads, fork_notes
from ..torch_state import own_torch_state
from ..training import Learner


class Answers(Estimator):
    """A classifier as far as it answers: probabilities, sets of classes, images of none, embeddings, explanations.

    Args:
        given: The constructor's parameters by name, as for ``Estimator``.
    """

    classes_: NDArray[Any]
    record_: RunRecord

    def __init__(self, given: dict[str, Any]) -> None:
        super().__init__(given)
        self._warnings: list[str] = []
        self._fitted: tuple[Backbone, Learner] | None = None
        self._belonging: Belonging | None = None

    @property
    def is_fitted(self) -> bool:
        """Whether it can predict."""
        return self._fitted is not None

    def _ready(self) -> tuple[Backbone, Learner]:
        if self._fitted is None:
            raise not_fitted("this classifier is not fitted: call fit, or load one with from_pretrained")
        return self._fitted

    def _warn(self, lines: Sequence[str]) -> None:
        """Keep what a person should know, each thing once however often a folder is read."""
        new = [line for line in dict.fromkeys(lines) if line not in self._warnings]
        self._warnings += new
        if self._given["verbose"]:
            sys.stderr.writelines(f"{line}\n" for line in new)

    @property
    def warnings_(self) -> list[str]:
        """Notes on what was left out, cut short or not measured so far, one line each."""
        return self._warnings

    @own_torch_state()
    def predict_proba(self, images: Any, *, track: Track | None = None) -> NDArray[np.float32]:
        """Probabilities ``(N, C)``, columns in the order of ``classes_``; where images have several labels one of each.

        Args:
            images: N images in a container that has an order: paths, bytes of files, PIL images, arrays or tensors.
            track: Shows progress; else ``verbose`` decides.

        Raises:
            NotFittedError: ``fit`` has not been called.
            DataError: An image cannot be read; the message names it.
        """
        self._ready()
        return self._probabilities(ImagesOnDemand(images_in_order(images)), self._tracked(track))

    def predict(self, images: Any) -> Any:
        """The most probable class of each image, ``(N,)``: labels come back as ``fit`` was given them.

        Where images have several labels, a list of tuples: of each image its labels, the most probable first, or none.
        """
        table = self.predict_proba(images)
        if self.record_.has_several:
            return self.labels_of(table)
        labels: NDArray[Any] = self.classes_[table.argmax(1)]
        return labels

    @property
    def presence(self) -> Presence | None:
        """The rule that says which labels an image has, where it may have several; None where it has one.

        Raises:
            NotFittedError: ``fit`` has not been called.
        """
        self._ready()
        return Presence.from_dict(self.record_.presence, len(self.classes_)) if self.record_.has_several else None

    def labels_of(self, table: NDArray[np.float32]) -> list[tuple[Label, ...]]:
        """The labels of images whose probabilities ``(N, C)`` are known, where images have several.

        Args:
            table: What ``predict_proba`` gave.

        Raises:
            NotFittedError: ``fit`` has not been called.
            InputError: Images have one label.
        """
        presence = self.presence
        if presence is None:
            raise InputError("images of this classifier have one label each; predict gives it")
        return self._named(table, presence.present(table))

    @own_torch_state()
    def transform(self, images: Any, *, track: Track | None = None) -> NDArray[np.float32]:
        """Embeddings of images ``(N, D)``, each of length 1, by the vision tower with all that was learnt in it.

        A method on frozen features leaves the tower as it is: its embeddings are the backbone's own.

        Args:
            images: As for ``predict_proba``.
            track: Shows progress; else ``verbose`` decides.

        Raises:
            NotFittedError: ``fit`` has not been called.
            DataError: An image cannot be read; the message names it.
        """
        backbone, learner = self._ready()
        sequence = ImagesOnDemand(images_in_order(images))
        if not len(sequence):
            return np.empty((0, backbone.embedding_size), dtype=np.float32)
        self._warn(fork_notes())
        with cpu_threads(self.recipe.engine.threads):
            return embeddings_of(learner, sequence, track=self._tracked(track))

    def _probabilities(self, images: Images, track: Track, judge: Learner | None = None) -> NDArray[np.float32]:
        _, learner = self._ready()
        if not len(images):
            return np.empty((0, len(self.classes_)), dtype=np.float32)
        self._warn(fork_notes())
        with cpu_threads(self.recipe.engine.threads):
            temperature, presence = self.record_.temperature, self.presence
            return probabilities(judge or learner, images, temperature=temperature, presence=presence, track=track)

    def stream_proba(self, images: Any) -> Iterator[NDArray[np.float32] | ImageError]:
        """Probabilities ``(C,)`` of any number of images, one after the other, of which nothing is kept.

        An image that cannot be read has its error in its place, and the next ones follow. They come a batch at a time,
        each once it is computed, and are those of ``predict_proba`` but for rounding.

        Args:
            images: Images in a container that has an order: paths, bytes of files, PIL images, arrays or tensors.

        Raises:
            NotFittedError: ``fit`` has not been called.
        """
        judged = self.stream_judgements(images)
        return (entry if isinstance(entry, ImageError) else entry.probabilities for entry in judged)

    def stream_judgements(self, images: Any, sets: Sets | None = None) -> Iterator[Judgement | ImageError]:
        """As ``stream_proba``, but beside an image's ``probabilities`` there is its ``p_value``, as in ``p_values``.

        Args:
            images: As for ``stream_proba``.
            sets: What ``sets`` gave; then there are the ``members`` of each image's set too.

        Raises:
            NotFittedError: ``fit`` has not been called.
        """
        _, learner = self._ready()
        batches = judged_as_read(
            learner,
            ImagesOnDemand(images_in_order(images)),
            temperature=self.record_.temperature,
            presence=self.presence,
            belonging=self._belonging,
            sets=sets,
        )
        return self._streamed(batches)

    def _streamed(
        self, batches: Generator[list[Judgement | ImageError], None, None]
    ) -> Iterator[Judgement | ImageError]:
        """The entries of these batches; between two of them torch and its threads are the caller's."""
        with contextlib.closing(batches):
            while True:
                with own_torch_state(), cpu_threads(self.recipe.engine.threads):
                    batch = next(batches, None)
                if batch is None:
                    return
                yield from batch

    @own_torch_state()
    def explain(self, image: Any, label: Label | None = None) -> Explanation:
        """Which parts of an image spoke for a class; see ``explaining.explain`` for the rule.

        ```python
        picture_of(classifier.explain("a.jpg")).save("why.png")  # from lowshot.explaining import picture_of
        ```

        Args:
            image: As one of those of ``predict_proba``.
            label: The class that is asked about, as ``predict`` gives it; the most probable if not given.

        Raises:
            NotFittedError: ``fit`` has not been called.
            DataError: The image cannot be read, or there is no such class.
            InputError: The model's vision tower is of a kind that cannot be explained.
        """
        backbone, learner = self._ready()
        names = self.record_.classes
        class_name = None if label is None else names[positions([label], self.classes_.tolist(), names)[0]]
        crop = central_crops([as_pixels(image)], backbone.image_size, backbone.resizing)[0]
        with cpu_threads(self.recipe.engine.threads):
            temperature, presence = self.record_.temperature, self.presence
            each = None if presence is None else normalised(temperature, presence)
            return explain(backbone, crop, learner.logits_of, names, class_name, temperature=temperature, each=each)

    @property
    def calibration(self) -> Calibration:
        """The calibration by held-out shots: a temperature, and the scores that sets are made with.

        Raises:
            NotFittedError: ``fit`` has not been called.
            InputError: It was fitted without ``calibration_folds``.
        """
        self._ready()
        self.record_.refuse_several(
            "a set of classes", "predict gives all labels of an image, and evaluate judges them"
        )
        if not self.record_.calibration:
            raise InputError(
                "this classifier is not calibrated: it has no held-out scores to make sets of classes with; "
                "fit it with --calibration-folds 5, or calibration_folds=5 from Python"
            )
        return Calibration.from_dict(self.record_.calibration)

    @property
    def belonging(self) -> Belonging:
        """The rule that tells images of the classes from images of none: see ``lowshot.belonging``.

        Raises:
            NotFittedError: ``fit`` has not been called.
            InputError: It was fitted without ``reject``.
        """
        self._ready()
        self.record_.refuse_several("reject", "an image of none of the classes has no label, which predict says")
        if self._belonging is None:
            raise InputError(
                "this classifier has not learnt to tell images of none of its classes; fit it with --reject 0.05, or "
                "reject=0.05 from Python"
            )
        return self._belonging

    @property
    def tells_none(self) -> bool:
        """Whether it was fitted with ``reject``, so that it can tell images of none of its classes."""
        self._ready()
        return self._belonging is not None

    @own_torch_state()
    def p_values(self, images: Any, *, track: Track | None = None) -> NDArray[np.float64]:
        """How well each image fits in among those of the classes, ``(N,)``: the conformal p-value of belonging.

        It is the share of held-out images that fit in no better, itself counted in: above 0, at most 1.

        Args:
            images: As for ``predict_proba``.
            track: Shows progress; else ``verbose`` decides.

        Raises:
            NotFittedError: ``fit`` has not been called.
            InputError: It was fitted without ``reject``.
            DataError: An image cannot be read; the message names it.
        """
        held_out = self.belonging.held_out
        return held_out.p_values(self._belonging_scores(ImagesOnDemand(images_in_order(images)), self._tracked(track)))

    def none_of_these(self, images: Any, *, track: Track | None = None) -> NDArray[np.bool_]:
        """Whether each image is of none of the classes, ``(N,)``: of known images the share ``reject`` is, too.

        Args and errors are those of ``p_values``.
        """
        held_out = self.belonging.held_out
        return np.array([held_out.none_of_these(each) for each in self.p_values(images, track=track)], dtype=np.bool_)

    def _belonging_scores(self, images: Images, track: Track) -> NDArray[np.float32]:
        _, learner = self._ready()
        if not len(images):
            return np.empty(0, dtype=np.float32)
        self._warn(fork_notes())
        with cpu_threads(self.recipe.engine.threads):
            return belonging_scores(self.belonging, learner, images, track=track)

    def sets(self, coverage: float, *, guaranteed: bool = False) -> Sets:
        """The rule by which ``predict_sets`` makes sets of classes.

        Args:
            coverage: As for ``predict_sets``.
            guaranteed: As for ``predict_sets``.

        Raises:
            NotFittedError: ``fit`` has not been called.
            InputError: It was learnt in a way, or from so few images, that there are no such sets.
        """
        self._ready()
        self.record_.refuse_several(
            "a set of classes", "predict gives all labels of an image, and evaluate judges them"
        )
        if not guaranteed:
            return HeldOutSets(self.calibration.threshold(coverage))
        conformal = self._ready()[1].full_conformal()
        return GuaranteedSets(conformal.p_values, conformal.counts, coverage)

    @own_torch_state()
    def predict_sets(
        self, images: Any, coverage: float, *, guaranteed: bool = False, track: Track | None = None
    ) -> list[tuple[Label, ...]]:
        """For each image the classes it may be of, most probable first: conformal prediction sets, never empty.

        Args:
            images: N images in a container that has an order: paths, bytes of files, PIL images, arrays or tensors.
            coverage: Share of images whose set is to hold their true class, such as 0.9. What is guaranteed, and for
                which images: ``lowshot.evaluation.conformal``.
            guaranteed: Make the sets by full conformal prediction, so that the share is guaranteed for the images of
                every class. Of heads on frozen features; see ``lowshot.heads.full_conformal``.
            track: Shows progress; else ``verbose`` decides.

        Raises:
            NotFittedError: ``fit`` has not been called.
            InputError: It was fitted without ``calibration_folds``, or on too few images for this coverage; or nothing
                can be ``guaranteed``.
            DataError: An image cannot be read; the message names it.
        """
        sets = self.sets(coverage, guaranteed=guaranteed)  # refused before anything is computed
        sequence, track = ImagesOnDemand(images_in_order(images)), self._tracked(track)
        table = self._probabilities(sequence, track)
        return self._named(table, self._members(sets, table, sequence, track)) if len(table) else []

    def _members(self, sets: Sets, table: NDArray[np.float32], images: Images, track: Track) -> NDArray[np.bool_]:
        """The sets of images whose probabilities ``(N, C)`` are known."""
        _, learner = self._ready()
        with cpu_threads(self.recipe.engine.threads):
            return sets.members(table, lambda: torch.from_numpy(embeddings_of(learner, images, track=track)))

    def sets_of(self, table: NDArray[np.float32], largest: float) -> list[tuple[Label, ...]]:
        """The sets of images whose probabilities ``(N, C)`` are known.

        Args:
            table: What ``predict_proba`` gave.
            largest: What ``calibration.threshold`` gave for a coverage.
        """
        return self._named(table, prediction_sets(table, largest))

    def _named(self, table: NDArray[np.float32], members: NDArray[np.bool_]) -> list[tuple[Label, ...]]:
        """The labels of the members ``(N, C)`` of sets, the most probable first."""
        labels: list[Label] = self.classes_.tolist()
        return [members_named(labels, row, inside) for row, inside in zip(table, members, strict=True)]
