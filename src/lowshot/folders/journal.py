"""Rows that outlive the process that writes them, however it ends."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from ..errors import OutputError
from ..files import os_errors_about


def json_line(row: Mapping[str, Any]) -> str:
    """A row as a line of JSON."""
    return json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"


class Journal:
    """A file with a JSON object on each line; the first one says what the others are about.

    A line that was being written when its process died is cut off, and whoever opens the journal goes on after it.

    Args:
        path: The file; it is made if it is not there.
        about: What the rows depend on, in values of JSON. A journal about something else is left alone.

    Raises:
        OutputError: It cannot be written, is no journal, or is about something else.
    """

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        self.path = path
        with os_errors_about(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab", buffering=0)
        with contextlib.ExitStack() as refused:
            refused.callback(self._file.close)
            with os_errors_about(path), path.open("rb") as file:
                whole = sum(len(line) for line in file if line.endswith(b"\n"))
                self._file.truncate(whole)
            if not whole:
                self.append([about])
            before = next(self._lines())
            if different := next((key for key in {**before, **about} if before.get(key) != about.get(key)), None):
                raise OutputError(
                    f"{path} was begun with {different} {before.get(different)!r}, and it is "
                    f"{about.get(different)!r} now; go on as it was begun, remove it, or choose another output"
                )
            refused.pop_all()

    def append(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add rows; when this returns they are on the disk.

        Raises:
            OutputError: They cannot be written.
        """
        text = "".join(map(json_line, rows))
        rest = memoryview(text.encode("utf-8", "backslashreplace"))
        before = self._file.seek(0, os.SEEK_END)
        with os_errors_about(self.path):
            try:
                while rest:
                    rest = rest[self._file.write(rest) :]
                os.fsync(self._file.fileno())
            except OSError:
                with contextlib.suppress(OSError):  # a part of a line would spoil the next one
                    self._file.truncate(before)
                raise

    def rows(self) -> Iterator[dict[str, Any]]:
        """The rows so far, in order, read from the file as they are asked for.

        Raises:
            OutputError: A line is no JSON object.
        """
        lines = self._lines()
        next(lines)
        return lines

    def _lines(self) -> Iterator[dict[str, Any]]:
        with os_errors_about(self.path), self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    row = json.loads(line)
                except ValueError:
                    row = None
                if not isinstance(row, dict):
                    raise OutputError(
                        f"{self.path} is damaged: line {number} is no JSON object; remove the file to begin anew"
                    )
                yield row

    def close(self) -> None:
        """Write no more."""
        self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
