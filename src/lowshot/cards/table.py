"""Labels in a table that ``fit`` reads: CSV or JSONL with ``file_name``, ``label`` and, if need be, ``split``."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..data import Examples, Images, Task, source_of
from ..data.listing import is_below
from ..data.tables import FILE, LABEL, SPLIT
from ..errors import DataError, InputError, OutputError, OutputExistsError
from ..files import write_bytes
from .deciding import Card, Labels

SUFFIXES = (".csv", ".jsonl")


class Row(NamedTuple):
    """An image of the data that the labels begin with."""

    image: str
    label: str
    split: str


def rows_of(task: Task) -> list[Row]:
    """The rows of all splits of a task.

    Raises:
        InputError: An image of it is in no file of its own.
    """
    return [row for split, each in task.splits().items() for row in rows_of_images(each, task.class_names, split)]


def rows_of_images(examples: Examples, class_names: Sequence[str], split: str) -> list[Row]:
    """The rows of the images of a split.

    Raises:
        InputError: One of them is in no file of its own.
    """
    return [Row(path_of(examples.images, row), class_names[label], split) for row, label in enumerate(examples.labels)]


def absolute(path: str | Path) -> str:
    """A path from the root; a link stays the name that it has in the data."""
    return os.path.abspath(path)  # noqa: PTH100


def path_of(images: Images, row: int) -> str:
    """An image's file, as an absolute path.

    Raises:
        InputError: It has no file of its own.
    """
    source = source_of(images, row)
    if not isinstance(source, Path):
        raise InputError("the page needs images in files of their own; expected a folder or a table of them")
    return absolute(source)


class Table:
    """A table of all labels, written anew with each decision.

    Args:
        path: The file; the images are below its folder.
        rows: The labels that it begins with.

    Raises:
        InputError: Its suffix is another, or an image is not below its folder.
    """

    def __init__(self, path: Path, rows: Sequence[Row] = ()) -> None:
        if path.suffix.lower() not in SUFFIXES:
            raise InputError(f"the labels' file is {path}; expected one that ends in {' or '.join(SUFFIXES)}")
        self.path = path.absolute()
        self._rows = list(rows)
        self._names: dict[str, str] = {}
        for row in rows:
            self.name_of(row.image)

    @property
    def journal(self) -> Path:
        return self.path.with_name(f".{self.path.name}.journal")

    def where(self, image: str) -> Path:
        return Path(image)

    def class_called(self, name: str) -> str:
        return name

    def name_of(self, image: str) -> str:
        """The name that an image has in the table.

        Raises:
            InputError: It is not below the table's folder.
        """
        if image in self._names:
            return self._names[image]
        name = Path(os.path.relpath(image, self.path.parent)).as_posix()
        if not is_below(name):
            common = os.path.commonpath([image, self.path.parent])
            raise InputError(
                f"{image} is not below {self.path.parent}, the folder of {self.path.name}, or has a name that no table "
                f"can have; expected the labels in {common}, such as {Path(common, self.path.name)}"
            )
        self._names[image] = name
        return name

    def plan(self, card: Card, labels: Labels) -> dict[str, Any]:
        for image in card.images:
            if labels.get(image) is not None and not Path(image).exists():
                raise DataError(f"{image} has gone, and can have no label; skip it")
        return {"sha256": _sha256(self._content(labels))}

    def done_before(self, plans: Sequence[Mapping[str, Any]], labels: Labels) -> None:
        if not self.path.exists():
            if plans:
                write_bytes(self.path, self._content(labels))
            return
        if not plans:
            raise OutputExistsError(self.path)
        expected = {plan["sha256"] for plan in plans[-2:]}
        if _sha256(self.path.read_bytes()) not in expected:
            raise OutputError(
                f"{self.path} was changed since its labels were given on the page, and would be overwritten; to go on "
                f"from it give it as DATA and write to another file, or remove {self.journal} to begin anew"
            )

    def put(self, plan: Mapping[str, Any], labels: Labels) -> None:
        if not self.path.exists() or _sha256(self.path.read_bytes()) != plan["sha256"]:
            write_bytes(self.path, self._content(labels))

    def _content(self, labels: Labels) -> bytes:
        before = {row.image for row in self._rows}
        has_splits = any(row.split != "train" for row in self._rows)
        rows = [(self._names[row.image], labels.get(row.image, row.label), row.split) for row in self._rows]
        rows += [(self.name_of(image), label, "train") for image, label in labels.items() if image not in before]
        columns = [FILE, LABEL, SPLIT][: 3 if has_splits else 2]
        cells = [dict(zip(columns, row, strict=False)) for row in rows if row[1] is not None]
        if self.path.suffix.lower() == ".jsonl":
            return "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in cells).encode()
        text = io.StringIO()
        text.write(",".join(columns) + "\n")
        # A name may begin with a space, which the quotes keep.
        table = csv.DictWriter(text, columns, quoting=csv.QUOTE_ALL, lineterminator="\n")
        table.writerows(cells)
        return text.getvalue().encode()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
