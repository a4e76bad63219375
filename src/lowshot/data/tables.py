"""Tables of images: CSV, JSONL or Parquet with columns ``file_name``, ``label`` and, if need be, ``split``."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TypeAlias

from ..errors import DataError, MissingExtraError
from .listing import SPLITS, Classes, class_name, is_below, task_of_files
from .task import Task

FILE, LABEL, SPLIT = "file_name", "label", "split"
"""Columns of a table; others are passed over."""

_Rows: TypeAlias = Iterator[tuple[int, Mapping[str, Any]]]


class _Place(NamedTuple):
    label: str
    row: int


def read_table(path: Path, on_bad_image: str = "error", warn: list[str] | None = None) -> Task:
    """Read a table of images as a task; without a column ``split`` all of it is the train split.

    File names are paths below the table's folder, and the images' identities; so the folder may be moved, and nothing
    outside it is read unless a link in it leads there. Labels are the class names, ``_`` read as a space.

    Args:
        path: The table.
        on_bad_image: ``skip`` decodes every file now and leaves out those that are missing or damaged. With ``error``
            files must be there, and are decoded when they are asked for; with ``later`` they need not be.
        warn: Receives a line for every image that was left out, and one if images are in two splits or classes.

    Raises:
        DataError: The table cannot be read, a row does not fit, a file is named twice in one split, or is missing.
        MissingExtraError: Parquet without pyarrow.
    """
    warn = warn if warn is not None else []
    if not path.exists():
        raise DataError(f"data {path} does not exist")
    splits = _splits(path, READERS[path.suffix.lower()](path))
    if on_bad_image == "error":
        _refuse_missing(path, splits)
    placed = {split: (path.parent, _classes(files)) for split, files in splits.items()}
    return task_of_files(path, path.stem, placed, on_bad_image, warn)


def _splits(path: Path, rows: _Rows) -> dict[str, dict[str, _Place]]:
    """Split -> file name -> its label and row."""
    splits: dict[str, dict[str, _Place]] = {}
    for number, row in rows:
        where = f"{path}, row {number}"
        file, label, split = _checked(row, where)
        files = splits.setdefault(split, {})
        if file in files:
            raise DataError(f"{where}, names {file} again, as row {files[file].row} did; expected each once in a split")
        files[file] = _Place(label, number)
    if not splits:
        raise DataError(f"{path} has no rows; expected one per image")
    return splits


def _checked(row: Mapping[str, Any], where: str) -> tuple[str, str, str]:
    missing = [column for column in (FILE, LABEL) if column not in row]
    if missing:
        got = ", ".join(str(column) for column in row)
        raise DataError(
            f"{where}, has no column {missing[0]}; it has {got}; expected {FILE}, {LABEL} and maybe {SPLIT}"
        )
    file, label, split = row[FILE], row[LABEL], row.get(SPLIT)
    if not isinstance(file, str) or not is_below(file):
        raise DataError(f"{where}: {FILE} is {file!r}; expected a path below the table's folder, with /")
    if not isinstance(label, str | int) or isinstance(label, bool) or not class_name(str(label)):
        raise DataError(f"{where}: {LABEL} is {label!r}; expected the name of a class")
    named = SPLITS.get(str(split).strip().lower()) if split is not None else "train"
    if named is None:
        raise DataError(f"{where}: {SPLIT} is {split!r}; expected one of {', '.join(SPLITS)}")
    return PurePosixPath(file).as_posix(), class_name(str(label)), named


def _refuse_missing(path: Path, splits: dict[str, dict[str, _Place]]) -> None:
    files = [(name, place.row) for files in splits.values() for name, place in files.items()]
    missing = [(name, row) for name, row in files if not (path.parent / name).is_file()]
    if missing:
        name, row = missing[0]
        raise DataError(
            f"{path}: {len(missing):,} of {len(files):,} files are not there, such as {path.parent / name} "
            f"(row {row}); --on-bad-image skip leaves them out"
        )


def _classes(files: dict[str, _Place]) -> Classes:
    classes: Classes = {}
    for file, place in files.items():
        classes.setdefault(place.label, []).append(file)
    return classes


# -- formats -----------------------------------------------------------------------------------------------------------


def _csv_rows(path: Path) -> _Rows:
    """Rows after the header, numbered as lines of the table from 1."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for number, row in enumerate(csv.DictReader(file), 1):
                yield number, {column: value for column, value in row.items() if column is not None}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as CSV in UTF-8: {error}") from error


def _jsonl_rows(path: Path) -> _Rows:
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise DataError(f"{path}, row {number}, is {line.strip()[:60]}; expected an object")
                yield number, row
    except DataError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read as one JSON object per line: {error}") from error


def _parquet_rows(path: Path) -> _Rows:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise MissingExtraError("pyarrow", "datasets", f"the table {path}") from None
    try:
        with parquet.ParquetFile(path) as file:
            columns = [column for column in (FILE, LABEL, SPLIT) if column in file.schema_arrow.names]
            number = 0
            for batch in file.iter_batches(columns=columns or None):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except (OSError, ArrowException) as error:
        raise DataError(f"{path} cannot be read as Parquet: {error}") from error


READERS: dict[str, Callable[[Path], _Rows]] = {".csv": _csv_rows, ".jsonl": _jsonl_rows, ".parquet": _parquet_rows}
"""Suffix of a table -> its reader."""
