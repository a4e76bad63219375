"""The adapters in a bank's folder: name, facts of the record, and the reason of each that is refused."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ..errors import AdapterError, InputError, UnknownNameError
from ..methods import METHODS, Quantization
from ..records import RECORD_FILE, TENSOR_FILES, RunRecord
from ..resizing import Resizing
from ..saved import read_record_and_recipe
from ..settings import MethodConfig, Recipe
from .predictions import Summary, summary_of
from .residents import Stamp

MIXABLE = tuple(name for name, row in METHODS.items() if row.served)
"""Methods whose adapters share one pass through the backbone."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
"""Form of an adapter's name: names come from outside, and no path may be made of them."""
_FILES = (RECORD_FILE, *TENSOR_FILES)
_MOST_NAMED = 50


@dataclasses.dataclass(frozen=True)
class Entry:
    """An adapter of the folder in one state of it. Records are large, so little is kept of them."""

    name: str
    stamp: Stamp
    model: str = ""
    """The backbone it was trained on: its id,"""
    hashes: tuple[str, str] = ("", "")
    """the hashes of its weights and its settings,"""
    resizing: Resizing | None = None
    """and how images were resized for it; None where the record does not name it."""
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


class Entries:
    """The adapters of a folder as they were when each was last looked at. Threads may share it.

    Args:
        folder: Holds the adapters' folders.
        entries: Those that are there.
        checked: Gives an entry back, refused where it cannot be served.
        gone: Is told the name of an adapter that is no longer there.
    """

    def __init__(
        self, folder: Path, entries: Sequence[Entry], checked: Callable[[Entry], Entry], *, gone: Callable[[str], None]
    ) -> None:
        self._folder, self._checked, self._gone = folder, checked, gone
        self._by_name = {entry.name: checked(entry) for entry in entries}

    def all(self) -> list[Entry]:
        """All entries, in the alphabetical order of their names."""
        return [entry for _, entry in sorted(self._by_name.items())]

    def served(self) -> list[str]:
        """The names of those that are not refused, in alphabetical order."""
        return [entry.name for entry in self.all() if not entry.refusal]

    def refresh(self) -> None:
        """Look through the folder again.

        Raises:
            InputError: It can no longer be read.
        """
        there = dict(adapter_folders(self._folder))
        for name in self._by_name.keys() - {path.name for path in there}:
            self._forget(name)
        for path, stamp in there.items():
            known = self._by_name.get(path.name)
            if known is None or known.stamp != stamp:
                self._by_name[path.name] = self._checked(entry_of(path))

    def folder_of(self, name: str) -> Path:
        """The folder of an adapter; never a path that a name from outside could lead to.

        Raises:
            UnknownNameError: No adapter can have that name.
        """
        if not NAME.fullmatch(name):
            raise self._unknown(name)
        return self._folder / name

    def entry(self, name: str, stamp: Stamp) -> Entry:
        """The entry of an adapter in this state, read again where it was in another.

        Raises:
            UnknownNameError: There is nothing of it.
        """
        folder = self.folder_of(name)
        if is_gone(stamp):
            self._forget(name)
            raise self._unknown(name)
        entry = self._by_name.get(name)
        if entry is None or entry.stamp != stamp:
            entry = self._by_name[name] = self._checked(entry_of(folder))
        return entry

    def refuse(self, entry: Entry, why: str) -> None:
        """Serve an adapter in this state no longer."""
        self._by_name[entry.name] = entry.refused(why)

    def _forget(self, name: str) -> None:
        self._by_name.pop(name, None)
        self._gone(name)

    def _unknown(self, name: str) -> UnknownNameError:
        names = self.served()
        many = f"{len(names):,} adapters, which names() lists"
        return UnknownNameError("adapter", name[:128], names if len(names) <= _MOST_NAMED else [many])


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
    """Tell whether there is nothing of an adapter."""
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
            resizing=record.resizing,
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
