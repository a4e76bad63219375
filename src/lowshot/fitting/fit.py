"""From a lesson to what was learnt, and the record of it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..belonging import Belonging
from ..data import examine
from ..errors import DataError
from ..evaluation import calibrated, fold_of_each, learners_for, left_out_scores
from ..methods import AUTO, method_spec
from ..progress import Report, Track
from ..records import RunRecord, provenance
from ..several_labels import dealt
from ..training import Learner, TrainingOutcome
from .auto import choice_file, choose
from .belonging import learnt_belonging, refuse_reject
from .foreign import foreign_notes
from .held_out import HeldOut, hold_out
from .lesson import Lesson
from .presence import learnt_presence

Watched: TypeAlias = Callable[[Learner, Lesson], contextlib.AbstractContextManager[Report]]
"""Around the training of a learner: what is told of every step."""


@dataclasses.dataclass(frozen=True)
class Fitted:
    """A trained learner, its record and notes."""

    learner: Learner
    record: RunRecord
    notes: tuple[str, ...]
    """Lines that a person should read."""
    belonging: Belonging | None = None
    """The rule that tells images of none of the classes, where the recipe asks for it."""


def fit_lesson(
    lesson: Lesson,
    *,
    watched: Watched,
    warn: Callable[[Sequence[str]], None],
    track: Track,
    checkpoint: Path | None = None,
) -> Fitted:
    """Choose where the recipe leaves that open, calibrate where it asks for it or the choice has, train, and record it.

    Args:
        lesson: What is to be learnt.
        watched: Around the training; the folds of a calibration are not watched.
        warn: Is told early of images that mean nothing to the model, or on which nothing can be calibrated.
        track: Shows progress.
        checkpoint: File for the state of training.

    Raises:
        InputError: The settings do not fit the backbone, or the checkpoint is of another run.
        DataError: An image cannot be read, or none held out.
        RunError: The training of a fold diverged.
    """
    choice: Mapping[str, Any] = {}
    held_out = HeldOut()
    contents = lesson.contents
    refuse_reject(lesson)
    if lesson.recipe.method.method == AUTO:
        if lesson.recipe.training.calibration_folds:
            # Refused now, not after a choice; warnings will come once more.
            folds_of(lesson, lesson.recipe.training.calibration_folds, lambda lines: None)  # noqa: ARG005
        contents, damaged = examine(lesson.examples, track)  # an image that cannot be read is found now
        warn(damaged)
        file = None if checkpoint is None else choice_file(checkpoint)
        lesson, choice, held_out = choose(lesson, track=track, contents=contents, file=file)
    learner = lesson.untrained()
    learners_for(learner, lesson.task, lesson.others, lesson.recipe.data)  # refused now, not after training
    folds, learns = learner.recipe.training.calibration_folds, method_spec(learner.recipe.method.method).learns
    fold_of = folds_of(lesson, folds, warn) if folds and learns else None
    if (folds or learns or lesson.recipe.training.reject) and not contents:
        contents, damaged = examine(lesson.examples, track)
        warn(damaged)
    if not lesson.contents:  # else it was said when they were learnt
        warn(foreign_notes(lesson))
    if folds and not held_out.is_told and not learner.is_computed and (learns or not lesson.examples.has_several):
        del learner  # the folds need its memory
        _, _, held_out = hold_out(lesson, fold_of, track=track, checkpoint=checkpoint, contents=contents)
        learner = lesson.untrained()
    with watched(learner, lesson) as report:
        outcome = learner.fit(lesson.examples, lesson.draw.shots, track, checkpoint, contents, report)
    held_out, belonging, notes = _after_training(lesson, learner, outcome, held_out, track)
    return Fitted(learner, _record(lesson, learner, outcome, contents, held_out, choice), tuple(notes), belonging)


def _after_training(
    lesson: Lesson, learner: Learner, outcome: TrainingOutcome, folds: HeldOut, track: Track
) -> tuple[HeldOut, Belonging | None, list[str]]:
    """All that shots tell of a learner that has learnt, what tells images of none, and lines for a person.

    Args:
        lesson: With the recipe that it was fitted by.
        learner: It.
        outcome: Of its training.
        folds: What was told before it: by folds, or by a choice.
        track: Shows progress.
    """
    notes = [*outcome.notes, *([outcome.unwritten] if outcome.unwritten else [])]
    calibration, belonging = folds.calibration, None
    if learner.recipe.training.calibration_folds and learner.is_computed and not lesson.examples.has_several:
        calibration = calibrated(*left_out_scores(learner, lesson.examples, outcome.chosen, track))
    if calibration is not None and calibration.knows_nothing:
        notes.append(
            f"the scores of {len(calibration.scores)} held-out images tell nothing of their classes: probabilities are "
            "the same for every class"
        )
    if not outcome.stopped:
        belonging, untold = learnt_belonging(lesson, learner, folds.belonging)
        notes += untold
    presence, of_presence = learnt_presence(lesson, learner, outcome.chosen, folds.presence, track)
    notes += of_presence
    return HeldOut(calibration, None if belonging is None else belonging.held_out, presence), belonging, notes


def folds_of(lesson: Lesson, folds: int, warn: Callable[[Sequence[str]], None]) -> NDArray[np.int64]:
    """The fold in which each image is held out, ``(N,)``; see ``fold_of_each``.

    Raises:
        DataError: The draw has images several times, or too few.
    """
    examples, task = lesson.examples, lesson.task
    if examples.has_repeats:
        raise DataError(
            "calibration holds images out in turn, but the draw has some of them several times, which would be "
            "learnt from and held out at once; ask for fewer shots, or leave calibration-folds out"
        )
    names = task.class_names
    if examples.has_several:
        fold_of = dealt(examples.labels, folds)
        if int(fold_of.max()) + 1 < folds:
            raise DataError(
                f"calibration-folds is {folds}, and {int((fold_of >= 0).sum())} of {len(examples)} images can be held "
                "out; learn from 2 shots or more, or leave calibration-folds out"
            )
        lone, why = np.flatnonzero(examples.counts(len(names)) == 1), "it is not held out"
    else:
        fold_of = fold_of_each(examples.labels, folds)
        lone, why = examples.labels[fold_of < 0], "nothing is calibrated on those"
    if len(lone):
        warn([f"{len(lone)} class(es) have one image, such as {names[lone[0]]!r}: {why}"])
    return fold_of


def _record(
    lesson: Lesson,
    learner: Learner,
    outcome: TrainingOutcome,
    contents: tuple[str, ...],
    told: HeldOut,
    choice: Mapping[str, Any],
) -> RunRecord:
    task, recipe, backbone = lesson.task, learner.recipe, learner.backbone
    second = next((other.identity.id for other in backbone.beside), None)
    decided_by_images = method_spec(recipe.method.method).learns or bool(choice)
    return RunRecord(
        task=task.name,
        method=AUTO if choice else recipe.method.method,
        quantize=recipe.model.quantize,
        shots=lesson.draw.shots if decided_by_images else 0,
        seed=recipe.training.seed,
        # A folder's full path, wherever it is loaded.
        recipe=recipe.replace(model=backbone.identity.id, beside=second).to_dict(),
        classes=task.class_names,
        labels=task.class_labels,
        model=backbone.identity.facts(),
        draw=lesson.examples.identities if decided_by_images else (),
        learnt=contents,
        prompts=lesson.prompts,
        trainable_parameters=learner.trainable_parameters,
        total_parameters=backbone.parameters,
        adapter_bytes=learner.adapter_bytes,
        steps=outcome.steps,
        train_seconds=outcome.seconds,
        static_memory_bytes=outcome.static_memory_bytes,
        peak_memory_bytes=outcome.peak_memory_bytes,
        reserved_memory_bytes=outcome.reserved_memory_bytes,
        final_loss=outcome.final_loss,
        stopped=outcome.stopped,
        choice=choice,
        chosen=dict(outcome.chosen),
        **told.to_dict(),
        provenance=provenance(),
    )
