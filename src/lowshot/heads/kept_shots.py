"""The shots that a head was learnt from, as the frozen tower sees them, kept beside it in a file of their own.

With them a class more, or one less, is learnt from exactly what fitting anew would encode. Whoever only predicts never
reads them.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from torch import Tensor

from ..errors import AdapterError
from ..tensor_file import read_file, serialized

KEPT_SHOTS_FILE = "shots.safetensors"
MOST_BYTES = 256 << 20
"""Embeddings beyond this are not kept: 1,000 classes of 16 images in ten views of 512 numbers would be 328 MB."""
_ALLOWANCE_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True)
class KeptShots:
    """Embeddings of shots, on the CPU, in the order in which they were learnt.

    Args:
        features: Unit embeddings of V views of each of N images, ``(V, N, D)``.
        labels: Class index of each image, ``(N,)``, or ``(N, C)`` as in ``Shots``.
        central: Unit embeddings of their central crops ``(1, N, D)``, which held-out images are judged by; empty
            ``(0, N, D)`` where nothing is held out, or where they are the only views.
    """

    features: Tensor
    labels: Tensor
    central: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def bytes(self) -> int:
        """Their size."""
        return self.features.nbytes + self.central.nbytes

    def subset(self, rows: list[int]) -> KeptShots:
        """Some of the images."""
        return KeptShots(self.features[:, rows], self.labels[rows], self.central[:, rows])


def write_kept_shots(folder: Path, shots: KeptShots) -> None:
    """Write them into an existing folder."""
    tensors = {"features": shots.features, "labels": shots.labels, "central": shots.central}
    (folder / KEPT_SHOTS_FILE).write_bytes(serialized(tensors))


def read_kept_shots(folder: Path, *, classes: int, width: int) -> KeptShots | None:
    """Read them back; None where the folder has none, as adapters from before they were kept.

    Args:
        folder: An adapter's.
        classes: C.
        width: D, numbers of an embedding.

    Raises:
        AdapterError: The file is damaged, or does not hold embeddings of this width and labels of these classes.
    """
    path = folder / KEPT_SHOTS_FILE
    if not path.exists():
        return None
    most = 2 * MOST_BYTES + _ALLOWANCE_BYTES
    tensors, _ = read_file(path, most, f"at most {most:,}")
    if set(tensors) != {"features", "labels", "central"}:
        raise AdapterError(f"adapter file {path} has {', '.join(sorted(tensors))}; expected features, labels, central")
    shots = KeptShots(**tensors)
    count = len(shots.labels) if shots.labels.ndim else 0
    fits = (
        shots.features.ndim == 3
        and len(shots.features) > 0
        and count > 0
        and shots.labels.shape in ((count,), (count, classes))
        and shots.labels.dtype == torch.int64
        and bool(torch.isin(shots.labels, torch.arange(classes if shots.labels.ndim == 1 else 2)).all())
        and shots.features.dtype == shots.central.dtype == torch.float32
        and shots.features.shape[1:] == (count, width)
        and shots.central.shape in ((0, count, width), (1, count, width))
        and bool(shots.features.isfinite().all() and shots.central.isfinite().all())
    )
    if not fits:
        raise AdapterError(
            f"adapter file {path} does not fit: expected finite embeddings of {width} numbers, and a label below "
            f"{classes} for each image"
        )
    return shots
