"""Where a data set lies on this machine: the root, its folder of images, the small files beside them."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterator
from pathlib import Path

from ...errors import DataError, OutputError
from ..listing import visible_entries
from .facts import DataSet

ROOT_VARIABLE = "LOWSHOT_DATA"
"""Environment variable that names the root where ``root`` is not given."""
SYNSET = re.compile(r"n\d{8}")
"""How ImageNet's folders are called."""


@dataclasses.dataclass(frozen=True)
class Place:
    """Where one data set was found.

    Args:
        root: The folder that holds the data sets.
        images: The folder of its images; paths in split files start there.
    """

    root: Path
    images: Path

    def file(self, name: str) -> Path | None:
        """A file beside the images or in a folder above them, up to the root."""
        for folder in self._upwards():
            if (folder / name).is_file():
                return folder / name
        return None

    def _upwards(self) -> Iterator[Path]:
        folder = self.images
        yield folder
        while folder != self.root:
            folder = folder.parent
            yield folder


def data_root(root: str | os.PathLike[str] | None = None, *, create: bool = False) -> Path:
    """The folder that holds the data sets: ``root``, else what ``LOWSHOT_DATA`` says.

    Args:
        root: The folder.
        create: Make it if it is not there.

    Raises:
        DataError: Neither is given, or there is no such folder.
        OutputError: It cannot be made.
    """
    chosen = os.fspath(root) if root is not None else os.environ.get(ROOT_VARIABLE)
    if not chosen:
        raise DataError(
            f"the data sets' folder is not known: give --root FOLDER, or set the environment variable {ROOT_VARIABLE}"
        )
    folder = Path(chosen).expanduser()
    if create:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"root {folder} cannot be made: {error.strerror or error}") from error
    if not folder.is_dir():
        said = "" if root is not None else f" (from the environment variable {ROOT_VARIABLE})"
        raise DataError(f"root {folder}{said} is no folder; expected the one that holds the data sets")
    return folder


def find(data_set: DataSet, root: Path) -> Place | None:
    """Where a data set's images are below the root, or None."""
    for relative in data_set.folders:
        if _holds_images(data_set, root / relative):
            return Place(root, root / relative)
    return None


def place_of(data_set: DataSet, root: Path) -> Place:
    """As ``find``; a data set that is not there is refused with the way to get it.

    Raises:
        DataError: Its images are not there.
    """
    place = find(data_set, root)
    if place is None:
        raise DataError(
            f"{data_set.name} is not in {root}: expected its images in {root / data_set.folders[0]}; "
            f"lowshot data prepare {data_set.name} --root {root} puts them there"
        )
    return place


def synset_folders(folder: Path) -> list[Path]:
    """The folders that are called as synsets are, sorted, which is the order of ImageNet's labels."""
    return [Path(entry.path) for entry in visible_entries(folder) if SYNSET.fullmatch(entry.name) and entry.is_dir()]


def _holds_images(data_set: DataSet, folder: Path) -> bool:
    if not folder.is_dir():
        return False
    match data_set.layout:
        case "imagenet":
            return (folder / "train").is_dir() or (folder / "val").is_dir()
        case "synsets":
            return bool(synset_folders(folder))
        case "numbers":
            return (folder / "0").is_dir()
        case "split" | "aircraft":
            return True
