"""Methods from outside that an adapter must beat, on the same shots and test images."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from ..data import Examples, Task, draw_from
from ..data.crops import central_crops
from ..evaluation import measures
from ..methods import PIXEL_REGRESSION
from ..records import RunRecord, provenance
from ..training.memory import memory_use

SIDE = 32
"""Pixels of a side that images of different sizes are brought to, their middles cut out."""


def _pixels(examples: Examples, *, whole: bool) -> NDArray[np.float64]:
    """Return every image as a row of numbers in [0, 1], ``(N, ...)``; grey images count each pixel once."""
    if not whole:
        crops = [central_crops([examples.images[i]], SIDE).flatten().double().numpy() for i in range(len(examples))]
        return np.stack(crops)
    images = np.stack([examples.images[i] for i in range(len(examples))]) / 255.0
    is_grey = bool((images == images[..., :1]).all())
    return (images[..., :1] if is_grey else images).reshape(len(images), -1)


def pixel_regression(task: Task, shots: int, seed: int) -> RunRecord:
    """Fit scikit-learn's plain logistic regression on the pixels of the drawn shots, and judge it on the test split.

    It gets all pixels of images that are of one size, and those of small copies of others.
    """
    import torch
    from sklearn.linear_model import LogisticRegression

    assert task.test is not None
    draw = draw_from(task, shots, seed)
    examples = task.train.subset(draw.indices)
    whole = len({part.images[i].shape for part in (examples, task.test) for i in range(len(part))}) == 1
    started = time.perf_counter()
    with memory_use(torch.device("cpu")) as memory:
        model = LogisticRegression(max_iter=5000).fit(_pixels(examples, whole=whole), examples.labels)
    seconds = time.perf_counter() - started
    table = model.predict_proba(_pixels(task.test, whole=whole))  # every class has shots: the columns are the labels
    parameters = model.coef_.size + model.intercept_.size
    return RunRecord(
        task=task.name,
        method=PIXEL_REGRESSION,
        quantize="none",
        shots=shots,
        seed=seed,
        recipe={},
        classes=task.class_names,
        model={},
        draw=examples.identities,
        trainable_parameters=parameters,
        total_parameters=parameters,
        adapter_bytes=0,
        steps=int(model.n_iter_.max()),
        train_seconds=seconds,
        static_memory_bytes=memory.static,
        peak_memory_bytes=memory.peak,
        metrics={**measures(table, task.test.labels), "images": len(task.test), "split": "test"},
        provenance=provenance(),
    )
