"""Fetching a large file: resumed where it broke off, checked before it gets its name.

A file grows under ``NAME.partial``; ``NAME.partial.json`` beside it says of which version at which address it is. It is
continued only if the server still has that version, or if a published checksum will tell; otherwise it is begun anew.
So what appears under ``NAME`` is whole, whatever was interrupted how often.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import http.client
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ...errors import DataError, InputError, RunError
from ...files import canonical_json, os_errors_about, read_json_object, write_text
from ...progress import Track
from .facts import Download

ATTEMPTS = 5
"""Times that a server may fail in a row before it is given up; every byte that arrives starts the count anew."""
FIRST_WAIT_SECONDS = 1.0
"""Wait after the first failure; it doubles with each."""
TIMEOUT_SECONDS = 60.0
"""Silence of a server that counts as a failure."""
LARGEST_LIST_BYTES = 64 << 20
"""Bytes of a split file or a list of names, at most; CoOp's largest has a tenth of that."""
LARGEST_UNKNOWN_BYTES = 20 << 30
"""Bytes of an archive of which no size is published, at most."""
_CHUNK = 1 << 20
_WORTH_ANOTHER_TRY = frozenset({408, 425, 429, 500, 502, 503, 504})
_PAGE_BEGINNINGS = (b"<!doctype", b"<html", b"<head", b"<?xml")
_PAGE = "it sends a web page and not the file: a quota, or a page to sign in"
_SHOWN_BYTES = 60


class _Interrupted(Exception):  # noqa: N818 - never leaves this file
    """The connection failed; another attempt may do better."""


class _OtherFileError(RunError):
    """Something else than the file is sent: nothing of it is worth keeping."""


