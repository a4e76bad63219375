"""One at a time in a folder, by a lock that the operating system drops when its holder dies, however it dies."""

from __future__ import annotations

import contextlib
import errno
import os
import platform
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from ...errors import OutputError

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
        work: Work that is done meanwhile, for those who wait.
        say: Receives a line if there is somebody to wait for.

    Raises:
        OutputError: The folder cannot be written.
    """
    path = folder / FILE
    lock = FileLock(path, fallback_to_soft=False)  # a soft lock would outlive a holder that is killed
    try:
        try:
            lock.acquire(blocking=False)
        except Timeout:
            holder = ""
            with contextlib.suppress(OSError):
                holder = path.read_text(encoding="utf-8", errors="replace")[:200]
            say(f"waiting for {holder or 'another process'}, which works in {folder}")
            lock.acquire(poll_interval=SECONDS_BETWEEN_TRIES)
    except OSError as error:
        if error.errno not in _WITHOUT_LOCKS:
            raise OutputError(f"{folder} cannot be written: {error.strerror or error}") from error
    try:
        with contextlib.suppress(OSError):  # Windows lets nobody write what is locked: then the holder has no name
            path.write_text(f"{work} (process {os.getpid()} on {platform.node()})", encoding="utf-8")
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows does not remove what is open; the next holder does not mind
            path.unlink()
        lock.release()
