"""Single runs, as any engine does them in each of its processes."""

from __future__ import annotations

import dataclasses
import traceback
from pathlib import Path
from typing import Any

from ..classifier import FewShotClassifier
from ..data import Task, decoded_once
from ..errors import LowshotError, first_line
from ..models import KeptBackbone
from ..progress import Track, silent
from ..settings import parse_bytes
from ..training.company import working_seconds
from .engines import Result
from .grid import Cell


class SharedTasks:
    """The data sets of a grid, each read once; the images of each decoded once for all runs of this process."""

    def __init__(self) -> None:
        self._tasks: dict[tuple[Any, ...], Task] = {}

    def of(self, cell: Cell, classifier: FewShotClassifier) -> Task:
        """Return the task that a run learns from and is judged on.

        Raises:
            DataError: It cannot be used.
        """
        data, engine = cell.recipe.data, cell.recipe.engine
        key = (cell.data, data.root, data.on_bad_image, engine.image_memory, engine.image_disk)
        if key not in self._tasks:
            task = classifier.task(cell.data)  # whose images to learn from are decoded once as they are
            if task.test is not None:
                caps = (parse_bytes(field, getattr(engine, field)) for field in ("image_memory", "image_disk"))
                decoded = dataclasses.replace(task.test, images=decoded_once(task.test.images, *caps))
                task = dataclasses.replace(task, test=decoded)
            self._tasks[key] = task
        return self._tasks[key]


class Worker:
    """Does runs in this process, one after the other; files that several of them read are read once.

    They share the backbone, as long as it is the same one, the data sets, their images, and the embeddings of the
    test images by vision towers that nobody trains (``lowshot.evaluation.predict.SHARED_EMBEDDINGS``).
    """

    def __init__(self) -> None:
        self._tasks = SharedTasks()
        self._backbone = KeptBackbone()

    def do(self, cell: Cell, checkpoint: Path | None = None, track: Track = silent) -> Result:
        """Do one run: learn, and judge. An error is a result too, so that the other runs go on.

        Args:
            cell: The run.
            checkpoint: Where the state of training is kept; if it exists, training goes on from it.
            track: Shows progress.
        """
        started = working_seconds()
        classifier = FewShotClassifier.from_recipe(cell.recipe, self._backbone.load)
        record, error, reason = None, "", ""
        try:
            task = self._tasks.of(cell, classifier)
            classifier.fit(task, checkpoint=checkpoint, track=track).evaluate(task, track=track)
            record = classifier.record_
        except Exception as failure:
            is_ours = isinstance(failure, LowshotError)  # its message tells enough
            error = str(failure) if is_ours else "".join(traceback.format_exception(failure))
            reason = first_line(failure)
        return Result(cell, record, working_seconds() - started, error, reason, tuple(classifier.warnings_))
