"""The class embeddings of adapters, each computed once on a machine: tables in memory, and files in the cache."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional

from ..data import Prompts, long_prompts_named
from ..errors import OutputError
from ..files import cache_folder, write_bytes
from ..models import Backbone
from ..models.classes import embedded
from .bases import Bases
from .mixing import Rows, Updates, mixed
from .residents import ClassTable

CLASSES_VERSION = 2
"""Changes when the same adapter would get other class embeddings."""
_PROMPTS_AT_ONCE = 64


class ClassTables:
    """Class tables for one backbone; adapters with equal classes, prompts and text tower share one.

    Args:
        backbone: With its linear layers wrapped.
        rows: Knows whose rows go through those layers.
        bases: Shared bases, those of the adapters' text updates included.
        computed_in: Whatever else decides what the backbone computes: precision of the weights, floating type.
        dtype: Of the class embeddings that are kept.
    """

    def __init__(
        self, backbone: Backbone, rows: Rows, bases: Bases, computed_in: Sequence[str], dtype: torch.dtype
    ) -> None:
        self._backbone = backbone
        self._rows = rows
        self._bases = bases
        self._dtype = dtype
        identity = backbone.identity
        hashes = (identity.weights_sha256, identity.settings_sha256)
        self._model = (*hashes, *computed_in, backbone.device.type, str(dtype))
        self._tables: weakref.WeakValueDictionary[str, ClassTable] = weakref.WeakValueDictionary()

    def of_rows(self, names: tuple[str, ...], rows: Tensor, *, as_they_are: bool) -> ClassTable:
        """The table of C classes that are rows of a classifier, which no other adapter has.

        Args:
            names: C class names.
            rows: ``(C, D)``.
            as_they_are: Whether their lengths count; else each is brought to length 1.
        """
        device = self._backbone.device
        used = rows.to(device) if as_they_are else functional.normalize(rows.to(device), dim=-1)
        return ClassTable(names, used.to(self._dtype), torch.zeros(len(names), device=device))

    @torch.no_grad()
    def table(self, names: tuple[str, ...], prompts: Prompts, text: Updates) -> ClassTable:
        """The table of C classes: the one in memory, one computed earlier on this machine, or a new one.

        Args:
            names: C class names.
            prompts: Of each class.
            text: What an adapter adds in the text tower.
        """
        facts = json.dumps([CLASSES_VERSION, names, prompts, self._model, _content(text)])
        key = hashlib.sha256(facts.encode()).hexdigest()
        table = self._tables.get(key)
        if table is not None:
            return table
        path = cache_folder() / "classes" / key[:2] / f"{key}.safetensors"
        tensors = _read(path, key)
        if tensors is None:
            with long_prompts_named(names, prompts), self._rows.of(mixed([text], self._bases.at)):
                embeddings, lengths = embedded(self._backbone, prompts, _PROMPTS_AT_ONCE)
            tensors = {"embeddings": embeddings.to("cpu", self._dtype), "lengths": lengths.cpu()}
            with contextlib.suppress(OutputError):  # a cache that cannot be written costs time, nothing else
                write_bytes(path, bytes(save(tensors, metadata={"sha256": _sha256(key, tensors)})))
        here = {name: tensor.to(self._backbone.device) for name, tensor in tensors.items()}
        table = self._tables[key] = ClassTable(names, **here)
        return table


def _content(updates: Updates) -> str:
    """Hash of what an adapter adds in a tower; empty if it is nothing."""
    if not updates.nbytes:
        return ""
    tensors = {f"{name}.{side}": getattr(own, side) for name, own in updates.own.items() for side in ("a", "b")}
    if updates.middles is not None:
        tensors["middles"] = updates.middles
    return _sha256(repr(updates.layers), tensors)


def _sha256(text: str, tensors: Mapping[str, Tensor]) -> str:
    return hashlib.sha256(text.encode() + save(dict(tensors))).hexdigest()


def _read(path: Path, key: str) -> dict[str, Tensor] | None:
    """The tensors written under a key, to the last bit; None where there are none, or anything else."""
    try:
        with safe_open(os.fspath(path), framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in ("embeddings", "lengths")}
            sha256 = (file.metadata() or {}).get("sha256")
    except (OSError, SafetensorError):
        return None
    return tensors if sha256 == _sha256(key, tensors) else None
