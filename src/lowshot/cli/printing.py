"""How commands print: JSON, CSV, and on standard error what a person should know."""

from __future__ import annotations

import contextlib
import csv
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any


def print_json(value: Any) -> None:
    """Print one JSON value to standard output, in the characters that its encoding has."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(value, indent=2, allow_nan=False)
    print(text)


def print_csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print lines of CSV, the names of the columns first."""
    lines = csv.writer(sys.stdout, lineterminator="\n")
    lines.writerow(header)
    lines.writerows(rows)


def note(line: str) -> None:
    """Write a line on the course of the work to standard error."""
    sys.stderr.write(f"lowshot: {line}\n")


def warn(lines: Iterable[str]) -> None:
    """Write things a person should know to standard error."""
    for line in lines:
        note(f"warning: {line}")


@contextlib.contextmanager
def warned(lines: list[str]) -> Iterator[list[str]]:
    """Yield a list for warnings, and write those in it when the block ends: where it failed, they may be the reason."""
    try:
        yield lines
    finally:
        warn(lines)
