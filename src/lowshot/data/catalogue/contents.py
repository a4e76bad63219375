"""The contents of files against their names, for most have no published checksum."""

from __future__ import annotations

from pathlib import Path

from ...errors import DataError, InputError
from ...files import read_json_object
from .class_names import FILE as CLASS_NAMES
from .class_names import check_class_names
from .download import LARGEST_LIST_BYTES, beginning
from .facts import DataSet, Download

_MAGIC = {0: (b"PK\x03\x04", b"\x1f\x8b", b"BZh", b"\xfd7zXZ"), 257: (b"ustar",)}
"""Offset -> the beginnings of archives there: zip; tar compressed with gzip, bzip2 or xz; plain tar."""


def check_content(row: DataSet, file: Download, path: Path) -> None:
    """Refuse a file that holds something else than it should, as a page that says why it was not sent.

    A split file must have as many entries as published, and a list of names as many classes.

    Args:
        row: The data set it belongs to.
        file: The file that it should be.
        path: The file.

    Raises:
        DataError: It is something else; the message has its first bytes.
    """
    try:
        if file.kind != "file":
            with path.open("rb") as archive:
                first = archive.read(265)
            if not any(first[offset:].startswith(beginnings) for offset, beginnings in _MAGIC.items()):
                raise DataError("expected a tar or zip file")
        elif file.file == row.split_file:
            content = read_json_object(path, LARGEST_LIST_BYTES)
            for key, expected in (("train", row.sizes.train), ("val", row.sizes.validation), ("test", row.sizes.test)):
                items = content.get(key)
                if not isinstance(items, list) or len(items) != expected:
                    count = f"{len(items):,} entries" if isinstance(items, list) else "no list"
                    raise DataError(f"it has {count} of {key!r}; expected {expected:,}, as CoOp's")
                if not all(
                    isinstance(item, list) and [type(part) for part in item] == [str, int, str] for item in items
                ):
                    raise DataError(f"some entry of {key!r} is not a path, a label and a class name")
        elif file.file == CLASS_NAMES:
            check_class_names(path)
    except InputError as error:
        raise DataError(f"it is not {file.file}, for it begins with {beginning(path)!r}: {error}") from error
