"""Writing so that nothing is lost: everything appears whole under its name, or not at all."""

from __future__ import annotations

import contextlib
import errno
import functools
import glob
import json
import os
import platform
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from .errors import InputError, OutputBusyError, OutputError, OutputExistsError


def canonical_json(value: Any) -> str:
    """JSON text that is the same for equal values: sorted keys, two spaces, one newline at the end.

    Raises:
        ValueError: A number is NaN or infinite, which JSON cannot say.
    """
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def read_json_object(path: Path, maximum_bytes: int = 64 << 20) -> dict[str, Any]:
    """Read a JSON file that holds one object.

    Raises:
        FileNotFoundError: There is no such file, such as below a file that is taken for a folder.
        InputError: It cannot be read, is too large, or holds something else.
    """
    try:
        size = path.stat().st_size
    except NotADirectoryError as error:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from error
    except FileNotFoundError:
        raise
    except OSError as error:
        raise InputError(f"file {path} cannot be read: {error.strerror}") from None
    if size > maximum_bytes:
        raise InputError(f"file {path} has {size:,} bytes; expected at most {maximum_bytes:,}")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"file {path} is damaged: {error}") from None
    if not isinstance(value, dict):
        raise InputError(f"file {path} is damaged: it holds a {type(value).__name__}; expected an object")
    return value


def refuse_existing(path: Path) -> None:
    """Say early that an output folder is taken or cannot be made, before hours are spent on what should go there.

    Raises:
        OutputExistsError: ``path`` exists and is not an empty folder.
        OutputError: Its parent cannot be written, or the path is no UTF-8, so that safetensors could not read from it.
    """
    try:
        str(path.absolute()).encode("utf-8")
    except UnicodeEncodeError:
        raise OutputError(f"output {str(path)!r} is not UTF-8; choose another name") from None
    is_folder = path.is_dir() and not path.is_symlink() and not path.is_mount()
    # What is written takes the place of an empty folder, and whoever is in that would be nowhere.
    is_replaceable = is_folder and not any(path.iterdir()) and not path.samefile(os.curdir)
    if (path.exists() or path.is_symlink()) and not is_replaceable:
        raise OutputExistsError(path)
    parent = next(p for p in path.absolute().parents if p.exists())
    try:
        tempfile.TemporaryDirectory(dir=parent).cleanup()  # only trying tells: permissions, read-only disks, /proc
    except OSError as error:
        raise OutputError(f"output {path} cannot be made: {parent}: {error.strerror or error}") from error


UNREAD = " "
"""The beginning of a lock's file. On Windows it is the byte that is locked, which no other handle can read."""
ON_WINDOWS = os.name == "nt"
_TRIES, _SECONDS_BETWEEN = 20, 0.05
_WITHOUT_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})


@contextlib.contextmanager
def claimed(path: Path) -> Iterator[None]:
    """Hold the right to fill a place for the length of a block; no other process has it meanwhile.

    It is a lock on a file beside the place, ``.NAME.lock``, which the operating system gives back when its holder dies,
    however it dies. On a file system that has no locks there is none.

    Raises:
        OutputBusyError: Another process has it.
        OutputError: The place's parent cannot be written.
    """
    path = path.absolute()
    lock, missing = path.with_name(f".{path.name}.lock"), [parent for parent in path.parents if not parent.exists()]
    with contextlib.ExitStack() as last:
        for parent in reversed(missing):
            last.callback(_removed, parent.rmdir)  # where it is empty
        with os_errors_about(path):
            lock.parent.mkdir(parents=True, exist_ok=True)
            file = last.enter_context(_locked(path, lock))
            file.truncate(0)
            file.write(f"{UNREAD}process {os.getpid()} on {platform.node()}")
            file.flush()
        last.callback(_removed, lock.unlink)  # while it is locked
        yield


def _locked(path: Path, lock: Path) -> TextIO:
    """Open and lock a file; closing it gives the lock back.

    Raises:
        OutputBusyError: Another process has locked it.
        OSError: It cannot be opened, or locked.
    """
    from filelock import lock_descriptor

    while True:
        file = lock.open("a+", encoding="utf-8")
        try:
            is_ours = lock_descriptor(file.fileno(), blocking=False)
        except OSError as error:
            if error.errno not in _WITHOUT_LOCKS:
                file.close()
                raise
            return file
        if is_ours and lock.exists() and os.path.samestat(lock.stat(), os.fstat(file.fileno())):
            return file
        with file:  # the holder before removed it after we had opened it, if it is ours
            file.seek(len(UNREAD))
            if not is_ours:
                raise OutputBusyError(path, file.read(200).strip())


def _removed(remove: Callable[[], None]) -> None:
    with contextlib.suppress(OSError):  # Windows does not remove what is open; the next holder does not mind
        remove()


