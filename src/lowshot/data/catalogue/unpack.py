"""Unpacking of archives that nobody vouches for.

Nothing is written outside the folder that is given, and nothing but plain files in folders: no links, no devices, no
permissions, no owners. How much may come out of an archive is bounded by its own size, so a bomb stops early.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import stat
import zipfile
from collections.abc import Callable, Collection, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, TypeVar

from ...errors import DataError, LowshotError, OutputError
from ...progress import Track
from ..listing import is_below
from ..tar_files import tar_members

MAXIMUM_FILES = 2_000_000
"""Files in one archive; ImageNet has 1,281,167."""
MAXIMUM_EXPANSION = 20
"""Times its own size that an archive may grow to. Photographs hardly shrink in an archive; text may, to a tenth."""
_ALWAYS_ALLOWED_BYTES = 100 << 20
_MAXIMUM_DEPTH = 64  # folders in folders
_CHUNK = 1 << 20
_ZIP_MAGIC = b"PK\x03\x04"
# A system's errors for a name that no file can have, or to one that is a file and a folder at once.
_FAULTS_OF_NAMES = {
    errno.EEXIST,
    errno.EILSEQ,
    errno.EINVAL,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ENOTDIR,
}

_Item = TypeVar("_Item")


@dataclasses.dataclass(frozen=True)
class _Member:
    """Something in an archive; nothing can be opened that is not a plain file."""

    name: str
    is_folder: bool
    open: Callable[[], IO[bytes]] | None

    @property
    def shown(self) -> str:
        """The name for messages; it may be as long as the archive's maker liked."""
        return repr(self.name[:200])

    def chunks(self) -> Iterator[bytes]:
        """Yield the content; nothing if it is no plain file."""
        if self.open is not None:
            with self.open() as source:
                while chunk := source.read(_CHUNK):
                    yield chunk


@dataclasses.dataclass
class _Left:
    """The bytes and files that may still come out of an archive."""

    archive: Path
    bytes: int
    files: int

    def take(self, size: int = 0, files: int = 0) -> None:
        self.files -= files
        self.bytes -= size
        if self.files < 0:
            raise DataError(f"archive {self.archive} holds more than {MAXIMUM_FILES:,} files; expected fewer")
        if self.bytes < 0:
            raise DataError(f"archive {self.archive} grows to more than {MAXIMUM_EXPANSION} times its size")


def unpack(
    archive: Path,
    into: Path,
    track: Track,
    warn: list[str],
    *,
    wanted: Collection[str] = (),
    nested: bool = False,
) -> None:
    """Unpack a tar file, plain or compressed, or a zip file.

    Args:
        archive: The archive.
        into: An existing, empty folder; what is unpacked comes to lie below it under the paths it has in the archive.
        track: Shows progress, in MB of the archive.
        warn: Receives a line if there were links or devices; they are left out.
        wanted: Paths in the archive; only they and what is below them is unpacked. All of it if not given.
        nested: Tar files in the tar file are unpacked too, into folders of their names.

    Raises:
        DataError: It is damaged or no archive, a path in it leads out of the folder or can be none, or too much comes
            out of it.
        OutputError: The folder cannot be written.
    """
    try:
        raw = archive.open("rb")
    except OSError as error:
        raise DataError(f"archive {archive} cannot be read: {error.strerror or error}") from error
    with raw:
        size = os.fstat(raw.fileno()).st_size
        left = _Left(archive, size * MAXIMUM_EXPANSION + _ALWAYS_ALLOWED_BYTES, MAXIMUM_FILES)
        is_zip = raw.read(len(_ZIP_MAGIC)) == _ZIP_MAGIC
        raw.seek(0)
        members = _unharmed(_zip_members(raw) if is_zip else _tar_members(raw, nested), archive)
        left_out = 0

        def steps() -> Iterator[None]:
            nonlocal left_out
            done = 0
            for member in members:
                left.take(files=1)
                if member.open is not None:
                    _extract(member, into, wanted, left)
                elif not member.is_folder:
                    left_out += 1
                while raw.tell() // _CHUNK > done:
                    done += 1
                    yield

        for _ in track(steps(), what=f"unpacking {archive.name} (MB)", total=size // _CHUNK):
            pass
    if left_out:
        warn.append(f"archive {archive}: left out {left_out} link(s) or device(s)")


def _extract(member: _Member, into: Path, wanted: Collection[str], left: _Left) -> None:
    if not is_below(member.name):
        raise DataError(f"archive {left.archive} holds {member.shown}, which leads out of its folder; do not trust it")
    name = PurePosixPath(member.name)
    if wanted and not any(name.is_relative_to(path) for path in wanted):
        return
    if len(name.parts) > _MAXIMUM_DEPTH:
        raise DataError(f"archive {left.archive} holds a file in {len(name.parts):,} folders; expected fewer")
    path = into / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as target:
            for chunk in _unharmed(member.chunks(), left.archive, member.shown):
                left.take(size=len(chunk))
                target.write(chunk)
    except OSError as error:
        if error.errno in _FAULTS_OF_NAMES:
            fault = f"{member.shown}, which can be no file: {error.strerror}"
            raise DataError(f"archive {left.archive} holds {fault}") from None
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from error


def _tar_members(raw: IO[bytes], nested: bool, folder: str = "") -> Iterator[_Member]:
    for member, opener in tar_members(raw):
        name = f"{folder}{member.name}"
        if nested and not folder and member.isreg() and name.endswith(".tar"):
            with opener() as inner:
                yield from _tar_members(inner, nested, f"{name.removesuffix('.tar')}/")
        else:
            yield _Member(name, member.isdir(), opener if member.isreg() else None)


def _zip_members(raw: IO[bytes]) -> Iterator[_Member]:
    with zipfile.ZipFile(raw) as archive:
        for member in archive.infolist():
            kind = stat.S_IFMT(member.external_attr >> 16)  # nothing where it was not made on Unix
            is_file = not member.is_dir() and kind in (0, stat.S_IFREG)
            opener = (lambda member=member: archive.open(member)) if is_file else None
            yield _Member(member.filename, member.is_dir(), opener)


def _unharmed(items: Iterator[_Item], archive: Path, name: str = "") -> Iterator[_Item]:
    """Turn what reading raises into a DataError; what is raised while an item is worked on is left alone."""
    try:
        yield from items
    except LowshotError:
        raise
    except Exception as error:  # tarfile, zipfile and the decompressors raise a dozen kinds for damaged archives
        fault = ": ".join(filter(None, (name, str(error) or type(error).__name__)))
        raise DataError(f"archive {archive} is damaged, or no tar or zip file: {fault}") from error
