"""A head in a folder: one file of tensors, read as strictly as an adapter's."""

from __future__ import annotations

from pathlib import Path

import torch

from ..errors import AdapterError
from ..tensor_file import TENSORS_FILE, read_tensors, rows_of, serialized
from .head import Head, blank_tensors, tensors_of


def write_head(folder: Path, head: Head) -> None:
    """Write a head's tensors into an existing folder."""
    (folder / TENSORS_FILE).write_bytes(serialized(tensors_of(head)))


def read_head(folder: Path, kind: type[Head], *, classes: int, width: int, device: torch.device) -> Head:
    """Read it back.

    Args:
        folder: Where ``write_head`` wrote it.
        kind: The method.
        classes: C.
        width: D, numbers of an embedding.
        device: Where its tensors are to be.

    Raises:
        AdapterError: The file is missing or damaged, or is not exactly what the method writes for so many classes.
    """
    path = folder / TENSORS_FILE
    images = next((rows_of(path, name) for name, axes in kind.AXES.items() if axes[:1] in ("N", "V")), 0)
    tensors = read_tensors(path, blank_tensors(kind, classes=classes, width=width, images=images))
    if "labels" in tensors and not bool(torch.isin(tensors["labels"], torch.arange(classes)).all()):
        raise AdapterError(f"adapter file {path}: labels has numbers of no class; expected 0 to {classes - 1}")
    return kind(**{name: tensor.to(device) for name, tensor in tensors.items()})
