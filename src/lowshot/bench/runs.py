"""The folder of a grid: what is done, what failed, what is under way. Everything in it is JSON or safetensors."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import platform
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from ..errors import InputError, OutputError
from ..files import canonical_json, read_json_object, remove, take_lock, write_text
from ..records import RunRecord
from .grid import Cell

_STATES = (".safetensors", ".choice.json")
"""Endings of what ``fit`` keeps beside a checkpoint, and of the checkpoint."""


@dataclasses.dataclass(frozen=True)
class Failure:
    """A run that ended with an error."""

    data: str
    label: str
    error: str


@dataclasses.dataclass(frozen=True)
class Claim:
    """A run that this process may do, and no other one meanwhile."""

    state: Path
    """Where the state of its training is kept."""
    lock: Path
    mark: str
    """What stands in ``lock``, and in no other file."""

    def state_seen_here(self) -> Path | None:
        """``state``, asked for on whichever machine does the run; None where this folder is not on one of its disks."""
        try:
            return self.state if self.lock.read_text(encoding="utf-8") == self.mark else None
        except OSError:
            return None


class RunsFolder:
    """One file for each run, named by ``Cell.key``.

    ``done/KEY.json`` is a run's record, ``failed/KEY.json`` why it failed, ``partial/KEY.training.safetensors`` the
    state of its training as long as it is under way, ``partial/KEY.lock`` who is at it.

    Args:
        path: The folder; it is made if it does not exist.

    Raises:
        OutputError: It cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        for part in ("done", "failed", "partial"):
            try:
                (path / part).mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise OutputError(f"folder of runs {path} cannot be made: {error.strerror or error}") from error

    def is_done(self, cell: Cell) -> bool:
        """Whether a run has a record; it is not read."""
        return self._done(cell).exists()

    def record(self, cell: Cell) -> RunRecord | None:
        """The record of a run, if it is done.

        Raises:
            InputError: The file is damaged; the message says what to do.
        """
        path = self._done(cell)
        if not path.exists():
            return None
        try:
            return RunRecord.from_dict(read_json_object(path))
        except InputError as error:
            raise InputError(f"record {path} cannot be used: {error}; remove it, and the run is done again") from None

    def failure(self, cell: Cell) -> Failure | None:
        """Why a run failed the last time, if it did."""
        path = self._failed(cell)
        if self._done(cell).exists() or not path.exists():
            return None
        values = read_json_object(path)
        return Failure(**{field.name: str(values.get(field.name, "")) for field in dataclasses.fields(Failure)})

    def keep(self, cell: Cell, record: RunRecord) -> None:
        """Write a record; from now on the run is done."""
        write_text(self._done(cell), canonical_json(record.to_dict()))
        self._failed(cell).unlink(missing_ok=True)
        self._remove_states(f"{cell.key}.*")  # a calibration's folds have theirs

    def tidy(self) -> None:
        """Remove states of runs that are done: whoever was killed right after it had kept a record left them."""
        self._remove_states("*")

    def _remove_states(self, pattern: str) -> None:
        for state in (path for end in _STATES for path in (self.path / "partial").glob(pattern + end)):
            if (self.path / "done" / f"{state.name.partition('.')[0]}.json").exists():
                remove(state)

    def keep_failure(self, cell: Cell, error: str) -> None:
        """Write why a run failed."""
        failure = Failure(cell.data, cell.label, error)
        write_text(self._failed(cell), canonical_json(dataclasses.asdict(failure)))

    def checkpoint(self, cell: Cell) -> Path:
        """Where a run keeps the state of its training."""
        return self.path / "partial" / f"{cell.key}.training.safetensors"

    @contextlib.contextmanager
    def claimed(self, cell: Cell) -> Iterator[Claim | None]:
        """The right to do a run; None where another process is at it.

        The claim ends with the block, and with the process, however that ends. The lock's file stays: who removed it
        might remove another's.

        Raises:
            OutputError: The disk has no locks.
        """
        path = self.path / "partial" / f"{cell.key}.lock"
        with path.open("a", encoding="utf-8") as file:  # what another process wrote there stays until the lock is ours
            if not _locked(file.fileno(), path):
                yield None
                return
            mark = f"{platform.node()} {os.getpid()} {uuid.uuid4()}\n"
            file.truncate(0)
            file.write(mark)
            file.flush()
            os.fsync(file.fileno())
            yield Claim(self.checkpoint(cell), path, mark)

    def _done(self, cell: Cell) -> Path:
        return self.path / "done" / f"{cell.key}.json"

    def _failed(self, cell: Cell) -> Path:
        return self.path / "failed" / f"{cell.key}.json"


class Claims:
    """The runs that this process is at. The claims end with the block.

    Args:
        runs: The folder of the grid.
    """

    def __init__(self, runs: RunsFolder) -> None:
        self._runs = runs
        self._held: dict[str, contextlib.ExitStack] = {}

    def __enter__(self) -> Claims:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for held in self._held.values():
            held.close()

    def take(self, cell: Cell) -> Claim | None:
        """Claim a run; None where another process is at it, or has done it by now."""
        with contextlib.ExitStack() as held:
            claim = held.enter_context(self._runs.claimed(cell))
            if claim is None or self._runs.is_done(cell):
                return None
            self._held[cell.key] = held.pop_all()
            return claim

    def give_back(self, cell: Cell) -> None:
        """This process is not at the run any more."""
        self._held.pop(cell.key).close()


def _locked(descriptor: int, path: Path) -> bool:
    try:
        return take_lock(descriptor)
    except OSError as error:  # taken for another's lock, it would leave every run to nobody
        raise OutputError(
            f"lock {path} cannot be had: {error.strerror or error}; expected a disk with locks (flock): choose another "
            "--out, or mount this one with them"
        ) from error
