"""One at a time in a folder, by a lock that the operating system drops when its holder dies, however it dies."""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ...errors import OutputError
from ...files import take_lock

FILE = ".preparing"
"""The locked file; who holds the lock is written in it. It is gone when the lock is."""
SECONDS_BETWEEN_TRIES = 1.0
_WITHOUT_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})


@contextlib.contextmanager
def locked(folder: Path, work: str, say: Callable[[str], None]) -> Iterator[None]:
    """Hold a folder's lock; who comes second waits, and says for whom.

    On a file system that has no locks, as some network disks, there is none.

    Args:
        folder: An existing folder.
        work: What is done meanwhile, for those who wait.
        say: Receives a line if there is somebody to wait for.

    Raises:
        OutputError: The folder cannot be written.
    """
    path = folder / FILE
    handle = _acquired(path, say)
    try:
        os.ftruncate(handle, 0)
        os.write(handle, f"{work} (process {os.getpid()} on {platform.node()})".encode())
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows does not remove what is open; the next holder does not mind
            path.unlink()
        os.close(handle)


def _acquired(path: Path, say: Callable[[str], None]) -> int:
    said = False
    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise OutputError(f"{path.parent} cannot be written: {error.strerror or error}") from error
        if _try(handle) and _is_still(path, handle):
            return handle
        os.close(handle)
        if not said:
            say(f"waiting for {_holder(path)}, which works in {path.parent}")
            said = True
        time.sleep(SECONDS_BETWEEN_TRIES)


def _try(handle: int) -> bool:
    try:
        return take_lock(handle)
    except OSError as error:
        return error.errno in _WITHOUT_LOCKS


def _is_still(path: Path, handle: int) -> bool:
    """Whether the file that was locked is the one under the name: its former holder may just have removed it."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _holder(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")[:200] or "another process"
    except OSError:
        return "another process"
