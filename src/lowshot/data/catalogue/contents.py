"""Whether a file is what its name says, told by what is in it: most have no published checksum."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...errors import DataError, InputError
from ...files import read_json_object
from .class_names import FILE as CLASS_NAMES
from .class_names import check_class_names
from .download import LARGEST_LIST_BYTES, beginning
from .facts import DataSet, Download, Sizes

_MAGIC = {0: (b"PK\x03\x04", b"\x1f\x8b", b"BZh", b"\xfd7zXZ"), 257: (b"ustar",)}
"""Offset -> how archives begin there: zip; tar compressed with gzip, bzip2 or xz; plain tar."""


def check_content(row: DataSet, file: Download, path: Path) -> None:
    """Refuse a file that holds something else than it should, as a page that says why it was not sent.

    A split file must have as many entries as published, and a list of names as many classes.

    Args:
        row: The data set it belongs to.
        file: What it should be.
        path: The file.

    Raises:
        DataError: It is something else; the message has its first bytes.
    """
    try:
        if file.kind != "file":
            _check_archive(path)
        elif file.file == row.split_file:
            _check_split(path, row.sizes)
        elif file.file == CLASS_NAMES:
            check_class_names(path)
    except InputError as error:
        raise DataError(f"it is not {file.file}, for it begins with {beginning(path)!r}: {error}") from error


def _check_archive(path: Path) -> None:
    with path.open("rb") as content:
        for offset, beginnings in _MAGIC.items():
            content.seek(offset)
            if content.read(8).startswith(beginnings):
                return
    raise DataError("expected a tar or zip file")


def _check_split(path: Path, sizes: Sizes) -> None:
    content = read_json_object(path, LARGEST_LIST_BYTES)
    for key, expected in (("train", sizes.train), ("val", sizes.validation), ("test", sizes.test)):
        items = content.get(key)
        if not isinstance(items, list) or len(items) != expected:
            found = f"{len(items):,} entries" if isinstance(items, list) else "no list"
            raise DataError(f"it has {found} of {key!r}; expected {expected:,}, as CoOp's")
        if not all(_is_entry(item) for item in items):
            raise DataError(f"some entry of {key!r} is not a path, a label and a class name")


def _is_entry(item: Any) -> bool:
    return isinstance(item, list) and [type(part) for part in item] == [str, int, str]
