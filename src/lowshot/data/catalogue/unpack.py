"""Unpacking of archives that nobody vouches for.

Nothing is written outside the folder that is given, and nothing but plain files in folders: no links, no devices, no
permissions, no owners. How much may come out of an archive is bounded by its own size, so a bomb stops early.
"""

from __future__ import annotations

import dataclasses
import stat
import tarfile
import zipfile
from collections.abc import Callable, Collection, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, TypeVar

from ...errors import DataError, LowshotError, OutputError
from ...progress import Track
from ..listing import is_below

MAXIMUM_FILES = 2_000_000
"""Files in one archive; ImageNet has 1,281,167."""
MAXIMUM_EXPANSION = 20
"""Times its own size that an archive may grow to. Photographs hardly shrink in an archive; text may, to a tenth."""
_ALWAYS_ALLOWED_BYTES = 100 << 20
_CHUNK = 1 << 20
_PADDING_CHUNKS = 16
_ZIP_MAGIC = b"PK\x03\x04"

_Item = TypeVar("_Item")


@dataclasses.dataclass(frozen=True)
class _Member:
    """Something in an archive; nothing can be opened that is not a plain file."""

    name: str
    is_folder: bool
    open: Callable[[], IO[bytes]] | None


@dataclasses.dataclass
class _Left:
    """What may still come out of an archive."""

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
        into: An existing folder; what is unpacked comes to lie below it under the paths it has in the archive.
        track: Shows progress, in MB of the archive.
        warn: Receives a line if there were links or devices; they are left out.
        wanted: Paths in the archive; only they and what is below them is unpacked. All of it if not given.
        nested: Tar files in the tar file are unpacked too, into folders of their names.

    Raises:
        DataError: It is damaged or no archive, a path in it leads out of the folder, or too much comes out of it.
        OutputError: The folder cannot be written.
    """
    size = archive.stat().st_size
    left = _Left(archive, size * MAXIMUM_EXPANSION + _ALWAYS_ALLOWED_BYTES, MAXIMUM_FILES)
    with archive.open("rb") as raw:
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
        raise DataError(f"archive {left.archive} holds {member.name!r}, which leads out of its folder; do not trust it")
    name = PurePosixPath(member.name)
    if wanted and not any(name.is_relative_to(path) for path in wanted):
        return
    path = into / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as target:
            for chunk in _unharmed(_chunks(member), left.archive):
                left.take(size=len(chunk))
                target.write(chunk)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from error


def _chunks(member: _Member) -> Iterator[bytes]:
    if member.open is not None:
        with member.open() as source:
            while chunk := source.read(_CHUNK):
                yield chunk


def _tar_members(raw: IO[bytes], nested: bool, folder: str = "") -> Iterator[_Member]:
    with tarfile.open(fileobj=raw, mode="r:*") as tar:
        while (member := tar.next()) is not None:
            tar.members.clear()  # type: ignore[attr-defined]  # it would keep the header of every file
            name = f"{folder}{member.name}"
            if nested and not folder and member.isreg() and name.endswith(".tar"):
                yield from _tar_members(_opened(tar, member), nested, f"{name.removesuffix('.tar')}/")
            else:
                opener = (lambda member=member: _opened(tar, member)) if member.isreg() else None
                yield _Member(name, member.isdir(), opener)
        _read_to_the_end(tar)


def _read_to_the_end(tar: tarfile.TarFile) -> None:
    """A compressed file's checksum stands behind the padding of the tar file in it, which tarfile does not read."""
    for _ in range(_PADDING_CHUNKS):
        if not tar.fileobj.read(_CHUNK):
            return
    raise tarfile.ReadError("it goes on behind its end")


def _opened(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    content = tar.extractfile(member)
    if content is None:
        raise tarfile.ReadError(f"{member.name} has no content")
    return content


def _zip_members(raw: IO[bytes]) -> Iterator[_Member]:
    with zipfile.ZipFile(raw) as archive:
        for member in archive.infolist():
            kind = stat.S_IFMT(member.external_attr >> 16)  # nothing where it was not made on Unix
            is_file = not member.is_dir() and kind in (0, stat.S_IFREG)
            opener = (lambda member=member: archive.open(member)) if is_file else None
            yield _Member(member.filename, member.is_dir(), opener)


def _unharmed(items: Iterator[_Item], archive: Path) -> Iterator[_Item]:
    """What reading raises becomes a DataError; what is raised while an item is worked on is left alone."""
    try:
        yield from items
    except LowshotError:
        raise
    except Exception as error:  # tarfile, zipfile and the decompressors raise a dozen kinds for damaged archives
        said = str(error) or type(error).__name__
        raise DataError(f"archive {archive} is damaged, or no tar or zip file: {said}") from error
