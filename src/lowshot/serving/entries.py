"""The adapters in a bank's folder: name, facts of the record, and the reason of each that is refused."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterator
from pathlib import Path

from ..errors import AdapterError, InputError
from ..methods import METHODS, Quantization
from ..records import RECORD_FILE, TENSOR_FILES, RunRecord
from ..saved import read_record_and_recipe
from ..settings import MethodConfig, Recipe
from .predictions import Summary, summary_of
from .residents import Stamp

MIXABLE = tuple(name for name, row in METHODS.items() if row.served)
"""Methods whose adapters share one pass through the backbone."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
"""Form of an adapter's name: names come from outside, and no path may be made of them."""
_FILES = (RECORD_FILE, *TENSOR_FILES)


@dataclasses.dataclass(frozen=True)
class Entry:
    """An adapter of the folder in one state of it. Records are large, so little is kept of them."""

    name: str
    stamp: Stamp
    model: str = ""
    """The backbone it was trained on: its id,"""
    hashes: tuple[str, str] = ("", "")
    """and the hashes of its weights and its settings."""
    quantize: Quantization = "none"
    quantize_projection: bool = False
    precision: str = "auto"
    """As recorded: the type that it was trained in."""
    method: MethodConfig = dataclasses.field(default_factory=MethodConfig)
    summary: Summary | None = None
    """For a list; None where the record cannot be used."""
    refusal: str = ""
    """Why it is not served; empty if it is."""

    def refused(self, why: str) -> Entry:
        """The same, not served."""
        return dataclasses.replace(self, refusal=why)

    def check(self) -> None:
        """Raise the reason for which it is not served, if there is one."""
        if self.refusal:
            raise AdapterError(self.refusal)


def stamp_of(folder: Path) -> Stamp:
    """State of an adapter's files, which changes whenever one is written or the folder replaced."""
    within = os.fspath(folder)  # joined as text: this is asked of every adapter of every batch
    stamp: list[tuple[int, ...] | None] = []
    for name in _FILES:
        try:
            status = os.stat(os.path.join(within, name))  # noqa: PTH116, PTH118
        except OSError:
            stamp.append(None)
        else:
            stamp.append((status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size))
    return tuple(stamp)


def is_gone(stamp: Stamp) -> bool:
    """Whether there is nothing of an adapter."""
    return not any(stamp)


def entry_of(folder: Path) -> Entry:
    """The entry of an adapter by its record; where that cannot be used, refused with the reason."""
    entry = Entry(folder.name, stamp_of(folder))
    if not NAME.fullmatch(folder.name):
        return entry.refused(
            f"adapter {folder} has a name that no bank serves; expected letters, digits, dots, dashes and underscores, "
            "128 at most: rename the folder"
        )
    try:
        record, recipe = read_entry(folder)
        method, refusal = recipe.method.method, ""
        if method not in MIXABLE:
            refusal = (
                f"adapter {folder} has method {method}, which cannot share a pass through the backbone with others; "
                f"expected {', '.join(MIXABLE)}: predict with it by lowshot predict or FewShotClassifier"
            )
        return dataclasses.replace(
            entry,
            model=recipe.model.loaded,
            hashes=(str(record.model.get("weights_sha256")), str(record.model.get("settings_sha256"))),
            quantize=recipe.model.quantize,
            quantize_projection=recipe.model.quantize_projection,
            precision=recipe.model.precision,
            method=recipe.method,
            summary=summary_of(folder.name, record, recipe.method),
            refusal=refusal,
        )
    except InputError as error:
        return entry.refused(str(error))


def read_entry(folder: Path) -> tuple[RunRecord, Recipe]:
    """An adapter's record and its recipe.

    Raises:
        AdapterError: The record is missing, damaged or cannot be read.
    """
    try:
        return read_record_and_recipe(folder)
    except OSError as error:
        raise AdapterError(f"adapter {folder} cannot be read: {error.strerror or error}") from None


def adapter_folders(folder: Path) -> Iterator[tuple[Path, Stamp]]:
    """The folders in which there is an adapter or a part of one, and the state of each.

    Hidden ones, such as those being written, are none.

    Raises:
        InputError: The folder is not there, is none, or cannot be read.
    """
    try:
        inside = sorted(folder.iterdir())
    except FileNotFoundError:
        raise InputError(
            f"folder {folder} does not exist; expected one with an adapter in each of its folders"
        ) from None
    except OSError as error:
        raise InputError(f"folder {folder} cannot be read: {error.strerror or error}") from None
    for path in inside:
        if path.name.startswith("."):
            continue
        stamp = stamp_of(path)
        if not is_gone(stamp):
            yield path, stamp
