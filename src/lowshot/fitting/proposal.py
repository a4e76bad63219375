"""A look at a data set, and a recipe to begin with for it."""

from __future__ import annotations

import collections
import dataclasses
import json
import statistics
import time

import numpy as np

from ..data import Checked, Task
from ..evaluation import embeddings_of
from ..methods import AUTO, ZERO_SHOT
from ..models import PHOTOS
from ..settings import MethodConfig, default_preset, preset_recipe
from .auto import PLAINEST
from .foreign import ANOTHER_MODEL, foreign_notes, may_be_photographs
from .lesson import lesson_of

MOST_SHOTS = 16
"""The most shots that the papers learn from; more images of a class measure the accuracy."""
_MEASURED = 64  # images whose size is looked at
_TIMED = 8  # images that a model is timed on


@dataclasses.dataclass(frozen=True)
class Look:
    """The figures of a data set."""

    splits: dict[str, int]
    """Split -> number of its images."""
    classes: dict[str, int]
    """Class -> number of its images to learn from."""
    sides: tuple[int, int, int]
    """Shortest, median and longest of the images' shorter sides in pixels; of many images some are looked at."""
    unreadable: int
    """Images that are not there or cannot be decoded."""
    copies: int
    """Pairs of images in two splits or classes that show the same."""


@dataclasses.dataclass(frozen=True)
class Proposal:
    """A recipe to begin with."""

    model: str
    model_reason: str
    shots: int | None
    on_bad_image: str
    judged: int
    """Images that measure the accuracy."""
    image_seconds: float | None
    """Time of an image in the proposed model on this machine; None for a model that was not loaded."""


def look_at(task: Task, checked: Checked) -> Look:
    """Describe a task whose images have been checked; those that cannot be read are left out by now."""
    counts = collections.Counter(task.train.labels.tolist())
    images = task.train.images
    rows = np.unique(np.linspace(0, len(images) - 1, min(len(images), _MEASURED)).astype(int)).tolist()
    sides = [min(images[row].shape[:2]) for row in rows]
    return Look(
        splits={split: len(examples) for split, examples in task.splits().items()},
        classes={name: counts[label] for label, name in enumerate(task.class_names)},
        sides=(min(sides), round(statistics.median(sides)), max(sides)),
        unreadable=len(checked.missing) + len(checked.corrupt),
        copies=len(checked.copies),
    )


def proposed(task: Task, look: Look) -> Proposal:
    """Propose model, method and shots. The built-in model is tried on the shots, by the names of the classes.

    Raises:
        DataError: The images cannot be drawn, or the classes not be put into words.
    """
    smallest, others = min(look.classes.values()), sum(look.splits.values()) - look.splits["train"]
    to_judge = 0 if others else max(1, smallest // 4)
    shots = min(MOST_SHOTS, smallest - to_judge) if smallest > to_judge else None
    lesson = lesson_of(task, {}, preset_recipe("builtin", ZERO_SHOT).replace(shots=shots), lambda _: None)
    started = time.perf_counter()
    notes = foreign_notes(lesson)
    seconds: float | None = (time.perf_counter() - started) / len(lesson.examples)
    model, reason = "builtin", "it recognises these images by the names of their classes"
    if notes and may_be_photographs(lesson):
        model, recipe = PHOTOS, preset_recipe(default_preset(PHOTOS), PLAINEST[1]).replace(model=PHOTOS)
        learner = dataclasses.replace(lesson, recipe=recipe).untrained()
        few = lesson.examples.subset(range(min(_TIMED, len(lesson.examples))))
        started = time.perf_counter()
        embeddings_of(learner, few.images)
        seconds = (time.perf_counter() - started) / len(few)
        reason = (
            "photographs: EfficientNet-Lite0 has seen ImageNet's, and is here without a hub; a CLIP knows more, and "
            f"what classes are called: {ANOTHER_MODEL}"
        )
    elif notes:
        model, reason, seconds = ANOTHER_MODEL, notes[0], None
    return Proposal(
        model=model,
        model_reason=reason,
        shots=shots,
        on_bad_image="skip" if look.unreadable else "error",
        judged=look.splits.get("test") or look.splits["train"] - len(lesson.examples),
        image_seconds=seconds,
    )


def recipe_text(data: str, look: Look, warnings: list[str], proposal: Proposal, command: str) -> str:
    """The recipe's file, with what was seen and why as comments."""
    names = sorted(look.classes, key=lambda name: look.classes[name])
    fewest, most = look.classes[names[0]], look.classes[names[-1]]
    of_each = f"{fewest:,}" if fewest == most else f"{fewest:,} ({names[0]}) to {most:,} ({names[-1]})"
    facts = [
        f"{sum(look.splits.values()):,} images of {len(names):,} classes, "
        + ", ".join(f"{count:,} in {split}" for split, count in look.splits.items()),
        f"{of_each} of each class to learn from",
        f"shorter side {look.sides[1]:,} pixels in the middle, {look.sides[0]:,} to {look.sides[2]:,}",
    ]
    if look.unreadable:
        facts.append(f"{look.unreadable:,} that cannot be read: lowshot data check {data} names them")
    if look.copies:
        facts.append(f"{look.copies:,} pairs in two splits or classes that show the same: lowshot data check {data}")
    budget = MethodConfig.time_budget
    took = f"at most {budget:.0f} s to choose and learn"
    if proposal.image_seconds is not None:
        took += f", then about {proposal.judged * proposal.image_seconds:.0f} s to judge {proposal.judged:,} images"
    else:
        took += ", and what the model takes to download and to judge: lowshot plan says more once it is there"
    comments = [f"{data}, as lowshot init saw it:", "", *facts, *warnings, "", f"    {command}", "", f"Takes {took}."]
    shots = ["# shots = 1  # a class has too few images to leave some out: all are learnt from"]
    if proposal.shots is not None:
        shots = [f"shots = {proposal.shots}  # of each class; the other images measure the accuracy"]
    lines = [
        *(
            f"# {' '.join(comment.split()) if not comment.startswith(' ') else comment}".rstrip()
            for comment in comments
        ),
        "",
        "[model]",
        f"# {' '.join(proposal.model_reason.split())}",
        f"model = {json.dumps(proposal.model)}",
        "",
        "[method]",
        f"method = {json.dumps(AUTO)}  # tries several on held-out shots and takes one; lowshot methods lists them",
        f"time_budget = {budget}  # seconds for that; more of them are tried in more",
        "",
        "[data]",
        *shots,
        f"on_bad_image = {json.dumps(proposal.on_bad_image)}  # at an image that cannot be read error stops",
    ]
    return "\n".join(lines) + "\n"
