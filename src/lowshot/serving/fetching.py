"""Adapters as they lie on disk now, in memory and in use for as long as something is computed with them."""

from __future__ import annotations

import threading
from collections.abc import Generator, Sequence
from pathlib import Path

from ..errors import AdapterError, InputError, LowshotError
from .entries import Entries, read_entry, stamp_of
from .loader import Loader
from .residents import Resident, Residents, Stamp

_MOST_TRIES = 3


class Fetcher:
    """Takes adapters into memory, one at a time, in one state of their files. Threads may share it.

    Args:
        entries: The adapters of the folder.
        residents: Those in memory.
        loader: Reads one.
    """

    def __init__(self, entries: Entries, residents: Residents, loader: Loader) -> None:
        self._entries = entries
        self._residents = residents
        self._loader = loader
        self._loading = threading.Lock()

    def parts(self, names: Sequence[str]) -> Generator[tuple[dict[str, Resident], dict[str, LowshotError]], None, None]:
        """Adapters that fit into memory together, in use until the next are asked for; and errors of the others."""
        part: dict[str, Resident] = {}
        errors: dict[str, LowshotError] = {}
        try:
            for name in names:
                try:
                    resident, is_in = self.fetch(name, may_wait=not part)
                    if not is_in:
                        yield part, {}
                        self._residents.release(part.values())
                        part = {}
                        self._residents.admit(resident, may_wait=True)
                    part[name] = resident
                except LowshotError as error:
                    errors[name] = error
            yield part, errors
        finally:
            self._residents.release(part.values())

    def fetch(self, name: str, *, may_wait: bool) -> tuple[Resident, bool]:
        """An adapter as it is on disk now, and whether it was taken into memory; then it is in use.

        Args:
            name: The adapter.
            may_wait: As for ``Residents.admit``.

        Raises:
            UnknownNameError: It is not there.
            AdapterError: It is refused, or larger than the memory.
        """
        folder = self._entries.folder_of(name)
        if resident := self._residents.get(name, stamp_of(folder)):
            return resident, True
        with self._loading:
            stamp = stamp_of(folder)
            if resident := self._residents.get(name, stamp):  # another thread may have loaded it meanwhile
                return resident, True
            resident = self._read(folder, stamp)
        return resident, self._residents.admit(resident, may_wait=may_wait)

    def _read(self, folder: Path, stamp: Stamp) -> Resident:
        """Read an adapter's files in one state of them."""
        for _ in range(_MOST_TRIES):
            entry = self._entries.entry(folder.name, stamp)
            result: Resident | InputError
            try:
                entry.check()
                result = self._loader.load(folder, stamp, *read_entry(folder))
            except InputError as error:
                result = error
            if stamp_of(folder) != stamp:  # one half of what was read may be of another state than the other
                stamp = stamp_of(folder)
                continue
            if isinstance(result, Resident):
                return result
            self._entries.refuse(entry, str(result))
            self._residents.drop(folder.name)
            raise AdapterError(str(result))
        raise AdapterError(f"adapter {folder} changed on disk again and again while it was read; ask once more")
