"""The tensors of a TorchScript archive, as OpenAI publishes its models in, without running anything of it.

Such an archive is a zip: a pickle of the module's attributes, a file with the bytes of each tensor, and the module's
code. The code is not read. The pickle is read by a reader that knows how to build tensors and plain values alone.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...errors import InputError, first_line

_TYPES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "BoolStorage": torch.bool,
}


def is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def archive_tensors(path: Path) -> dict[str, Tensor]:
    """Every tensor of the module in an archive, by the name it has in the module's state.

    Raises:
        InputError: The archive is damaged, or its pickle asks for more than tensors and plain values.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            root = next(name for name in archive.namelist() if name.endswith("/data.pkl")).removesuffix("/data.pkl")
            with archive.open(f"{root}/data.pkl") as file:
                return dict(_named(_Reader(file, archive, f"{root}/data").load(), ""))
    except InputError:
        raise
    except Exception as error:  # a damaged pickle raises whatever it likes
        raise InputError(f"its TorchScript archive cannot be read: {first_line(error)}") from error


class _Object:
    """Stands for a module, whatever its class: its attributes, and nothing that could be run."""

    def __setstate__(self, state: Any) -> None:
        self.attributes = state if isinstance(state, dict) else {}


class _Reader(pickle.Unpickler):
    """Knows the few names that an archive of plain modules needs."""

    def __init__(self, file: Any, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(file)
        self._archive = archive
        self._folder = folder

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("__torch__"):
            return _Object
        if module == "torch" and name in _TYPES:
            return _TYPES[name]
        known = {
            ("torch._utils", "_rebuild_tensor_v2"): _tensor,
            ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
            ("collections", "OrderedDict"): dict,
            ("torch.jit._pickle", "restore_type_tag"): lambda value, _: value,
            **{("torch.jit._pickle", f"build_{kind}list"): list for kind in ("int", "bool", "double", "tensor")},
        }
        if (module, name) not in known:
            raise InputError(f"its TorchScript archive asks for {module}.{name}, which is more than tensors; refused")
        return known[module, name]

    def persistent_load(self, pid: Any) -> Tensor:
        _, dtype, key, *_ = pid
        content = bytearray(self._archive.read(f"{self._folder}/{key}"))
        return torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)


def _tensor(storage: Tensor, offset: int, size: Any, stride: Any, *_: Any) -> Tensor:
    return torch.as_strided(storage, tuple(size), tuple(stride), offset)


def _named(value: Any, prefix: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield prefix, value
    elif isinstance(value, _Object):
        for name, each in value.attributes.items():
            yield from _named(each, f"{prefix}.{name}" if prefix else str(name))
