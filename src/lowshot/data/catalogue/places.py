"""The place of a data set on this machine: the root, its folder of images, the small files beside them."""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path, PurePosixPath

from ...errors import DataError, OutputError
from ...files import from_home
from ..formats import is_image
from ..listing import visible_entries
from .facts import DataSet

ROOT_VARIABLE = "LOWSHOT_DATA"
"""Environment variable that names the root where ``root`` is not given."""
SYNSET = re.compile(r"n\d{8}")
"""The names of ImageNet's folders."""
DEEPEST_FOLDERS = 3
"""Folders between a data set's folder of images and an image: SUN397 has ``a/apartment_building/outdoor``."""


@dataclasses.dataclass(frozen=True)
class Place:
    """The place of one data set, where it is or is to be put.

    Args:
        root: The folder that holds the data sets.
        images: The folder of its images; paths in split files start there.
    """

    root: Path
    images: Path

    @property
    def beside(self) -> Path:
        """The folder for its small files: above the images, or with them where that would be the root."""
        return self.images if self.images.parent == self.root else self.images.parent

    def file(self, name: str) -> Path | None:
        """Return a file beside the images or in a folder above them, up to the root."""
        for folder in (self.images, *self.images.parents):
            if (folder / name).is_file():
                return folder / name
            if folder == self.root:
                break
        return None

    def of(self, data_set: DataSet, published: str) -> Path:
        """Return where a part of a data set belongs that CoOp has at ``published`` below the root."""
        path = PurePosixPath(published)
        if path.is_relative_to(data_set.folders[0]):
            return self.images / path.relative_to(data_set.folders[0])
        return self.beside / path.relative_to(data_set.beside)


def data_root(root: str | os.PathLike[str] | None = None, *, create: bool = False) -> Path:
    """Return the folder that holds the data sets: ``root``, else the one that ``LOWSHOT_DATA`` names.

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
    folder = from_home(chosen)
    if create:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"root {folder} cannot be made: {error.strerror or error}") from error
    if not folder.is_dir():
        origin = "" if root is not None else f" (from the environment variable {ROOT_VARIABLE})"
        raise DataError(f"root {folder}{origin} is no folder; expected the one that holds the data sets")
    return folder


def find(data_set: DataSet, root: Path) -> Place | None:
    """Return the place of some of a data set's images below the root, or None; ``state_of`` tells whether all are.

    Raises:
        DataError: A folder may not be listed.
    """
    for folder in (root / relative for relative in data_set.folders):
        match data_set.layout:
            case "imagenet":
                is_there = any(holds_image(folder / split, 1) for split in ("train", "val"))
            case "synsets":
                is_there = folder.is_dir() and any(holds_image(synset, 0) for synset in synset_folders(folder))
            case "numbers":
                is_there = (folder / "0").is_dir() and holds_image(folder, 1)
            case "split" | "aircraft":
                is_there = holds_image(folder)
        if is_there:
            return Place(root, folder)
    return None


def place_of(data_set: DataSet, root: Path) -> Place:
    """Return the place as ``find`` does, but refuse a data set that is not there with the way to get it.

    Raises:
        DataError: Its images are not there.
    """
    place = find(data_set, root)
    if place is None:
        expected = root / data_set.folders[0]
        but = ", which is there, but without them" if expected.is_dir() else ""
        raise DataError(
            f"{data_set.name} is not in {root}: expected its images in {expected}{but}; "
            f"lowshot data prepare {data_set.name} --root {root} puts them there"
        )
    return place


def synset_folders(folder: Path) -> list[Path]:
    """Return the folders that are called as synsets are, sorted, which is the order of ImageNet's labels."""
    return [Path(entry.path) for entry in visible_entries(folder) if SYNSET.fullmatch(entry.name) and entry.is_dir()]


def holds_image(folder: Path, deepest: int = DEEPEST_FOLDERS) -> bool:
    """Tell whether there is an image, by its suffix, in a folder or at most so many folders below; stops at the first.

    Raises:
        DataError: A folder may not be listed.
    """
    try:
        with os.scandir(folder) as entries:
            below = []
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if is_image(entry.name):
                    return True
                if deepest and entry.is_dir():
                    below.append(Path(entry.path))
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise DataError(f"data {folder} cannot be listed: {error.strerror or error}") from error
    return any(holds_image(path, deepest - 1) for path in below)
