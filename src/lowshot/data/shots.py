"""The draw of k shots per class: a pure function of (items, k, seed)."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .task import Task


@dataclasses.dataclass(frozen=True)
class Draw:
    """Which images were drawn.

    Args:
        indices: Positions in the split they were drawn from, grouped by class, ``(n,)``.
        shots: Images per class that were asked for; the largest class's size where all were taken.
        short: Label and size of each class that has fewer images than ``shots``.
    """

    indices: NDArray[np.int64]
    shots: int
    short: dict[int, int]


def draw_shots(identities: Sequence[str], labels: NDArray[np.int64], shots: int | None, seed: int) -> Draw:
    """Draw ``shots`` images of each class.

    Images are ranked by a hash of (seed, identity) and the first of each class are taken. So the draw does not
    depend on the platform, on the order of files on disk, or on anything drawn before; the draws of one seed are
    nested (4 shots contain the 1 shot); and removing an undrawn image changes nothing.

    Args:
        identities: A unique name per image, N of them.
        labels: Class index per image, ``(N,)``.
        shots: Images per class, or None for all. A class with fewer gives all it has.
        seed: Which of the many draws.

    Raises:
        DataError: Two images share an identity, there is nothing to draw from, or fewer than one shot is asked for.
    """
    if len(identities) != len(labels):
        raise DataError(f"{len(identities)} identities have {len(labels)} labels; expected one for each")
    if shots is not None and shots < 1:
        raise DataError(f"shots is {shots}; expected 1 or more, or None for all")
    if len(set(identities)) != len(identities):
        raise DataError("two images have the same identity; expected a unique name for every image")
    if not len(identities):
        raise DataError("there are no images to draw shots from")
    ranks = [hashlib.sha256(f"{seed}\0{identity}".encode()).digest() for identity in identities]
    indices: list[int] = []
    counts: dict[int, int] = {}
    for label in np.unique(labels):
        members = sorted(np.flatnonzero(labels == label).tolist(), key=lambda i: ranks[i])
        counts[int(label)] = len(members)
        indices += members[:shots]
    wanted = max(counts.values()) if shots is None else shots
    short = {label: count for label, count in counts.items() if shots is not None and count < wanted}
    return Draw(indices=np.asarray(indices, dtype=np.int64), shots=wanted, short=short)


def draw_from(task: Task, shots: int | None, seed: int) -> Draw:
    """``draw_shots`` on a task's training split; every class must have at least one image.

    Raises:
        DataError: A class has no training image.
    """
    missing = sorted(set(range(len(task.class_names))) - set(task.train.labels.tolist()))
    if missing:
        names = ", ".join(task.class_names[i] for i in missing[:5])
        raise DataError(f"{task.name}: no training images for {len(missing)} class(es): {names}")
    return draw_shots(task.train.identities, task.train.labels, shots, seed)
