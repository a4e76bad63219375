"""The folder of a grid, which ``lowshot bench`` writes and ``lowshot report`` reads: JSON, safetensors and locks.

``done/KEY.json`` is a run's record, ``failed/KEY.json`` why it failed, ``partial/KEY.training.safetensors`` the state
of its training as long as it is under way, ``partial/KEY.lock`` who is at it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import platform
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from filelock import lock_descriptor

from .errors import InputError, OutputError
from .files import UNREAD, canonical_json, read_json_object, remove, write_text
from .records import RunRecord

_DONE, _FAILED, _PARTIAL = "done", "failed", "partial"
_STATE = ".safetensors"
_STATES = (_STATE, ".choice.json")
"""Endings of what ``fit`` keeps beside a checkpoint, and of the checkpoint."""
_MOST_NAMED = 3


class Run(Protocol):
    """A run as its folder knows it."""

    @property
    def key(self) -> str:
        """Name of the run's files."""

    @property
    def data(self) -> str:
        """Data set that it learns."""

    @property
    def label(self) -> str:
        """The run in a few words."""


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
    """File of the state of its training."""
    lock: Path
    mark: str
    """Content of ``lock`` behind its first byte, and of no other file."""

    def state_seen_here(self) -> Path | None:
        """Return ``state`` on whichever machine does the run; None where this folder is not on one of its disks."""
        try:
            with self.lock.open(encoding="utf-8") as file:
                file.seek(len(UNREAD))
                return self.state if file.read() == self.mark else None
        except OSError:
            return None