def fetch(file: Download, folder: Path, track: Track, check: Callable[[Path], None] = lambda _: None) -> Path:
    """Download a file into a folder, from the first of its addresses that gives it.

    Args:
        file: The file to fetch.
        folder: The folder it comes to lie in; what a former call left unfinished there is continued.
        track: Shows progress, in MB.
        check: Raises a DataError if a file holds something else than it should.

    Raises:
        RunError: No address gives it; the message says what each one did instead.
        OutputError: It cannot be written.
    """
    failures = []
    with os_errors_about(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for url in file.urls:
        partial = _Partial(file, folder / f"{file.file}.partial", url)
        try:
            steps = partial.received()
            remaining = next(steps, 0)
            for _ in track(steps, what=f"fetching {file.file} (MB)", total=remaining):
                pass
            first = beginning(partial.path)
            if first.removeprefix(b"\xef\xbb\xbf").lstrip().lower().startswith(_PAGE_BEGINNINGS):
                raise _OtherFileError(f"{_PAGE}; it begins with {first!r}")
            verify(file, partial.path, track)
            check(partial.path)
        except (_OtherFileError, DataError) as error:  # it would never become right
            partial.remove()
            failures.append(f"{url}: {error}")
        except RunError as error:
            failures.append(f"{url}: {error}")
        else:
            return partial.finish(folder / file.file)
    raise RunError(f"{file.file} cannot be fetched. {'; '.join(failures)}")


def verify(file: Download, path: Path, track: Track) -> None:
    """Compare a file with what is published of it, size and checksum.

    Raises:
        RunError: It is another file.
    """
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        raise _OtherFileError(f"it has {size:,} bytes; expected {file.size:,}")
    kind, expected = ("sha256", file.sha256) if file.sha256 else ("md5", file.md5)
    if expected is None:
        return
    digest = hashlib.new(kind, usedforsecurity=False)
    with path.open("rb") as content:
        chunks = iter(lambda: content.read(_CHUNK), b"")
        for chunk in track(chunks, what=f"checking {path.name} (MB)", total=_megabytes(size)):
            digest.update(chunk)
    if digest.hexdigest() != expected:
        raise _OtherFileError(f"its {kind} is {digest.hexdigest()}; expected {expected}, as published")


def beginning(path: Path) -> bytes:
    """Return the first bytes of a file, to tell people what it is."""
    with path.open("rb") as content:
        return content.read(_SHOWN_BYTES)


@dataclasses.dataclass(frozen=True)
class _Partial:
    """The part of a file that has arrived so far from an address, and the version it is of."""

    file: Download
    path: Path
    url: str

    @property
    def _notes(self) -> Path:
        return self.path.with_name(f"{self.path.name}.json")

    def _size(self) -> int:
        """Return the bytes that have arrived."""
        return self.path.stat().st_size if self.path.exists() else 0

    def _version(self) -> str | None:
        """Return the server's name for the version that was begun, if it was at this address."""
        try:
            notes = read_json_object(self._notes)
        except (FileNotFoundError, InputError):
            return None
        return str(notes["version"]) if notes.get("url") == self.url and notes.get("version") else None

    def _begin(self, version: str | None) -> None:
        """Throw away what has arrived."""
        self.path.unlink(missing_ok=True)
        write_text(self._notes, canonical_json({"url": self.url, "version": version}))

    def received(self) -> Iterator[int]:
        """Receive what is missing, over as many connections as it takes; yields its MB, then once for each of them."""
        failures = 0
        while True:
            before = self._size()
            try:
                yield from self._connection()
                return
            except _Interrupted as error:
                failures = 1 if self._size() > before else failures + 1
                if failures >= ATTEMPTS:
                    raise RunError(
                        f"{error}, {failures} times in a row; what has arrived is kept, run it again to go on"
                    ) from None
                time.sleep(FIRST_WAIT_SECONDS * 2 ** (failures - 1))

    def _connection(self) -> Iterator[int]:
        """Receive what one connection sends, as ``received`` yields it."""
        file, start, version = self.file, self._size(), self._version()
        if start and start == file.size:  # interrupted before it could be checked
            return
        if version is None and not (file.sha256 or file.md5):
            start = 0  # nothing would tell if the rest were of another version
        with _opened(self.url, start, version) as response:
            is_rest = response.status == http.client.PARTIAL_CONTENT
            if is_rest:
                content_range = str(response.headers["Content-Range"] or "")
                first = content_range.removeprefix("bytes ").partition("-")[0]
                if first != str(start) or (version and _version_of(response) not in (version, None)):
                    self._begin(None)
                    raise _Interrupted("it sends another part than the one asked for, or of another version")
            start = start if is_rest else 0
            # A page to sign in, or another file, is refused here, before it costs what has arrived.
            if response.headers.get_content_type() == "text/html":
                raise RunError(_PAGE)
            unpublished = LARGEST_LIST_BYTES if file.kind == "file" else LARGEST_UNKNOWN_BYTES
            limit = file.size or 2 * (file.rounded_size or 0) or unpublished
            length = response.headers["Content-Length"]
            end = start + int(length) if length is not None and length.isdecimal() else file.size
            if file.size is not None and end != file.size:
                raise RunError(f"it has {end:,} bytes; expected {file.size:,}: it is another file")
            if end is not None and end > limit:
                raise RunError(f"it has {end:,} bytes; expected at most {limit:,}: it is another file")
            if not is_rest:
                self._begin(_version_of(response))
            yield _megabytes(end - start) if end is not None else 1
            yield from self._append(response, start, end, limit)

    def _append(self, response: Any, start: int, end: int | None, limit: int) -> Iterator[int]:
        """Append what arrives; yields after each MB."""
        received, megabytes = start, start // _CHUNK
        with os_errors_about(self.path), self.path.open("ab") as out:
            while True:
                try:
                    piece = bytes(response.read1(_CHUNK))  # as soon as anything is there: nothing of it is lost then
                except (OSError, http.client.HTTPException) as error:
                    raise _Interrupted(f"the connection broke ({_reason(error)})") from None
                if not piece:
                    break
                received += len(piece)
                if received > (limit if end is None else end):
                    most = f"{limit:,} bytes expected at most" if end is None else f"{end:,} bytes it spoke of"
                    raise _OtherFileError(f"it sends more than the {most}")
                out.write(piece)
                while received // _CHUNK > megabytes:
                    megabytes += 1
                    yield megabytes
            out.flush()
            os.fsync(out.fileno())
        if end is not None and received < end:
            raise _Interrupted(f"the connection ended after {received:,} of {end:,} bytes")

    def remove(self) -> None:
        """Leave nothing behind."""
        self.path.unlink(missing_ok=True)
        self._notes.unlink(missing_ok=True)

    def finish(self, path: Path) -> Path:
        """Give the whole file its name."""
        self.path.replace(path)
        self._notes.unlink(missing_ok=True)
        return path


@contextlib.contextmanager
def _opened(url: str, start: int, version: str | None) -> Iterator[Any]:
    """Yield the server's answer to a request for the bytes from ``start``, of that version if it still has it."""
    headers = {"User-Agent": "lowshot", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    if start and version:
        headers["If-Range"] = version
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        with error:
            status = f"HTTP {error.code} {error.reason}"
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and start:
            with _opened(url, 0, None) as anew:  # it has become shorter than what we have
                yield anew
            return
        raise (_Interrupted if error.code in _WORTH_ANOTHER_TRY else RunError)(status) from None
    except (OSError, http.client.HTTPException) as error:
        raise _Interrupted(f"no answer ({_reason(error)})") from None
    with response:
        yield response


def _version_of(response: Any) -> str | None:
    """Return a name for the version that the server will know again; weak tags do not promise the same bytes."""
    tag = response.headers["ETag"]
    version = tag if tag and not tag.startswith("W/") else response.headers["Last-Modified"]
    return str(version) if version else None


def _reason(error: BaseException) -> str:
    reason = getattr(error, "reason", error)
    return str(reason) or type(error).__name__


def _megabytes(size: int) -> int:
    return -(-size // _CHUNK)
