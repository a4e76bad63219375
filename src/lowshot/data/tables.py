"""Tables of images: CSV, JSONL or Parquet with columns ``file_name``, ``label`` and, if need be, ``split``."""

from __future__ import annotations

import csv
import functools
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TypeAlias

from ..errors import DataError, MissingExtraError
from .assembling import Reading, labels_in, skipping, task_of_files
from .listing import NO_LABEL, SPLITS, Classes, class_name, is_below, kind_of
from .task import Task, is_text

FILE, LABEL, SPLIT = "file_name", "label", "split"
"""Columns of a table; others are passed over."""

_UNNAMED = ""  # the split of rows that name none
_LINE_CHARACTERS = 1 << 20

_Rows: TypeAlias = Iterator[tuple[int, Mapping[str, Any]]]
"""Number of each line, or of each row of Parquet, and its cells by column."""


class _Place(NamedTuple):
    labels: tuple[str, ...]
    row: int


def read_table(path: Path, reading: Reading) -> Task:
    """Read a table of images as a task; without a column ``split`` all of it is the train split.

    File names are paths below the table's folder, and the images' identities; so the folder may be moved, and nothing
    outside it is read unless a link in it leads there. Labels are the class names, ``_`` read as a space; a number is
    the name that its digits make.

    Where images have several labels, a cell has them one after the other or is a list, and an image may be named in
    several rows. Without a label it shows none of the classes.

    Args:
        path: The table.
        reading: How it is read.

    Raises:
        DataError: The table cannot be read, a row does not fit, some rows name a split and others do not, or a file is
            named twice in one split, has two classes, or is missing.
        MissingExtraError: Parquet without pyarrow.
    """
    splits = {split: (path.parent, classes) for split, classes in _classes_by_split(path, reading, "train").items()}
    return task_of_files(path, path.stem, splits, reading)


def table_of_split(path: Path, split: str, reading: Reading) -> Classes:
    """Return the files of each class of a table whose rows are all of one split, as paths below its folder.

    Args:
        path: The table. If it has a column ``split``, each of its cells names this one.
        split: ``train``, ``validation`` or ``test``.
        reading: How it is read.

    Raises:
        DataError: As for ``read_table``, or a row is of another split.
        MissingExtraError: Parquet without pyarrow.
    """
    [(named, classes), *others] = _classes_by_split(path, reading, split).items()
    wrong = [name for name in (named, *(name for name, _ in others)) if name != split]
    if wrong:
        raise DataError(
            f"{path} has rows of split {wrong[0]}, but is handed over as {split}; expected rows of {split} alone, or "
            f"{path} by itself"
        )
    return classes


def _classes_by_split(path: Path, reading: Reading, unnamed: str) -> dict[str, Classes]:
    """Return the files of each class, by split; rows that name none are of the split ``unnamed``."""
    kind = kind_of(path)
    if kind != "file":
        raise DataError(f"data {path} {'does not exist' if kind == 'nothing' else 'is no file that can be read'}")
    splits = _splits(path, READERS[path.suffix.lower()](path), unnamed, reading.several)
    if reading.on_bad_image in ("error", "error-damaged"):
        files = [(name, place.row) for places in splits.values() for name, place in places.items()]
        missing = [(name, row) for name, row in files if kind_of(path.parent / name) != "file"]
        if missing:
            name, row = missing[0]
            raise DataError(
                f"{path}: {len(missing):,} of {len(files):,} files are not there, or are no files that can be read, "
                f"such as {path.parent / name} ({_row(path)} {row}); "
                f"--on-bad-image {skipping(reading.on_bad_image)} leaves them out"
            )
    classes: dict[str, Classes] = {split: {} for split in splits}
    for split, places in splits.items():
        for name, place in places.items():
            for label in place.labels or (NO_LABEL,):
                classes[split].setdefault(label, []).append(name)
    return classes


def _splits(path: Path, rows: _Rows, unnamed_split: str, several: str | None) -> dict[str, dict[str, _Place]]:
    """Return the labels and row of each file name, by split."""
    splits: dict[str, dict[str, _Place]] = {}
    for number, row in rows:
        where = f"{path}, {_row(path)} {number}"
        missing = [column for column in (FILE, LABEL) if column not in row]
        if missing:
            raise DataError(
                f"{where}, has no column {missing[0]}; it has {', '.join(map(str, row))}; "
                f"expected {FILE}, {LABEL} and maybe {SPLIT}"
            )
        file, label, split = row[FILE], row[LABEL], row.get(SPLIT)
        if not isinstance(file, str) or not is_below(file) or not is_text(file):
            raise DataError(f"{where}: {FILE} is {file!r}; expected a path below the table's folder, with /")
        labels = _labels(where, label, several)
        word = "" if split is None else str(split).strip().lower()
        if word and word not in SPLITS:
            raise DataError(f"{where}: {SPLIT} is {split!r}; expected one of {', '.join(SPLITS)}")
        file, places = PurePosixPath(file).as_posix(), splits.setdefault(SPLITS[word] if word else _UNNAMED, {})
        if file in places:
            if several is None:
                before = f"{_row(path)} {places[file].row}"
                raise DataError(f"{where}, names {file} again, as {before} did; expected each once in a split")
            labels = (*places[file].labels, *(each for each in labels if each not in places[file].labels))
        places[file] = _Place(labels, number)
    if not splits:
        raise DataError(f"{path} has no rows; expected one per image")
    unnamed = splits.pop(_UNNAMED, {})
    if unnamed and splits:
        first = next(iter(unnamed.values())).row
        raise DataError(
            f"{path}: {len(unnamed):,} row(s) name no {SPLIT}, the first in {_row(path)} {first}, and others do; "
            f"expected one of {', '.join(SPLITS)} in every row, or in none"
        )
    return splits or {unnamed_split: unnamed}


