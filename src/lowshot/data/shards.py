"""Images in tar files, as WebDataset has them: ``KEY.jpg`` and ``KEY.cls`` for each image."""

from __future__ import annotations

import dataclasses
import tarfile
from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .assembling import Reading, task_of_named_images
from .folder import image_files
from .formats import SUFFIXES
from .images import EncodedImages
from .layout import LeftOut
from .listing import SPLITS, class_name, kind_of, read_lines, visible_entries
from .opening import MAXIMUM_FILE_BYTES
from .tar_files import OpenMember, tar_members
from .task import Task, is_text

SUFFIX = ".tar"
"""The end of a shard's name."""
CLASS_NAMES = "classnames.txt"
"""A file in the folder of shards: class names in label order, a line each. Labels in the shards are then numbers."""
_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_LABEL_BYTES = 4096
_EXTENSIONS = {"cls", *(suffix.removeprefix(".") for suffix in SUFFIXES)}


@dataclasses.dataclass(frozen=True)
class _ShardImages(EncodedImages):
    """Images in uncompressed tar files, each of which is read from its place."""

    shards: Sequence[Path]
    places: NDArray[np.int64]
    """Shard, offset and size of each image, ``(N, 3)``."""
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.places)

    def name(self, index: int) -> str:
        return self.names[index]

    def source(self, index: int) -> bytes:
        shard, offset, size = self.places[index].tolist()
        path = self.shards[shard]
        try:
            with path.open("rb") as file:
                file.seek(offset)
                content: bytes = file.read(size)
                return content
        except OSError as error:
            raise DataError(f"shard {path} cannot be read: {error.strerror or error}") from error


@dataclasses.dataclass
class _Sample:
    """An image of a shard and its label, as far as both were met."""

    name: str
    place: tuple[int, int, int] | None = None
    label: str = ""

    def add(self, member: tarfile.TarInfo, opener: OpenMember, number: int, shard: Path) -> None:
        """Note where an image is in a shard of that number, or read its label."""
        is_label, where = member.name.lower().endswith(".cls"), f"shard {shard}: {member.name}"
        if self.label if is_label else self.place is not None:
            one = "expected one image and one label for a key"
            raise DataError(f"shard {shard} has two files for {member.name}; {one}")
        limit = _LABEL_BYTES if is_label else MAXIMUM_FILE_BYTES
        if member.size > limit:
            raise DataError(f"{where} has {member.size:,} bytes; expected at most {limit:,}")
        if not is_label:
            self.place = number, member.offset_data, member.size
            return
        try:
            with opener() as file:
                self.label = file.read().decode("utf-8").strip()
        except tarfile.TarError as error:
            raise DataError(f"{where} is damaged: {error}") from error
        except UnicodeDecodeError:
            raise DataError(f"{where} is no UTF-8; expected a class") from None
        if not class_name(self.label):
            raise DataError(f"{where} is empty; expected a class")


def holds_shards(folder: Path) -> bool:
    """Tell whether a folder is to be read as shards: there are more of them, also in splits, than class folders.

    So a tar file that somebody left beside the images changes nothing.

    Raises:
        DataError: A folder cannot be listed, or two folders have shards of one split.
    """
    count = sum(map(len, _split_shards(folder).values()))
    return count > 0 and count > len(_class_folders(folder))


def read_shards(path: Path, reading: Reading) -> Task:
    """Read shards as a task: one tar file, a folder of them, or a folder with ``train``, ``val`` and ``test`` of them.

    The shards are gone through once for where everything is; nothing is unpacked, and an image's bytes are read when it
    is asked for. Its identity is its shard's name and its key.

    Raises:
        DataError: A shard is damaged, cut short or compressed, or an image has no label.
    """
    is_folder = kind_of(path) == "folder"
    list_of_names = (path if is_folder else path.parent) / CLASS_NAMES
    known = None
    if kind_of(list_of_names) != "nothing":
        known = [class_name(line) for _, line in read_lines(list_of_names)]
    shards = _split_shards(path)
    if is_folder:
        folders = _class_folders(path)
        used = {shard.parent for files in shards.values() for shard in files}
        left_out = {
            "shard(s) in no split": 0 if path in used else len(_shards_in(path)),
            "compressed shard(s); expected plain tar files": sum(len(_shards_in(place, _COMPRESSED)) for place in used),
            f"folder(s) of images, such as {folders[0].name if folders else ''}": len(folders),
        }
        reading.warn.extend(f"{path}: left out {count} {what}" for what, count in left_out.items() if count)
    samples = {split: _samples(files, known, reading.warn) for split, files in shards.items()}
    named = {}
    for split, of in samples.items():
        identities = tuple(sample.name for sample in of)
        images = _ShardImages(shards[split], np.asarray([sample.place for sample in of]), identities)
        named[split] = images, [sample.label for sample in of], identities
    return task_of_named_images(path, path.resolve().name.removesuffix(SUFFIX), named, reading, known)