class RunsFolder:
    """The folder as the process sees it that does its runs: one file for each, named by ``Run.key``.

    Args:
        path: The folder; it is made if it does not exist.

    Raises:
        OutputError: It cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        for part in (_DONE, _FAILED, _PARTIAL):
            try:
                (path / part).mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise OutputError(f"folder of runs {path} cannot be made: {error.strerror or error}") from error

    def is_done(self, run: Run) -> bool:
        """Whether a run has a record; it is not read."""
        return self._record(run).exists()

    def record(self, run: Run) -> RunRecord | None:
        """Return the record of a run, if it is done.

        Raises:
            InputError: The file is damaged; the message says what to do.
        """
        path = self._record(run)
        if not path.exists():
            return None
        try:
            return RunRecord.from_dict(read_json_object(path))
        except InputError as error:
            raise InputError(f"record {path} cannot be used: {error}; remove it, and the run is done again") from None

    def failure(self, run: Run) -> Failure | None:
        """Return why a run failed the last time, if it did."""
        path = self._failure(run)
        if self.is_done(run) or not path.exists():
            return None
        values = read_json_object(path)
        return Failure(**{field.name: str(values.get(field.name, "")) for field in dataclasses.fields(Failure)})

    def keep(self, run: Run, record: RunRecord) -> None:
        """Write a record; from now on the run is done."""
        write_text(self._record(run), canonical_json(record.to_dict()))
        self._failure(run).unlink(missing_ok=True)
        self._remove_states(f"{run.key}.*")  # a calibration's folds have theirs

    def keep_failure(self, run: Run, error: str) -> None:
        """Write why a run failed."""
        failure = Failure(run.data, run.label, error)
        write_text(self._failure(run), canonical_json(dataclasses.asdict(failure)))

    def tidy(self) -> None:
        """Remove states of runs that are done: whoever was killed right after it had kept a record left them."""
        self._remove_states("*")

    def checkpoint(self, run: Run) -> Path:
        """Return the file in which a run keeps the state of its training."""
        return self.path / _PARTIAL / f"{run.key}.training{_STATE}"

    @contextlib.contextmanager
    def claimed(self, run: Run) -> Iterator[Claim | None]:
        """Hold the right to do a run; None where another process is at it.

        The claim ends with the block, and with the process, however that ends. The lock's file stays: who removed it
        might remove another's.

        Raises:
            OutputError: The disk has no locks.
        """
        path = self.path / _PARTIAL / f"{run.key}.lock"
        with path.open("a", encoding="utf-8") as file:  # what another process wrote there stays until the lock is ours
            try:
                is_ours = lock_descriptor(file.fileno(), blocking=False)
            except OSError as error:  # taken for another's lock, it would leave every run to nobody
                raise OutputError(
                    f"lock {path} cannot be had: {error.strerror or error}; expected a disk with locks (flock): "
                    "choose another --out, or mount this one with them"
                ) from error
            if not is_ours:
                yield None
                return
            mark = f"{platform.node()} {os.getpid()} {uuid.uuid4()}\n"
            file.truncate(0)
            file.write(UNREAD + mark)
            file.flush()
            os.fsync(file.fileno())
            yield Claim(self.checkpoint(run), path, mark)

    def _record(self, run: Run) -> Path:
        return self.path / _DONE / f"{run.key}.json"

    def _failure(self, run: Run) -> Path:
        return self.path / _FAILED / f"{run.key}.json"

    def _remove_states(self, pattern: str) -> None:
        for state in (path for end in _STATES for path in (self.path / _PARTIAL).glob(pattern + end)):
            if (self.path / _DONE / f"{_key(state)}.json").exists():
                remove(state)


class Claims:
    """The runs that this process is at, until ``close``.

    Args:
        runs: The folder of the grid.
    """

    def __init__(self, runs: RunsFolder) -> None:
        self._runs = runs
        self._locks: dict[str, contextlib.ExitStack] = {}

    def take(self, run: Run) -> Claim | None:
        """Claim a run; None where another process is at it, or has done it by now."""
        with contextlib.ExitStack() as lock:
            claim = lock.enter_context(self._runs.claimed(run))
            if claim is None or self._runs.is_done(run):
                return None
            self._locks[run.key] = lock.pop_all()
            return claim

    def give_back(self, run: Run) -> None:
        """Let go of a run that this process is not at any more."""
        self._locks.pop(run.key).close()

    def close(self) -> None:
        """Let go of all runs."""
        for lock in self._locks.values():
            lock.close()


@dataclasses.dataclass(frozen=True)
class Runs:
    """All that is in folders of runs, as a report reads them."""

    records: tuple[RunRecord, ...]
    """Records of the runs that are done, by folder and key."""
    failed: int = 0
    """Runs that ended with an error and have no record."""
    under_way: int = 0
    """Runs that began and have neither a record nor an error."""


def read_runs(folders: Sequence[Path]) -> Runs:
    """Read the records of all folders. A run that several folders have alike counts once.

    Args:
        folders: Each as ``RunsFolder`` writes it.

    Raises:
        InputError: A folder has no record, a record is damaged, or two folders tell differently of one run.
    """
    files: list[Path] = []
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"runs {folder} is no folder; expected one that lowshot bench --out wrote")
        of_folder = sorted((folder / _DONE).glob("*.json"))
        if not of_folder:
            hint = "its runs failed, see failed/" if any((folder / _FAILED).glob("*.json")) else "no done/*.json"
            raise InputError(f"folder {folder} has no records: {hint}; expected one that lowshot bench --out wrote")
        files += of_folder
    records, damaged = {}, []
    for path in files:
        try:
            records[path] = RunRecord.from_dict(read_json_object(path))
        except (InputError, OSError) as error:
            damaged.append(str(error) if str(path) in str(error) else f"{path}: {error}")
    if damaged:
        more = f"; and {len(damaged) - _MOST_NAMED} more" if len(damaged) > _MOST_NAMED else ""
        raise InputError(
            f"{len(damaged)} of {len(files)} records cannot be used: {'; '.join(damaged[:_MOST_NAMED])}{more}; "
            "remove them, and lowshot bench does their runs again"
        )
    first: dict[str, Path] = {}
    for path, record in records.items():
        if records[first.setdefault(_key(path), path)] != record:
            raise InputError(
                f"{first[_key(path)]} and {path} are records of one run and differ; expected it once: report on one of "
                "the folders"
            )
    failed = _keys(folders, _FAILED, ".json") - set(first)
    under_way = _keys(folders, _PARTIAL, _STATE) - set(first) - failed
    return Runs(tuple(records[path] for path in first.values()), len(failed), len(under_way))


def _keys(folders: Sequence[Path], part: str, ending: str) -> set[str]:
    """Return the runs that have a file in this part of a folder."""
    return {_key(path) for folder in folders for path in (folder / part).glob(f"*{ending}")}


def _key(path: Path) -> str:
    return path.name.partition(".")[0]
