"""The images of a task that a classifier may be judged on: never those that it has learnt from."""

from __future__ import annotations

from collections.abc import Sequence

from ..data import Examples, Task, content_hashes
from ..errors import DataError
from ..progress import Track
from ..records import RunRecord


def left_to_judge(task: Task, record: RunRecord, track: Track) -> tuple[str, Examples]:
    """The images of a task to judge: ``test`` and its test split, else ``unseen`` and those that were not learnt from.

    Args:
        task: The data. To know images that were learnt from, all that may be judged are decoded; they are decoded once
            more to be judged unless its images are kept (see ``data.decoded_once``).
        record: The classifier's, with the hashes of what it has learnt from.
        track: Shows progress.

    Raises:
        DataError: Nothing is left.
    """
    if task.test is not None:
        if not len(task.test):
            raise DataError(f"{task.name} has no images to judge: its test split is empty")
        return "test", task.test
    if "imported" in record.provenance:
        raise DataError(f"{task.name} has no test split, and which images the imported adapter learnt is not known")
    learnt = set(record.learnt)
    contents = content_hashes(task.train.images, track)
    unseen = [row for row, content in enumerate(contents) if content not in learnt]
    if not unseen:
        raise DataError(
            f"{task.name}: every image was learnt from, and an accuracy on them would say nothing; "
            "add a test folder, or fit with fewer shots"
        )
    return "unseen", task.train.subset(unseen)


def refuse_other_classes(task: Task, taught: Sequence[str]) -> None:
    """Refuse a task whose classes are not those that were taught, in their order.

    Raises:
        DataError: They are others; the message names one.
    """
    expected, names = list(taught), list(task.class_names)
    if names == expected:
        return
    differ = sorted(set(names) ^ set(expected))
    what = f"other classes than this adapter, such as {differ[0]!r}" if differ else "its classes in another order"
    raise DataError(
        f"{task.name} has {what}; expected the {len(expected)} classes it was taught, or --new-classes "
        "(new_classes=True from Python), which judges it in its own"
    )
