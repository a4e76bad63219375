"""Trials of candidates for ``--method auto`` on the shots, as far as the time allows."""

from __future__ import annotations

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..data import Examples, Images
from ..data.crops import random_crops
from ..errors import InputError, RunError, first_line
from ..evaluation import fold_of_each, presence_of, scored
from ..methods import ZERO_SHOT, method_spec
from ..models import KeptBackbone, load_backbone
from ..progress import Track
from ..settings import Recipe
from ..several_labels import dealt, ranking_precisions
from ..training import Learner
from .held_out import HeldOut, hold_out
from .lesson import Lesson, kept_decoded

MOST_FOLDS = 4
"""Parts that the shots are held out in."""
CROPS = 4
"""Crops of each shot, where none can be held out."""
PROBED_STEPS = 3
"""Steps that tell how long a training will take."""
_TIMED_IMAGES = 8
_A_STEP = 3.0
"""Passes through the vision tower that a training step takes for each image at least: forward, and twice backward."""


@dataclasses.dataclass(frozen=True)
class Trial:
    """A candidate's recognition of the judged shots."""

    method: str
    right: Mapping[int, float] = dataclasses.field(default_factory=dict)
    """Shot that was judged -> 1 if its class was recognised, else 0, or the share of its crops; empty where the
    candidate was not tried. Where images have several labels, how well those of the shot are ranked
    (``several_labels.ranking_precisions``); without a label it is not there."""
    seconds: float = 0.0
    note: str = ""
    """Why it was not tried, or on some of the images only."""
    held_out: HeldOut = dataclasses.field(default=HeldOut(), compare=False)
    """The results of the shots, where every one of them was held out."""

    @property
    def accuracy(self) -> float | None:
        """Share of the judged shots that were recognised."""
        return float(np.mean(list(self.right.values()))) if self.right else None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a record."""
        figures = {"images": len(self.right), "acc1": self.accuracy, "seconds": round(self.seconds, 2)}
        return {"method": self.method, **figures, "said": self.note}


class Trials:
    """Tries candidates on one lesson's shots.

    Args:
        lesson: What is to be learnt.
        recipe_of: The recipe of a candidate.
        seconds: For all trials and the training that follows them.
        track: Shows progress.
    """

    def __init__(self, lesson: Lesson, recipe_of: Callable[[str], Recipe], seconds: float, track: Track) -> None:
        load = KeptBackbone().load if lesson.load is load_backbone else lesson.load  # there will be many learners
        self._lesson = dataclasses.replace(lesson, load=load)
        self._recipe_of = recipe_of
        self._ends = time.monotonic() + seconds
        self._track = track
        self._fold_of = _fold_of(lesson.examples)
        self._judged = lesson.examples
        if not self.folds:  # crops of every shot, drawn by the recipe's seed, and kept as the shots themselves are
            examples, training = lesson.examples, lesson.recipe.training
            names = tuple(f"{name} {view}" for view in range(CROPS) for name in examples.identities)
            crops = _Crops(examples.images, training.seed, training.flip)
            self._judged = kept_decoded(
                Examples(crops, np.concatenate([examples.labels] * CROPS), names), lesson.recipe
            )
        self._step_seconds: dict[str, float] = {}

    @property
    def images(self) -> int:
        """How many shots there are."""
        return len(self._lesson.examples)

    @property
    def has_several(self) -> bool:
        """Whether the shots have several labels each, or none."""
        return self._lesson.examples.has_several

    @property
    def folds(self) -> int:
        """Parts that the shots are held out in; 0 where none can be held out, so that crops of them are judged."""
        return 0 if self._fold_of is None else int(self._fold_of.max()) + 1

    @functools.cached_property
    def has_text(self) -> bool:
        """Whether methods that need class names can be tried: not without a text tower, nor with an encoder beside."""
        model = self._lesson.recipe.model
        return model.beside is None and self._lesson.load(model.model, model.device).has_text

    @functools.cached_property
    def _image_seconds(self) -> float:
        """Time of an image through the vision tower, as the method that the others have to beat leaves it.

        The first pass of a process takes longer, and what is kept of the shots takes none.
        """
        backbone = self._untrained(ZERO_SHOT if self.has_text else "nearest-mean").backbone
        side, seconds = backbone.image_size, []
        for _ in range(2):
            started = time.monotonic()
            with torch.no_grad():
                backbone.encode_images(torch.zeros(_TIMED_IMAGES, 3, side, side)).cpu()  # a GPU is waited for
            seconds.append(time.monotonic() - started)
        return min(seconds) / _TIMED_IMAGES

    def zero_shot(self) -> Trial:
        """Zero-shot, from which every image was held out."""
        started = time.monotonic()
        learner = self._untrained(ZERO_SHOT)
        table, labels = self._table(learner, self._judged), self._judged.labels
        right = self._right(table, self._judged)
        held_out = HeldOut.by_scores(table, labels, 0) if self.folds else HeldOut()
        return Trial(ZERO_SHOT, right, time.monotonic() - started, held_out=held_out)

    def recognises_every_shot(self) -> bool:
        """Whether zero-shot, which has learnt from none of them, takes every shot for what it is."""
        examples = self._lesson.examples
        if examples.has_several:  # whose labels have thresholds to learn, however they are ranked
            return False
        return all(self._right(self._table(self._untrained(ZERO_SHOT), examples), examples).values())

    def of(self, method: str) -> Trial:
        """A method that learns; not tried where the time does not allow it, or the method does not take these shots."""
        started = time.monotonic()
        try:
            trial = self._tried(method)
        except (InputError, RunError) as error:
            trial = Trial(method, note=first_line(error))
        return dataclasses.replace(trial, seconds=time.monotonic() - started)

    def _tried(self, method: str) -> Trial:
        shots = self._lesson.examples.shots
        held = shots // self.folds if self.folds else 0
        # What follows the choice: the training, and those of a calibration's folds.
        training, calibration_folds = self._seconds(method, shots), self._recipe_of(method).training.calibration_folds
        if calibration_folds:
            training += calibration_folds * self._seconds(method, shots - shots // calibration_folds)
        fold = self._seconds(method, shots - held)
        left = self._ends - time.monotonic()
        affordable = math.floor((left - training) / fold) if fold else MOST_FOLDS
        if affordable < 1 or left < training:
            needed = f"it would take {training + fold:,.0f} s or more, and {max(left, 0):,.0f} s are left"
            is_known = training + fold >= 0.5  # else it would be said to take 0 s
            return Trial(method, note=f"not tried: {needed if is_known else 'no time is left'}")
        if self._fold_of is None:
            learner = self._untrained(method)
            learner.fit(self._lesson.examples, shots, self._track)
            return Trial(method, self._right(self._table(learner, self._judged), self._judged))
        folds = min(self.folds, affordable)
        note = "" if folds == self.folds else f"{folds} of {self.folds} folds, as many as there is time for"
        scores, labels, held_out = hold_out(self._of(method), self._fold_of, first=folds, track=self._track)
        recognised = _recognised(scores, labels).tolist()
        rows = np.concatenate([np.flatnonzero(self._fold_of == fold) for fold in range(folds)]).tolist()
        right = {row: each for row, each in zip(rows, recognised, strict=True) if not math.isnan(each)}
        return Trial(method, right, note=note, held_out=held_out)

    def _seconds(self, method: str, shots: int) -> float:
        """Time of one training with so many shots: a guess from below where that is too long already."""
        recipe, images = self._recipe_of(method), len(self._lesson.examples)
        if method_spec(method).kind == "features":
            return self._image_seconds * images * (recipe.training.views or 0)  # else they are encoded already
        steps, batch = recipe.steps(shots), min(recipe.training.batch_size, images)
        least = self._image_seconds * _A_STEP * batch * steps
        if least > self._ends - time.monotonic():
            return least
        if method not in self._step_seconds:
            lesson = self._of(method)
            recipe = lesson.recipe.replace(base_steps=PROBED_STEPS, steps_per_shot=0)
            outcome = dataclasses.replace(lesson, recipe=recipe).untrained().fit(lesson.examples, 1, self._track)
            self._step_seconds[method] = outcome.seconds / max(outcome.steps, 1)
        return max(least, self._step_seconds[method] * steps)

    def _of(self, method: str) -> Lesson:
        return dataclasses.replace(self._lesson, recipe=self._recipe_of(method))

    def _untrained(self, method: str) -> Learner:
        return self._of(method).untrained()

    def _table(self, learner: Learner, examples: Examples) -> NDArray[np.float32]:
        return scored(learner, examples, self._track)[0]

    def _right(self, table: NDArray[np.float32], examples: Examples) -> dict[int, float]:
        """Recognition of each shot; crops of one shot are no independent witnesses."""
        right = _recognised(table, examples.labels)
        of_shots = enumerate(right.reshape(-1, len(self._lesson.examples)).mean(0).tolist())
        return {row: share for row, share in of_shots if not math.isnan(share)}


def _recognised(scores: NDArray[np.floating], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Which images are recognised, ``(N,)``; of several labels how well each one's are ranked, NaN without labels."""
    if labels.ndim == 1:
        right: NDArray[np.float64] = (scores.argmax(1) == labels).astype(np.float64)
        return right
    presence = presence_of(scores, labels, 0)
    return ranking_precisions(presence.slope * scores.astype(np.float64) + np.asarray(presence.offsets), labels)


def _fold_of(examples: Examples) -> NDArray[np.int64] | None:
    """The fold of each shot; None where no class has two images, or some image is there twice."""
    if examples.has_several:
        part = dealt(examples.labels, MOST_FOLDS)
        return None if part.max() < 1 or examples.has_repeats else part
    most = int(np.bincount(examples.labels).max())
    if most < 2 or examples.has_repeats:
        return None
    return fold_of_each(examples.labels, min(MOST_FOLDS, most))


_SIDE, _LEAST = 224, 0.5


@dataclasses.dataclass(frozen=True, eq=False)
class _Crops:
    """Crops of half of an image's area or more, made when asked for: one of each image, then another of each."""

    images: Images
    seed: int
    flip: bool

    def __len__(self) -> int:
        return CROPS * len(self.images)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        view, row = divmod(index, len(self.images))
        key = (self.seed, view, row)
        crop = random_crops([self.images[row]], _SIDE, crop_minimum=_LEAST, flip=self.flip, keys=[key])[0]
        pixels: NDArray[np.uint8] = (crop.permute(1, 2, 0) * 255).round().byte().numpy()
        return pixels
