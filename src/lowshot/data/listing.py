"""Folders and lists of image files: what is there, how it is called, and from such a list to examples."""

from __future__ import annotations

import dataclasses
import errno
import os
import stat
import unicodedata
from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Literal, TypeAlias

import numpy as np

from ..errors import DataError
from .images import FileImages
from .task import Examples, is_text

SPLITS = {
    **{"train": "train", "val": "validation", "valid": "validation", "validation": "validation", "test": "test"},
    **{"training": "train", "dev": "validation", "testing": "test", "eval": "test", "evaluation": "test"},
}
"""Name that a split may have -> the split that is meant."""
Classes: TypeAlias = dict[str, list[str]]
"""Class name -> its files, as paths below a folder."""
NO_LABEL = "\0"
"""Stands among the classes of a list for images that show none of them, where images may have several labels. No file
system has such a name."""
Kind: TypeAlias = Literal["file", "folder", "other", "nothing"]
"""The kinds of things at a path; ``other`` is a pipe, a socket, a device, or one that cannot be looked at."""

MAXIMUM_CHARACTERS = 64 << 20
"""Characters of a small text file, at most."""
_NAMES_SHOWN = 10
_OF_THE_SYSTEM = frozenset(
    {"@eadir", "@recycle", "@recently-snapshot", "#recycle", "#snapshot", "$recycle.bin", "__macosx", "lost+found"}
    | {"system volume information"}
)  # what NAS, Windows, macOS and Linux put into folders: previews, waste, snapshots


@dataclasses.dataclass
class FileList:
    """Image files of one split below one folder, in order.

    Args:
        folder: The folder that the names start from.
        names: Path of each file below it; this is also the image's identity, the same on every machine.
        labels: Class index of each file.
    """

    folder: Path
    names: list[str] = dataclasses.field(default_factory=list)
    labels: list[int] = dataclasses.field(default_factory=list)

    @classmethod
    def of(cls, folder: Path, classes: Classes, class_names: Sequence[str]) -> FileList:
        """Return the files of these classes, one class after the other."""
        files = cls(folder)
        for label, name in enumerate(class_names):
            for file in classes.get(name, ()):
                files.add(file, label)
        return files

    def add(self, name: str, label: int) -> None:
        """Append one file."""
        self.names.append(name)
        self.labels.append(label)

    def examples(self) -> Examples:
        """Return the split's examples; no file is decoded."""
        return Examples(
            images=FileImages(tuple(self.names), self.folder),
            labels=np.asarray(self.labels, dtype=np.int64),
            identities=tuple(self.names),
        )


def first_names(names: Sequence[str]) -> str:
    """Return up to ten names, and how many more there are, for a message."""
    more = f" and {len(names) - _NAMES_SHOWN:,} more" if len(names) > _NAMES_SHOWN else ""
    return ", ".join(names[:_NAMES_SHOWN]) + more


def class_name(text: str) -> str:
    """Return a folder's or label's name as words, with accents as one character each (macOS may store them as two)."""
    return " ".join(unicodedata.normalize("NFC", text).replace("_", " ").split())


def visible_entries(folder: Path) -> list[os.DirEntry[str]]:
    """Return the entries of a folder by name, but for hidden ones and those that a system puts there for itself.

    Raises:
        DataError: It is no folder, it cannot be listed, or a name in it is not UTF-8.
    """
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except FileNotFoundError:
        raise DataError(f"data {folder} does not exist") from None
    except NotADirectoryError:
        raise DataError(f"data {folder} is a file; expected a folder with one folder of images per class") from None
    except (OSError, ValueError) as error:
        raise DataError(f"data {folder} cannot be listed: {getattr(error, 'strerror', error)}") from error
    entries = [e for e in entries if not e.name.startswith(".") and e.name.lower() not in _OF_THE_SYSTEM]
    for entry in entries:
        if not is_text(entry.name):
            raise DataError(f"data {folder}: the name {entry.name!r} is not UTF-8; rename it")
    return entries


def is_below(name: str) -> bool:
    """Tell whether a path in a list stays in the list's folder: relative, and without ``..``."""
    path = PurePosixPath(name)
    elsewhere = path.is_absolute() or ".." in path.parts or PureWindowsPath(name).drive
    return bool(path.parts) and not elsewhere and "\0" not in name and "\\" not in name


def kind_of(path: Path) -> Kind:
    """Return the kind of thing at a path, links followed; ``nothing`` also where nothing can be."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return "nothing"
    except OSError as error:
        return "nothing" if error.errno in (errno.ENAMETOOLONG, errno.ELOOP) else "other"
    if stat.S_ISREG(mode):
        return "file"
    return "folder" if stat.S_ISDIR(mode) else "other"


def read_text(path: Path, name: str) -> str:
    """Return the text of a small file.

    Args:
        path: The file, UTF-8 with or without a byte order mark.
        name: Its name in messages.

    Raises:
        DataError: It is no plain file, cannot be read, is no UTF-8, or has more than 64 M characters.
    """
    kind = kind_of(path)
    if kind != "file":
        fault = "does not exist" if kind == "nothing" else "is no file that can be read"
        raise DataError(f"{name} {fault}; expected a small file of text")
    try:
        with path.open(encoding="utf-8-sig") as file:
            text = file.read(MAXIMUM_CHARACTERS + 1)
    except OSError as error:
        raise DataError(f"{name} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{name} cannot be read as UTF-8 text: {error}") from error
    if len(text) > MAXIMUM_CHARACTERS:
        raise DataError(f"{name} has more than {MAXIMUM_CHARACTERS:,} characters; expected a small file")
    return text


def read_lines(path: Path) -> list[tuple[int, str]]:
    """Return the lines of a small text file that are not empty, without the space around them, numbered from 1.

    Raises:
        DataError: As for ``read_text``.
    """
    lines = enumerate(read_text(path, str(path)).splitlines(), 1)
    return [(number, line.strip()) for number, line in lines if line.strip()]