@contextlib.contextmanager
def os_errors_about(path: Path) -> Iterator[None]:
    """Raise OutputError about this output for an OSError in the block."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"output {path} cannot be written: {error.strerror or error}") from error


@contextlib.contextmanager
def folder_written_aside(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``path``; on success it is synced and renamed to ``path``.

    If the block raises, or the process dies, ``path`` is as it was: absent or an empty folder.

    Raises:
        OutputError: ``path`` exists and is not empty, or cannot be written.
    """
    refuse_existing(path)
    path = path.absolute()
    with _synced_aside(path) as aside:
        yield aside
        _make_lasting(aside)
        if path.exists():
            path.rmdir()


@contextlib.contextmanager
def folder_replaced(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``path``; on success it is synced and takes the place of ``path``.

    What was there is ``.NAME.before`` from then on, in place of an earlier one. If the block raises, ``path`` is as it
    was. If the process dies, ``path`` or ``.NAME.before`` is whole: between two renames there is no ``path``.

    Raises:
        OutputError: It cannot be written.
    """
    path = path.absolute()
    before = path.with_name(f".{path.name}.before")
    with _synced_aside(path) as aside:
        yield aside
        _make_lasting(aside)
        if before.exists():
            shutil.rmtree(before)
        path.rename(before)


@contextlib.contextmanager
def _synced_aside(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside an absolute path, which it is renamed to after the block."""
    with os_errors_about(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent))
    try:
        with os_errors_about(path):
            yield aside
            aside.rename(path)
            sync(path.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _make_lasting(folder: Path) -> None:
    """Sync all files of a folder that was made privately, and let everybody read them."""
    for entry in (*folder.rglob("*"), folder):
        entry.chmod(0o755 if entry.is_dir() else 0o644)  # temporary and safetensors files are made private
        sync(entry)


def from_home(path: str | os.PathLike[str]) -> Path:
    """A path with ``~`` for the home folder; where nobody knows that, as in some containers, as it stands there."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def is_spelt_as_path(text: str) -> bool:
    r"""Whether a text can be meant as a path alone: it begins as one, or has a separator that names do not have.

    ``OWNER/NAME`` is a name; ``adapters\pets`` and ``C:\adapters`` are paths on Windows.
    """
    return text.startswith((".", "/", "~")) or (os.sep != "/" and os.sep in text)


def cache_folder() -> Path:
    """Folder of results that can be computed again: ``$LOWSHOT_CACHE``, else ``lowshot`` in the user's cache.

    Where the user has no home folder it is one for temporary files, which may be gone with the next start.
    """
    chosen = os.environ.get("LOWSHOT_CACHE")
    if chosen:
        return Path(chosen)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lowshot"
    except RuntimeError:  # a container's user without HOME and without a line in /etc/passwd
        return _temporary_cache()


@functools.cache
def _temporary_cache() -> Path:
    """A folder that nobody else can have put anything into: the user's own, or this process's."""
    with contextlib.suppress(OSError, AttributeError):  # Windows has no numbers of users
        owner = os.getuid()
        folder = Path(tempfile.gettempdir()) / f"lowshot-{owner}"
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
        if stat.S_ISDIR(status.st_mode) and status.st_uid == owner and not status.st_mode & 0o022:
            return folder
    return Path(tempfile.mkdtemp(prefix="lowshot-"))


def write_text(path: Path, text: str) -> None:
    """Replace one file by ``text``, as ``write_bytes`` does.

    Half a character, as Python has for a byte of a file's name that is no UTF-8, is written as its escape, which JSON
    reads back.

    Raises:
        OutputError: It cannot be written.
    """
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_bytes(path: Path, content: bytes) -> None:
    """Replace one file by ``content``: written aside, synced, renamed.

    Raises:
        OutputError: It cannot be written.
    """
    with file_written_aside(path) as file:
        file.write(content)


@contextlib.contextmanager
def file_written_aside(path: Path) -> Iterator[BinaryIO]:
    """Yield a temporary file beside ``path``; on success it is synced and takes the place of what was there.

    Raises:
        OutputError: It cannot be written.
    """
    with os_errors_about(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        aside = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            aside.chmod(0o644)
            _put_in_place(aside, path)  # closed before: Windows renames nothing that is open
        except BaseException:
            aside.unlink(missing_ok=True)
            raise
        sync(path.parent)


def _put_in_place(aside: Path, path: Path) -> None:
    """Rename a file over another. Windows refuses while somebody reads that one, which is a moment as a rule."""
    for _ in range(_TRIES if ON_WINDOWS else 0):
        try:
            aside.replace(path)
        except PermissionError:
            time.sleep(_SECONDS_BETWEEN)
        else:
            return
    aside.replace(path)


def remove(path: Path) -> None:
    """Remove a file, if it is there, and what processes that were killed in the middle of a write left beside it."""
    for each in (path, *path.parent.glob(f".{glob.escape(path.name)}.*")):
        each.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk."""
    if path.is_dir() and ON_WINDOWS:  # Windows has no handle on a folder that could be synced.
        return
    handle = os.open(path, os.O_RDWR if ON_WINDOWS else os.O_RDONLY)  # nor does it sync what may only be read
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