def _split_shards(path: Path) -> dict[str, list[Path]]:
    """Return the shards of each split."""
    if kind_of(path) == "file":
        return {"train": [path]}
    splits: dict[str, list[Path]] = {}
    for folder in _folders_in(path, SPLITS):
        split, shards = SPLITS[folder.name.lower()], _shards_in(folder)
        if shards and split in splits:
            raise DataError(f"{path}: two folders have shards of the {split} split; expected one")
        if shards:
            splits[split] = shards
    return splits or {"train": _shards_in(path)}


def _shards_in(folder: Path, suffixes: str | tuple[str, ...] = SUFFIX) -> list[Path]:
    paths = [Path(entry.path) for entry in visible_entries(folder) if entry.name.lower().endswith(suffixes)]
    return [path for path in paths if kind_of(path) == "file"]


def _folders_in(folder: Path, names: Collection[str] = ()) -> list[Path]:
    """Return the folders in a folder; if names are given, those that have one of them in any case."""
    paths = [Path(entry.path) for entry in visible_entries(folder) if not names or entry.name.lower() in names]
    return [path for path in paths if kind_of(path) == "folder"]


def _class_folders(folder: Path) -> list[Path]:
    """Return the folders with images in them that would be classes if there were no shards."""
    folders: list[Path] = []
    for place in _folders_in(folder):
        inner = _folders_in(place) if place.name.lower() in SPLITS else []
        folders += inner or [place]
    return [place for place in folders if next(image_files(place, LeftOut()), None) is not None]


def _samples(shards: Sequence[Path], known: Sequence[str] | None, warn: list[str]) -> list[_Sample]:
    """Return every image of some shards with the name of its class, in order."""
    samples: list[_Sample] = []
    for number, shard in enumerate(shards):
        members = list(_index(number, shard).values())
        unlabelled = [sample.name for sample in members if not sample.label]
        if unlabelled:
            raise DataError(
                f"{shard}: {len(unlabelled)} image(s) have no label, such as {unlabelled[0]}; expected .cls"
            )
        alone = sum(sample.place is None for sample in members)
        if alone:
            warn.append(f"{shard}: left out {alone} label(s) without an image")
        samples += [sample for sample in members if sample.place is not None]
    if not samples:
        raise DataError(f"{shards[0].parent}: the shards hold no images; expected KEY.jpg and KEY.cls for each")
    for sample in samples:
        text = sample.label
        if known is not None and (not text.isdecimal() or int(text) >= len(known)):
            expected = f"expected a number below {len(known)}, as in {CLASS_NAMES}"
            raise DataError(f"{sample.name} has label {text!r}; {expected}")
        sample.label = class_name(text) if known is None else known[int(text)]
    return samples


def _index(number: int, shard: Path) -> dict[str, _Sample]:
    """Return the samples of a shard by their keys."""
    samples: dict[str, _Sample] = {}
    try:
        with shard.open("rb") as file:
            for member, opener in tar_members(file, may_be_compressed=False):
                name = PurePosixPath(member.name)
                stem, _, extension = name.name.partition(".")
                if not member.isreg() or not stem or extension.lower() not in _EXTENSIONS:
                    continue
                key = (name.parent / stem).as_posix()
                if not is_text(key):
                    raise DataError(f"shard {shard}: the name {member.name!r} is not UTF-8; rename it")
                samples.setdefault(key, _Sample(f"{shard.stem}/{key}")).add(member, opener, number, shard)
    except DataError:
        raise
    except tarfile.TarError as error:
        raise DataError(f"shard {shard} is damaged or compressed: {error}; expected a plain tar file") from error
    except OSError as error:
        raise DataError(f"shard {shard} cannot be read: {error.strerror or error}") from error
    return samples
