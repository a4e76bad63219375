"""The demo: every method on one task, beside the plainest rival, as records."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ..classifier import FewShotClassifier
from ..data import Task
from ..evaluation import confusion
from ..methods import PIXEL_REGRESSION, ZERO_SHOT, display_name, method_spec
from ..progress import Track, silent
from ..records import RunRecord
from ..report.page import Prediction, Showcase, main_result
from ..report.summary import Row
from ..settings import Recipe, default_preset, preset_recipe
from .rivals import pixel_regression

_SHOWN_IMAGES = 24


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


def recipe_of(cell: Cell) -> Recipe:
    """Return the settings of a cell: those of the built-in model's preset.

    Raises:
        InputError: The method is unknown, or shots or seed are out of range.
    """
    method = ZERO_SHOT if cell.method == PIXEL_REGRESSION else cell.method
    return preset_recipe(default_preset("builtin"), method).replace(seed=cell.seed, shots=cell.shots or None)


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
    return next((one for one, made in records if best and (made.method, made.quantize) == best.series[:2]), None)


def run(
    task: Task, grid: Sequence[Cell], *, track: Track = silent
) -> Iterator[tuple[Cell, RunRecord, FewShotClassifier | None]]:
    """Run the cells one after the other; yield each with its record, evaluated on the test split, as it is done.

    Args:
        task: A task with a test split.
        grid: The runs.
        track: Shows the progress of each.
    """
    for cell in grid:
        if cell.method == PIXEL_REGRESSION:
            yield cell, pixel_regression(task, cell.shots, cell.seed), None
            continue
        classifier = FewShotClassifier.from_recipe(recipe_of(cell))
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
    """Return an image ``(H, W, 3)`` as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
