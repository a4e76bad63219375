"""Which images of a task a classifier may be judged on: never those that it has learnt from."""

from __future__ import annotations

from collections.abc import Sequence

from ..data import Examples, Task, content_hash
from ..errors import DataError
from ..records import RunRecord


def left_to_judge(task: Task, record: RunRecord) -> tuple[str, Examples]:
    """Which images of a task there are to judge: ``test`` its test split, else ``unseen``, those not learnt from.

    Args:
        task: The data.
        record: Of the classifier: what it has learnt from.

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
    unseen = [i for i in range(len(task.train)) if content_hash(task.train.images[i]) not in learnt]
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
    expected, found = list(taught), list(task.class_names)
    if found == expected:
        return
    differ = sorted(set(found) ^ set(expected))
    what = f"other classes than this adapter, such as {differ[0]!r}" if differ else "its classes in another order"
    raise DataError(
        f"{task.name} has {what}; expected the {len(expected)} classes it was taught, or --new-classes "
        "(new_classes=True from Python), which judges it in its own"
    )
