"""Tar files read to their end, from whomever they come.

The module ``tarfile`` trusts them: it takes a damaged header for the end of the archive, so that the rest is silently
missing, and it reads headers of any length into memory.
"""

from __future__ import annotations

import bz2
import contextlib
import functools
import gzip
import lzma
import tarfile
from collections.abc import Callable, Iterator
from typing import IO, Any, TypeAlias, cast

MAXIMUM_HEADER_BYTES = 64 << 10
"""Bytes that the headers of one member may take: its name, and what else its system knew of it."""
_END = bytes(512)  # a block of nothing marks the end
_CHUNK = 1 << 16
_PADDING_CHUNKS = 256
_COMPRESSIONS: dict[bytes, Callable[[Any], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
}

OpenMember: TypeAlias = Callable[[], IO[bytes]]
"""A function that opens the content of a member of an archive."""


def tar_members(file: IO[bytes], *, may_be_compressed: bool = True) -> Iterator[tuple[tarfile.TarInfo, OpenMember]]:
    """Yield everything in a tar file, in its order, with what opens it: plain files alone, and while this goes on.

    Args:
        file: The archive, at its beginning; it can be searched.
        may_be_compressed: By gzip, bzip2 or xz.

    Raises:
        tarfile.ReadError: The archive is damaged, ends early, goes on behind its end, or has headers that no honest
            one has. What the decompressors raise is passed on.
    """
    start = file.read(max(map(len, _COMPRESSIONS)))
    file.seek(0)
    decompress = next((opener for magic, opener in _COMPRESSIONS.items() if start.startswith(magic)), None)
    with contextlib.ExitStack() as stack:
        content = stack.enter_context(decompress(file)) if decompress and may_be_compressed else file
        guarded = _Guarded(content)
        where = "at its beginning"
        with _damage_at(where):
            tar = stack.enter_context(tarfile.TarFile(fileobj=cast("IO[bytes]", guarded)))
        while (member := _next(tar, guarded, where)) is not None:
            yield member, functools.partial(_opened, tar, member)
            where = f"behind {member.name[:200]}"
        # Behind the mark follows padding, or the mark was a hole; at the end stands a compressed file's checksum.
        for _ in range(_PADDING_CHUNKS):
            chunk = content.read(_CHUNK)
            if not chunk:
                return
            if chunk.count(0) < len(chunk):
                break
        raise tarfile.ReadError("it goes on behind its end")


class _Guarded:
    """The file that ``tarfile`` reads from; of headers it reads no more than they may take."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.header_bytes_left: int | None = MAXIMUM_HEADER_BYTES
        """None while a member's content is read."""
        self.last_block = b""
        """The bytes of the headers that were read last."""

    def read(self, size: int = -1) -> bytes:
        if self.header_bytes_left is None:
            return self._file.read(size)
        if not 0 <= size <= self.header_bytes_left:
            raise tarfile.ReadError(f"a header takes more than {MAXIMUM_HEADER_BYTES >> 10} KB")
        self.header_bytes_left -= size
        self.last_block = self._file.read(size)
        return self.last_block

    def seek(self, position: int, whence: int = 0) -> int:
        return self._file.seek(position, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True


@contextlib.contextmanager
def _damage_at(where: str) -> Iterator[None]:
    """Turn whatever damaged headers lead ``tarfile`` into into a ReadError that says where."""
    try:
        yield
    except Exception as error:
        raise tarfile.ReadError(f"{where}: {str(error) or type(error).__name__}") from error


def _next(tar: tarfile.TarFile, guarded: _Guarded, where: str) -> tarfile.TarInfo | None:
    """Return the next member; None at the archive's own mark of its end, and nowhere else."""
    guarded.header_bytes_left = MAXIMUM_HEADER_BYTES
    with _damage_at(where):
        member = tar.next()
    guarded.header_bytes_left = None
    tar.members.clear()  # type: ignore[attr-defined]  # it would keep the header of every file
    if member is None:
        if guarded.last_block != _END:
            raise tarfile.ReadError(f"{where}: neither a file nor the end of the archive")
    elif member.size < 0 or tar.offset <= member.offset:
        raise tarfile.ReadError(f"{member.name[:200]} has a negative size")
    elif member.issparse():
        raise tarfile.ReadError(f"{member.name[:200]} is a sparse file, which is not read")
    return member


def _opened(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    content = tar.extractfile(member) if member.isreg() else None
    if content is None:
        raise tarfile.ReadError(f"{member.name[:200]} has no content")
    return content
