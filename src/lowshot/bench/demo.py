"""The demo: every method on one task, beside the plainest rival, as records."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ..classifier import FewShotClassifier
from ..data import Task, load_task
from ..errors import DataError
from ..evaluation import confusion
from ..methods import PIXEL_REGRESSION, ZERO_SHOT, display_name, method_spec
from ..progress import Track, silent
from ..records import RunRecord
from ..report.page import Prediction, Showcase, main_result
from ..report.summary import Row
from ..settings import Recipe, default_preset, preset_recipe
from .rivals import pixel_regression

_SHOWN_IMAGES = 24
_SHOWN_SIDE = 128


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run of the demo's grid."""

    method: str
    shots: int
    seed: int


def cells(methods: Sequence[str], shots: Sequence[int], seeds: Sequence[int]) -> list[Cell]:
    """Return all runs, methods first; a method that learns nothing from images runs once."""
    grid = []
    for method in dict.fromkeys(methods):
        if method != PIXEL_REGRESSION and not method_spec(method).learns:
            grid.append(Cell(method, 0, seeds[0]))
        else:
            grid += [Cell(method, k, seed) for k in dict.fromkeys(shots) for seed in dict.fromkeys(seeds)]
    return grid


def photographs(folder: Path, warn: Callable[[Sequence[str]], None]) -> Task:
    """Return the task of a folder of photographs; of one without a test split each class's last quarter is that.

    Args:
        folder: ``<class>/*``, or ``{train,test}/<class>/*``.
        warn: Is told of images that cannot be read, which are left out.

    Raises:
        DataError: It is no such folder, or has a class of one image and no test split.
    """
    warnings: list[str] = []
    task = load_task(folder, "skip", warnings)
    warn(warnings)
    if task.test is None:
        task = _last_quarter_judged(task, folder)
    assert task.test is not None
    return dataclasses.replace(task, summary=f"{len(task.train)} images to learn from, {len(task.test)} to judge")


def _last_quarter_judged(task: Task, folder: Path) -> Task:
    labels, learnt = task.train.labels, np.zeros(len(task.train), dtype=bool)
    for label, name in enumerate(task.class_names):
        rows = np.flatnonzero(labels == label)
        if len(rows) < 2:
            raise DataError(
                f"{folder} has no test split, and of class {name!r} {len(rows)} image: nothing is left to judge on; "
                "expected two images of each class or more, or the folders train and test"
            )
        learnt[rows[: len(rows) - max(1, len(rows) // 4)]] = True
    train, test = (task.train.subset(np.flatnonzero(some)) for some in (learnt, ~learnt))
    return dataclasses.replace(task, train=train, test=test)


def recipe_of(cell: Cell, model: str = "builtin") -> Recipe:
    """Return the settings of a cell: those of the model's default preset.

    Raises:
        InputError: The method is unknown, or shots or seed are out of range.
    """
    method = ZERO_SHOT if cell.method == PIXEL_REGRESSION else cell.method
    recipe = preset_recipe(default_preset(model), method)
    return recipe.replace(model=model, seed=cell.seed, shots=cell.shots or None)


def candidates(grid: Sequence[Cell]) -> list[Cell]:
    """Return the cells that may be looked at closely: of each method that learns the first run with the most shots."""
    trained = [cell for cell in grid if cell.method not in (ZERO_SHOT, PIXEL_REGRESSION)]
    most = max((cell.shots for cell in trained), default=0)
    first = {cell.method: cell for cell in reversed(trained) if cell.shots == most}
    return [cell for cell in trained if first.get(cell.method) == cell]


def showcased(rows: Sequence[Row], classifiers: Sequence[FewShotClassifier]) -> FewShotClassifier | None:
    """Return the classifier that is saved and looked at closely: one of the method that the report's headline is about.

    Args:
        rows: Of all runs.
        classifiers: Those of the candidates.
    """
    best = main_result(rows)
    records = [(classifier, classifier.record_) for classifier in classifiers]
    return next((one for one, record in records if best and (record.method, record.quantize) == best.series[:2]), None)


def run(
    task: Task, grid: Sequence[Cell], *, model: str = "builtin", track: Track = silent
) -> Iterator[tuple[Cell, RunRecord, FewShotClassifier | None]]:
    """Run the cells one after the other; yield each with its record, evaluated on the test split, as it is done.

    Args:
        task: A task with a test split.
        grid: The runs.
        model: Learns in all of them but those of pixels.
        track: Shows the progress of each.
    """
    for cell in grid:
        if cell.method == PIXEL_REGRESSION:
            yield cell, pixel_regression(task, cell.shots, cell.seed), None
            continue
        classifier = FewShotClassifier.from_recipe(recipe_of(cell, model))
        classifier.fit(task, track=track).evaluate(task)
        yield cell, classifier.record_, classifier


def three_predictions(adapter: Path, task: Task) -> list[tuple[str, str]]:
    """Return the labels that a saved adapter gives three test images, each with the truth."""
    assert task.test is not None
    chosen = [0, len(task.test) // 2, len(task.test) - 1]
    labels = FewShotClassifier.from_pretrained(adapter).predict([task.test.images[i] for i in chosen])
    return [(str(label), task.class_names[task.test.labels[i]]) for label, i in zip(labels, chosen, strict=True)]


def showcase(classifier: FewShotClassifier, task: Task) -> Showcase:
    """Return some test images with this classifier's predictions, and its confusions over all of them."""
    assert task.test is not None
    table = classifier.predict_proba(task.test.images)
    predicted = table.argmax(1).astype(np.int64)
    wrong = np.flatnonzero(predicted != task.test.labels)[: _SHOWN_IMAGES // 4]
    right = np.flatnonzero(predicted == task.test.labels)
    spread = right[np.linspace(0, len(right) - 1, min(len(right), _SHOWN_IMAGES - len(wrong))).astype(np.int64)]
    counts = confusion(predicted, task.test.labels, len(task.class_names))
    record = classifier.record_
    return Showcase(
        method=display_name(record.method, record.quantize),
        shots=record.shots,
        classes=task.class_names,
        predictions=tuple(
            Prediction(
                image_png=png_bytes(task.test.images[i]),
                truth=int(task.test.labels[i]),
                predicted=int(predicted[i]),
                probability=float(table[i, predicted[i]]),
            )
            for i in sorted([*wrong.tolist(), *spread.tolist()])
        ),
        confusion=tuple(tuple(row) for row in counts.tolist()),
        note=f"{len(wrong)} of its {int((predicted != task.test.labels).sum())} mistakes among {len(predicted)} test "
        f"images, and {len(spread)} it got right.",
    )


def png_bytes(pixels: np.ndarray) -> bytes:
    """Return an image ``(H, W, 3)`` as a PNG file, a larger one at the size that the page shows."""
    buffer, image = io.BytesIO(), Image.fromarray(pixels)
    image.thumbnail((_SHOWN_SIDE, _SHOWN_SIDE))
    image.save(buffer, "PNG")
    return buffer.getvalue()
