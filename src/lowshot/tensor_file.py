"""The file of an adapter's tensors. Reading is strict: what does not fit exactly is refused, never ignored."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from .errors import AdapterError

TENSORS_FILE = "adapter_model.safetensors"
CLASSIFIER_FILE = "classifier.safetensors"
"""A classifier's file, where it stands beside the adapter's on an image encoder without text."""
CLASSIFIER = "classifier"
"""Name of a classifier's rows ``(C, D)`` in a file."""
_METADATA = {"format": "pt"}
_HEADER_ALLOWANCE_BYTES = 1 << 20  # safetensors' header grows with the number of tensors, not with their size


def serialized(tensors: Mapping[str, Tensor]) -> bytes:
    """The content of the tensors' file. Tensors that share memory, as some tuners' do, are each written in full."""
    apart: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        apart[name] = tensor.cpu().contiguous()
        if apart[name].data_ptr() in seen:
            apart[name] = apart[name].clone()
        seen.add(apart[name].data_ptr())
    return bytes(save(apart, metadata=_METADATA))


def serialized_size(tensors: Mapping[str, Tensor]) -> int:
    """Length of ``serialized(tensors)`` in bytes, without looking at any value: the meta device will do."""
    header: dict[str, object] = {"__metadata__": _METADATA}
    end = 0
    order = list(_TYPE_NAMES)
    for name, tensor in sorted(tensors.items(), key=lambda item: (order.index(item[1].dtype), item[0])):
        start, end = end, end + tensor.nbytes
        header[name] = {"dtype": _TYPE_NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    length = len(json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode())
    return 8 + (length + 7) // 8 * 8 + end


_TYPE_NAMES = {
    torch.int64: "I64",
    torch.float64: "F64",
    torch.float32: "F32",
    torch.int32: "I32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""In the order in which safetensors lays tensors out."""


def read_tensors(path: Path, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a file that must hold exactly these names, shapes and types.

    Raises:
        AdapterError: The file is missing, damaged or far too large, or does not fit.
    """
    size = sum(tensor.nbytes for tensor in expected.values())
    tensors, _ = read_file(path, size + _HEADER_ALLOWANCE_BYTES, f"about {size:,}")
    missing, extra = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    if missing:
        raise AdapterError(f"adapter file {path} lacks {len(missing)} tensor(s), such as {missing[0]}")
    if extra:
        raise AdapterError(f"adapter file {path} has {len(extra)} unknown tensor(s), such as {extra[0]}")
    for name, tensor in tensors.items():
        has, needs = (f"{tuple(each.shape)} of {each.dtype}" for each in (tensor, expected[name]))
        if has != needs:
            raise AdapterError(f"adapter file {path}: {name} is {has}; expected {needs}")
        if not torch.isfinite(tensor).all():
            raise AdapterError(f"adapter file {path}: {name} holds values that are not finite")
    return tensors


def read_classifier(folder: Path, classes: int, width: int) -> Tensor:
    """The rows ``(classes, width)`` of the classifier beside an adapter, float32 and of any length.

    Raises:
        AdapterError: The file is missing or damaged, or has other classes or another width.
    """
    return read_tensors(folder / CLASSIFIER_FILE, {CLASSIFIER: torch.empty(classes, width, device="meta")})[CLASSIFIER]


def rows_of(path: Path, name: str) -> int:
    """Length of a tensor's first axis, as the file's header says it; 0 where the file has no such tensor.

    Raises:
        AdapterError: The file is missing or damaged.
    """
    with _opened(path) as file:
        shape = file.get_slice(name).get_shape() if name in file.keys() else []  # noqa: SIM118 - not a dict
        return int(shape[0]) if shape else 0


def read_file(path: Path, most_bytes: int, expected: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors of a file, whatever they are, and its metadata.

    Args:
        path: One of an adapter's files.
        most_bytes: A larger file is not opened.
        expected: How many bytes it should have, for that error.

    Raises:
        AdapterError: The file is missing, damaged or too large.
    """
    with _opened(path, most_bytes, expected) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        return tensors, file.metadata() or {}


@contextlib.contextmanager
def _opened(path: Path, most_bytes: int | None = None, expected: str = "") -> Iterator[Any]:
    """A file of safetensors, of at most so many bytes; what is wrong with it is said of the adapter."""
    try:
        size = path.stat().st_size
        if most_bytes is not None and size > most_bytes:
            raise AdapterError(f"adapter file {path} has {size:,} bytes; expected {expected}")
        with safe_open(os.fspath(path), framework="pt") as file:
            yield file
    except (FileNotFoundError, NotADirectoryError):
        raise AdapterError(f"adapter {path.parent} is incomplete: {path.name} is missing") from None
    except (OSError, SafetensorError) as error:
        raise AdapterError(f"adapter file {path} is damaged: {error}") from None