def _labels(where: str, cell: Any, several: str | None) -> tuple[str, ...]:
    """Return the names of the classes in a cell: one, or as many as it has where images have several labels."""
    if several is None and isinstance(cell, list):
        raise DataError(
            f"{where}: {LABEL} is the list {cell!r:.80}; expected the name of a class, or --labels-per-image several"
        )
    cells = [cell] if several is None else labels_in(cell, several)
    for each in cells:
        if not isinstance(each, str | int) or isinstance(each, bool) or not class_name(str(each)):
            expected = "the name of a class" if several is None else f"names of classes with {several!r} between them"
            raise DataError(f"{where}: {LABEL} is {cell!r}; expected {expected}")
    return tuple(dict.fromkeys(class_name(str(each)) for each in cells))


def _row(path: Path) -> str:
    """Return the word for a row in messages: a text editor numbers lines."""
    return "row" if path.suffix.lower() == ".parquet" else "line"


# -- formats -----------------------------------------------------------------------------------------------------------


def _csv_rows(path: Path) -> _Rows:
    """Yield the rows after the header; a row of several lines has the number of its last one."""
    # Strictly, or a quote that is never closed swallows the rows behind it. People write a space after a comma.
    rows = csv.reader(_lines(path), strict=True, skipinitialspace=True)
    try:
        header = [column.strip() for column in next(rows, [])]
        _refuse_repeated(path, header)
        for row in rows:
            if len(row) > len(header):
                raise DataError(
                    f"{path}, line {rows.line_num}, has {len(row)} cells, and the header has {len(header)}; "
                    'expected a cell with a comma in it in quotes: "cat, big"'
                )
            if row:
                yield rows.line_num, dict(itertools.zip_longest(header, row))
    except csv.Error as error:
        raise DataError(f"{path}, line {rows.line_num}, cannot be read as CSV: {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as CSV in UTF-8: {error}") from error


def jsonl_rows(path: Path) -> _Rows:
    """Yield the objects of a file that has one on each line.

    Raises:
        DataError: It cannot be read, or a line is no object.
    """
    fault = "cannot be read as one JSON object per line"
    try:
        for number, line in enumerate(_lines(path), 1):
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            try:
                row = json.loads(line, object_pairs_hook=functools.partial(_once_each, where))
            except DataError:
                raise
            except (ValueError, RecursionError) as error:
                raise DataError(f"{where}, {fault}: {error}") from error
            if not isinstance(row, dict):
                raise DataError(f"{where}, is {line.strip()[:60]}; expected an object")
            yield number, row
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} {fault} in UTF-8: {error}") from error


def _parquet_rows(path: Path) -> _Rows:
    try:
        from pyarrow import parquet
    except ImportError:
        raise MissingExtraError("pyarrow", "datasets", f"the table {path}") from None
    try:
        with parquet.ParquetFile(path) as file:
            _refuse_repeated(path, file.schema_arrow.names)
            columns = [column for column in (FILE, LABEL, SPLIT) if column in file.schema_arrow.names]
            number = 0
            for batch in file.iter_batches(columns=columns or None):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except DataError:
        raise
    except Exception as error:  # pyarrow raises a dozen kinds for damaged files
        raise DataError(f"{path} cannot be read as Parquet: {error}") from error


def _lines(path: Path) -> Iterator[str]:
    """Yield the lines of a text in UTF-8, with or without a byte order mark."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        for number in itertools.count(1):
            line = file.readline(_LINE_CHARACTERS)
            if len(line) == _LINE_CHARACTERS:
                raise DataError(f"{path}, line {number}, has more than {_LINE_CHARACTERS:,} characters; expected fewer")
            if not line:
                return
            yield line


def _refuse_repeated(where: object, columns: Sequence[str]) -> None:
    for column in (FILE, LABEL, SPLIT):
        count = list(columns).count(column)
        if count > 1:
            raise DataError(f"{where} has {count} columns {column}; expected one")


def _once_each(where: str, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    _refuse_repeated(where, [name for name, _ in pairs])
    return dict(pairs)


READERS: dict[str, Callable[[Path], _Rows]] = {".csv": _csv_rows, ".jsonl": jsonl_rows, ".parquet": _parquet_rows}
"""Suffix of a table -> its reader."""
