"""How a classifier learns: from shots, from more of them, and with classes more or fewer."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..data import Examples, addition_from, bad_images_explained, learnt_part
from ..errors import InputError, RunError
from ..evaluation import fold_checkpoints
from ..fitting import (
    Fitted,
    Lesson,
    choice_file,
    default_model,
    fewer,
    fit_lesson,
    left_without,
    lesson_of,
    renamed,
    set_on_top,
    taught,
    taught_again,
    with_more,
    without,
)
from ..methods import AUTO, method_spec
from ..models import Backbone, load_backbone
from ..progress import UNREPORTED, Report, Reports, Track
from ..records import RunRecord
from ..threads import cpu_threads, fork_notes
from ..torch_state import own_torch_state
from ..tracking import Tracking, refuse_missing_tracker
from ..training import Learner
from ..training.processes import is_first_process
from .judging import Data, Judged

if TYPE_CHECKING:
    from typing_extensions import Self


class Learning(Judged):
    """A classifier as far as it learns.

    Args:
        given: The constructor's parameters by name, as for ``Estimator``.
    """

    def __init__(self, given: dict[str, Any]) -> None:
        super().__init__(given)
        self._added: Examples | None = None

    @own_torch_state()
    def fit(
        self,
        data: Any,
        labels: Any = None,
        *,
        shots: int | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        track: Track | None = None,
        report: Report = UNREPORTED,
    ) -> Self:
        """Learn from a few images per class.

        Args:
            data: A built-in task's name, a folder of images, ``{"train": FOLDER, "test": FOLDER}``, a task, or images
                as for ``predict_proba``; or a table with a column of images and one of labels (of pandas, polars,
                pyarrow or ``datasets``, rows as dictionaries, a dictionary of columns), or one for each split.
            labels: The class of each image, where ``data`` is images: texts, numbers or truth values, which ``predict``
                gives back. A ``ClassLabel`` column of the ``datasets`` package names its classes. With
                ``labels_per_image="several"`` a list of labels for each image, or a table ``(N, C)`` of 0 and 1.
            shots: Images per class, drawn by the recipe's seed, for this fit; else the recipe's, else all of them.
            checkpoint: File that the state of training is kept in, every ``checkpoint_seconds`` and at the end. If it
                exists, training goes on from it, to the very same classifier. The folds of a calibration keep theirs
                beside it. Remove them once the classifier is saved (``training_states`` names them).
            track: Shows progress; else ``verbose`` decides.
            report: Is told of every step: its loss, learning rate and time. The folds of a calibration are not told.

        Raises:
            InputError: The data or the settings cannot be used, or the checkpoint is of another run.
            RunError: Training failed. Where the loss stopped being a number the classifier has the last good weights,
                and its record says so (``stopped``); where that was in a fold of the calibration it is not fitted.
        """
        recipe = self.recipe if shots is None else self.recipe.replace(shots=shots)
        refuse_missing_tracker(recipe.engine.report_to)
        self._warn(fork_notes())
        explained = bad_images_explained(recipe.data.on_bad_image)  # by commands that no list in memory has
        with cpu_threads(recipe.engine.threads), explained if labels is None else contextlib.nullcontext():
            whole, load = self.task(data, labels), self._load_backbone or load_backbone
            lesson = lesson_of(whole, self._others(whole, recipe.data), recipe, self._warn, load)
            self._fitted = None  # if training fails, nothing half-learnt must answer
            fitted = fit_lesson(
                lesson,
                watched=functools.partial(self._watched, report=report),
                warn=self._warn,
                track=self._tracked(track),
                checkpoint=None if checkpoint is None else Path(checkpoint),
            )
            self._learnt(fitted)
        if self.record_.stopped:
            raise RunError(self.record_.stopped)
        return self

    def _learnt(self, fitted: Fitted) -> None:
        """Answer with what was learnt from now on."""
        self._warn(fitted.notes)
        self._answer_with(fitted.learner, fitted.record)
        self._belonging = fitted.belonging
        self._tracking.learnt(self.record_)
        self._warn(self._tracking.warnings)

    def _answer_with(self, learner: Learner, record: RunRecord) -> None:
        self.classes_ = np.asarray(record.labels or record.classes)
        self.record_ = record
        self._fitted = learner.backbone, learner

    @own_torch_state()
    def add(
        self,
        data: Any,
        labels: Any = None,
        *,
        shots: int | None = None,
        old: Any = None,
        refit: Any = None,
        checkpoint: str | os.PathLike[str] | None = None,
        track: Track | None = None,
        report: Report = UNREPORTED,
    ) -> Self:
        """Learn classes more, or more images of the known ones.

        A method on frozen features comes to what fitting all shots together would learn: it has kept the embeddings of
        its shots and needs the new images alone. Towers that were adapted stay as they are and get a row for each new
        class on top (``lowshot.fitting.class_rows``); the record's ``on_top`` says what held-out images told. With
        ``refit`` all is taught anew.

        Where images have several labels, a new image has all that it shows, of old and new classes. Those learnt from
        before show no new class, but for those that are among the new images too: they get the labels that are new.

        New classes stand behind the others. A calibration is made anew where there are images for it; measures are
        dropped until ``evaluate`` is called. If it fails the classifier is as it was.

        Args:
            data: A folder of images, which is a class by its name; a folder of such folders; or as for ``fit``.
            labels: The class of each image, where ``data`` is images.
            shots: Images per class, drawn by the recipe's seed; else the recipe's, else all of them.
            old: As for ``fit``: images of the classes that there are, for classes on top of adapted towers. Those of
                its training and validation splits that were not learnt from tell how well these are still recognised.
            refit: What was learnt from, as for ``fit``: the images that the record names are learnt anew.
            checkpoint: As for ``fit``, where all is learnt anew.
            track: Shows progress; else ``verbose`` decides.
            report: Is told of every step.

        Raises:
            NotFittedError: ``fit`` has not been called.
            InputError: The data cannot be used, nothing in it is new, or all must be taught anew.
            RunError: Training failed.
        """
        track, config = self._tracked(track), self._ready()[1].recipe.data
        with cpu_threads(self.recipe.engine.threads), bad_images_explained(config.on_bad_image):
            warnings, many = list[str](), config.shots if shots is None else shots
            try:
                addition = addition_from(data, labels, config.on_bad_image, warnings, config.root, config.several)
            finally:
                self._warn(warnings)
            if refit is None and self._has_towers:
                self.record_.refuse_several(
                    "add on top of adapted towers", "--refit DATA (refit=DATA) teaches all anew"
                )
                known = None if old is None else self.task(old)
                fitted, self._added = set_on_top(
                    self.record_, self._ready()[1], addition, known, many, self._warn, track
                )
                return self._changed(fitted)
            if old is not None:
                raise InputError(
                    "old is of classes on top of adapted towers, and here all shots are learnt from together; leave it "
                    "out"
                )
            lesson = self._taught(refit, track, supplied=addition.class_names)
            longer = with_more(lesson, addition, many, self._warn, track, anew=bool(self.record_.on_top))
            self._retaught(longer, track, report, checkpoint)
            self._added = longer.examples.subset(range(len(lesson.examples), len(longer.examples)))
            return self

    @property
    def _has_towers(self) -> bool:
        """Whether it has trained the towers, or what is at their inputs."""
        return method_spec(self._ready()[1].recipe.method.method).kind in ("weights", "prompts")

    def added_images(self) -> Iterator[tuple[Any, str]]:
        """Yield the images that ``add`` has last learnt from, each with the name of its class, one at a time.

        One of several labels comes once for each of them.
        """
        if self._added is not None:
            shown = self._added.of_several(len(self.record_.classes)).labels
            for row, label in np.argwhere(shown).tolist():
                yield self._added.images[row], self.record_.classes[label]

    @own_torch_state()
    def remove(self, *classes: str, refit: Any = None, track: Track | None = None, report: Report = UNREPORTED) -> Self:
        """Forget classes and their shots.

        A method on frozen features is fitted to the shots that are left. Towers that were adapted stay as they are and
        judge the prompts that are left, without a calibration, unless ``refit`` has them taught anew. Where images have
        several labels each class is judged by itself: then the others' probabilities stay as they are.

        Args:
            *classes: Names of classes.
            refit: As for ``add``.
            track: As for ``add``.
            report: As for ``add``.

        Raises:
            NotFittedError: ``fit`` has not been called.
            UnknownNameError: There is no such class.
            InputError: Fewer than two classes are left, or all must be taught anew.
        """
        _, learner = self._ready()
        record, track = self.record_, self._tracked(track)
        left = left_without(record.classes, classes)
        spec = method_spec(learner.recipe.method.method)
        has_shots = spec.kind == "features" and (spec.learns or not record.has_several)
        has_rows = spec.has_classifier or not learner.backbone.has_text  # of classes, which no prompts give
        with cpu_threads(self.recipe.engine.threads):
            if refit is None and (record.on_top or not (has_shots or has_rows)):
                return self._changed(fewer(record, learner, left))
            return self._retaught(without(self._taught(refit, track, supplied=classes), left), track, report)

    def rename(self, old: str, new: str) -> Self:
        """Call a class by another name. Its prompts stay, and so do all probabilities, the calibration and measures.

        Raises:
            NotFittedError: ``fit`` has not been called.
            UnknownNameError: There is no class of the old name.
            InputError: The new name cannot be one, or is another class's.
        """
        _, learner = self._ready()
        self._answer_with(learner, renamed(self.record_, old, new))
        return self

    def _taught(self, refit: Any, track: Track, supplied: Sequence[str] = ()) -> Lesson:
        """The lesson that was taught: by what is kept of its shots, or by the images themselves."""
        backbone, learner = self._ready()
        recipe, load = learner.recipe, self._load_backbone or load_backbone
        if refit is not None:
            whole = learnt_part(self.task(refit), recipe.data)
            return taught_again(self.record_, recipe, whole, track, load, supplied=supplied)

        def as_learnt(model: str, device: str) -> Backbone:
            if recipe.model.quantize == "none":  # one frozen tower serves any number of heads
                return backbone
            again = load(model, device)  # weights are quantised once
            again.resize_as(self.record_.resizing)
            return again

        return taught(self.record_, recipe, learner.kept, as_learnt)

    def _retaught(
        self, lesson: Lesson, track: Track, report: Report, checkpoint: str | os.PathLike[str] | None = None
    ) -> Self:
        """Learn a lesson in place of the one before."""
        fitted = fit_lesson(
            lesson,
            watched=functools.partial(self._watched, report=report),
            warn=self._warn,
            track=track,
            checkpoint=None if checkpoint is None else Path(checkpoint),
        )
        if fitted.record.stopped:
            raise RunError(fitted.record.stopped)
        self._learnt(fitted)
        return self

    def _changed(self, fitted: Fitted) -> Self:
        """Answer with what nothing was trained for."""
        self._warn(fitted.notes)
        self._answer_with(fitted.learner, fitted.record)
        self._belonging = None
        return self

    @contextlib.contextmanager
    def _watched(self, learner: Learner, lesson: Lesson, report: Report) -> Iterator[Report]:
        """The training of this learner as a run in the recipe's tracker, which stays open to be judged."""
        self._tracking.close()
        facts = {"images": len(lesson.examples), "classes": len(lesson.task.class_names)}
        recipe = learner.recipe if is_first_process() else learner.recipe.replace(report_to="none")
        self._tracking = Tracking.of(recipe, task=lesson.task.name, shots=lesson.draw.shots, **facts)
        try:
            yield Reports(self._tracking, report)
        except BaseException:
            self._tracking.close(failed=True)
            self._warn(self._tracking.warnings)
            raise

    @own_torch_state()
    def default_model(self, data: Data) -> str:
        """The model that ``lowshot fit`` takes for data where none is named: ``builtin``, or ``photos``.

        It is ``photos`` where its package is installed, nothing is asked for that needs class names, most of the shots'
        files are in a format that cameras and phones write, and the built-in model recognises no more of them by
        their classes' names than guessing would.

        Args:
            data: What ``fit`` will be given.

        Raises:
            InputError: The data or the settings cannot be used.
        """
        with cpu_threads(self.recipe.engine.threads), bad_images_explained(self.recipe.data.on_bad_image):
            load = self._load_backbone or load_backbone
            return default_model(lesson_of(self.task(data), {}, self.recipe, lambda _: None, load))

    def training_states(self, checkpoint: Path) -> list[Path]:
        """The files that ``fit`` with this checkpoint keeps a choice and states in: the folds', then the run's."""
        choices = [choice_file(checkpoint)] if self.recipe.method.method == AUTO else []
        return [*choices, *fold_checkpoints(checkpoint, self.recipe.training.calibration_folds), checkpoint]

    def fit_transform(self, images: Any, labels: Any = None) -> NDArray[np.float32]:
        """Learn from images, and give their embeddings ``(N, D)``: a step of scikit-learn's pipelines."""
        return self.fit(images, labels).transform(images)
