"""How good a fitted classifier is, on images that it has not learnt from."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..data import (
    Images,
    ImagesOnDemand,
    Task,
    bad_images_explained,
    columns_of,
    images_in_order,
    is_table,
    is_tables,
    label_sets_in_order,
    learnt_part,
    other_tasks,
    positions,
    table_of_labels,
    task_from,
)
from ..errors import DataError, InputError
from ..evaluation import (
    Sets,
    accepted_share,
    as_taught,
    learners_for,
    left_to_judge,
    measures,
    roc_area,
    set_measures,
    several_measures,
    with_others,
)
from ..fitting import (
    LoadBackbone,
    kept_decoded,
    shortfalls,
)
from ..models import load_backbone
from ..progress import Track
from ..settings import DataConfig
from ..several_labels import average_precisions, mean_of_known
from ..torch_state import own_torch_state
from ..tracking import Tracking
from ..training import Learner
from .answers import Answers

Data: TypeAlias = Any
"""A built-in task's name, a folder of images, a folder for each split (``train``, ``validation``, ``test``), a task, a
table in memory, or one for each split."""


class Judged(Answers):
    """A classifier as far as it reads data and is judged on them.

    Args:
        given: The constructor's parameters by name, as for ``Estimator``.
    """

    def __init__(self, given: dict[str, Any]) -> None:
        super().__init__(given)
        self._tracking = Tracking()
        self._load_backbone: LoadBackbone | None = None

    def task(self, data: Any, labels: Any = None) -> Task:
        """The task that ``fit`` makes of its arguments: read a folder once, then fit and evaluate on the task.

        Raises:
            DataError: It cannot be used.
        """
        config, warnings = self.recipe.data, list[str]()
        self.recipe.refuse_unable()
        try:
            task = task_from(data, labels, config.on_bad_image, warnings, config.root, config.several)
        finally:  # what was left out may be why it cannot be used
            self._warn(warnings)
        # Tasks and images in memory are their caller's, as they are.
        return self._decoded_once(task) if isinstance(data, str | os.PathLike | Mapping) else task

    def _decoded_once(self, task: Task) -> Task:
        """The same task: no file that is learnt from, or looked at to judge it, is decoded for both."""
        return dataclasses.replace(task, train=kept_decoded(task.train, self.recipe))

    def _others(self, whole: Task, config: DataConfig) -> dict[str, Task]:
        """The tasks that the protocol judges besides the learnt classes; see ``other_tasks``."""
        warnings: list[str] = []
        others = other_tasks(whole, config, warnings)
        self._warn(warnings)
        return others

    @own_torch_state()
    def evaluate(
        self,
        data: Data,
        *,
        new_classes: bool = False,
        coverage: float | None = None,
        guaranteed: bool = False,
        unknown: Any = None,
        track: Track | None = None,
    ) -> dict[str, Any]:
        """Measures on images that were not learnt from, with the number of ``images``, ``classes`` and their ``split``.

        They are fractions and plain numbers: ``acc1`` and its interval, ``mean_class_recall``, ``ece``, ``nll`` and the
        others of ``lowshot.evaluation.measures``. The record keeps them, and so does the adapter that is saved next.
        Under another protocol than ``few-shot`` they are those of the learnt classes, and ``others`` has the same of
        each other label space by name: ``new`` with the ``harmonic_mean`` of both accuracies, or the targets with the
        ``mean_of_others``.

        Args:
            data: A task, or the name or folder of one, with the classes that were taught.
            new_classes: Judge ``data`` in its own classes instead, whichever they are, by prompts of their names, and
                leave the record as it is. Files of class names and descriptions are for the classes that were taught.
            coverage: If given, sets of classes are judged too: ``sets`` has the ``coverage`` asked for, the share of
                images ``covered``, whose set holds their true class, the share ``least_covered`` of the class that
                least are of, and the ``mean_set_size``.
            guaranteed: Judge sets with a guarantee, as ``predict_sets`` makes them; ``sets`` then says ``guaranteed``.
            unknown: Images of none of the classes, as for ``predict_proba``. If given, ``unknown`` has their number of
                ``images``, ``auroc`` of telling them from those judged, the share ``accepted_at_95``, which is not told
                where 95 % of those judged are kept, the shares that are ``turned_away`` and ``known_turned_away``
                at ``reject``; and ``auroc_of_probability``, what the top probability has for an area.
            track: Shows progress; else ``verbose`` decides.

        Raises:
            DataError: The classes differ, or no image is left to judge.
            InputError: Sets are asked for that this classifier cannot make; see ``predict_sets``. Or ``unknown`` is
                given, and it was fitted without ``reject``.
        """
        track = self._tracked(track)
        strangers = None if unknown is None else self._strangers(unknown, new_classes)
        sets = self._sets(coverage, guaranteed, new_classes)
        _, learner = self._ready()
        config, whole = learner.recipe.data, self.task(data)
        if new_classes:
            self.record_.refuse_several("new-classes", "how probable a label must be is known of its own classes alone")
            config = dataclasses.replace(config, class_names=None, descriptions=None)
            [judge] = learners_for(learner, whole, {whole.name: whole}, config).values()
            return self._judged(judge, whole, track)
        task, others = as_taught(learnt_part(whole, config), self.record_.classes), self._others(whole, config)
        learners = learners_for(learner, task, others, config)
        started = time.perf_counter()
        try:
            of_learnt = self._judged(learner, task, track, sets, strangers)
            if coverage is not None:
                asked = {"coverage": coverage, **({"guaranteed": True} if guaranteed else {})}
                of_learnt["sets"] = {**asked, **of_learnt["sets"]}
            seconds = time.perf_counter() - started
            # Stays, if one of the others cannot be judged.
            self.record_ = dataclasses.replace(self.record_, metrics=of_learnt, evaluation_seconds=seconds)
            figures = {name: self._judged(other, others[name], track) for name, other in learners.items()}
            metrics = with_others(of_learnt, figures, config.protocol)
            self.record_ = dataclasses.replace(self.record_, metrics=metrics)
        finally:
            self._tracking.judged(self.record_)
            self._warn(self._tracking.warnings)
        return metrics

    def _sets(self, coverage: float | None, guaranteed: bool, new_classes: bool) -> Sets | None:
        """The rule of the sets that are judged; say that there are none such before anything is computed."""
        if coverage is None:
            if guaranteed:
                raise InputError("guaranteed is said of sets of classes; say which share they are to cover: coverage")
            return None
        if new_classes:
            raise InputError("coverage is that of the classes that were taught; leave it out, or leave out new-classes")
        return self.sets(coverage, guaranteed=guaranteed)

    def _strangers(self, unknown: Any, new_classes: bool) -> Images:
        """Images of none of the classes; say that nothing tells them before anything is computed."""
        if new_classes:
            raise InputError("unknown images are those of no class that was taught; leave it out, or new-classes")
        self.belonging  # noqa: B018 - refuses
        strangers = ImagesOnDemand(images_in_order(unknown))
        if not len(strangers):
            raise DataError("there are no unknown images to judge")
        return strangers

    def _told_apart(self, known: Images, table: NDArray[np.float32], strangers: Images, track: Track) -> dict[str, Any]:
        """How well images of none of the classes are told from known ones, whose probabilities are ``(N, C)``."""
        held_out = self.belonging.held_out
        own, others = (self._belonging_scores(images, track) for images in (known, strangers))
        sure = self._probabilities(strangers, track).max(1)
        away, known_away = (
            float(np.mean([held_out.none_of_these(each) for each in held_out.p_values(scores)]))
            for scores in (others, own)
        )
        return {
            "images": len(strangers),
            "auroc": roc_area(own, others),
            "accepted_at_95": accepted_share(own, others),
            "turned_away": away,
            "known_turned_away": known_away,
            "reject": held_out.reject,
            "auroc_of_probability": roc_area(table.max(1), sure),
        }

    def _judged(
        self,
        judge: Learner,
        task: Task,
        track: Track,
        sets: Sets | None = None,
        strangers: Images | None = None,
    ) -> dict[str, Any]:
        """Measures of a learner in the label space of a task: whatever is judged is judged here."""
        with bad_images_explained(self.recipe.data.on_bad_image):
            split, examples = left_to_judge(self._decoded_once(task), self.record_, track)
            table = self._probabilities(examples.images, track, judge)
        counts = {"images": len(examples), "classes": len(task.class_names)}
        if presence := self.presence:
            return {**several_measures(table, examples.labels, presence.present(table)), **counts, "split": split}
        metrics = {**measures(table, examples.labels), **counts, "split": split}
        if sets is not None:
            with bad_images_explained(self.recipe.data.on_bad_image):
                members = self._members(sets, table, examples.images, track)
            metrics["sets"] = set_measures(members, examples.labels)
        if strangers is not None:
            with bad_images_explained(self.recipe.data.on_bad_image):
                metrics["unknown"] = self._told_apart(examples.images, table, strangers, track)
        return metrics

    @own_torch_state()
    def shortfalls(self, data: Data) -> list[str]:
        """Faults of the accuracy and the probabilities that ``evaluate`` has measured, one line each.

        The accuracy is compared with those of the class names alone (zero-shot) and of logistic regression on 32 x 32
        pixels, where judging took some seconds at most. Only what lies outside its 95 % interval is told.

        Args:
            data: What ``evaluate`` was given.

        Raises:
            InputError: ``evaluate`` was not called yet.
            DataError: An image cannot be read.
        """
        _, learner = self._ready()
        task = as_taught(learnt_part(self.task(data), learner.recipe.data), self.record_.classes)
        return shortfalls(learner, self.record_, task, self._load_backbone or load_backbone)

    def score(self, data: Any, labels: Any = None) -> float:
        """Accuracy as a fraction, on a task or folder (see ``evaluate``) or on images with their labels.

        Where images have several labels it is the mean average precision.
        """
        if labels is None and is_table(data) and not is_tables(data):
            data, labels = columns_of(data)
        if self.is_fitted and self.record_.has_several:
            return float(self.evaluate(data)["map"]) if labels is None else self._mean_average_precision(data, labels)
        if labels is None:
            if not isinstance(data, str | os.PathLike | Mapping | Task):
                raise DataError("a list of images needs labels: score(images, labels)")
            return float(self.evaluate(data)["acc1"])
        self._ready()
        truth = positions(labels, self.classes_.tolist(), self.record_.classes)
        best = self.predict_proba(data).argmax(1)
        if len(best) != len(truth):
            raise DataError(f"{len(best)} images have {len(truth)} labels; expected one for each")
        if not len(truth):
            raise DataError("there are no images to score")
        return float(np.mean(best == truth))

    def _mean_average_precision(self, images: Any, labels: Any) -> float:
        """The mean average precision on images, each with its labels."""
        sets, _ = label_sets_in_order(labels, self.recipe.data.label_delimiter)
        sequence = images_in_order(images)
        if len(sequence) != len(sets):
            raise DataError(f"{len(sequence)} images have {len(sets)} labels; expected labels for each")
        known = self.classes_.tolist(), self.record_.classes
        numbers = [positions(each, *known).tolist() if each else [] for each in sets]
        shown, table = table_of_labels(numbers, len(self.classes_)), self.predict_proba(sequence)
        if not len(shown):
            raise DataError("there are no images to score")
        return float(mean_of_known(average_precisions(table, shown)))
