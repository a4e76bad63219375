"""Images in tar files, as WebDataset has them: ``KEY.jpg`` and ``KEY.cls`` for each image."""

from __future__ import annotations

import collections
import dataclasses
import tarfile
from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .folder import image_files
from .images import MAXIMUM_FILE_BYTES, SUFFIXES, decode_image
from .listing import SPLITS, class_name, kind_of, read_lines, sorted_class_names, visible_entries, without_bad_images
from .tar_files import OpenMember, tar_members
from .task import Examples, Pixels, Task, is_text

SUFFIX = ".tar"
"""How shards are called."""
CLASS_NAMES = "classnames.txt"
"""A file in the folder of shards: class names in label order, a line each. Labels in the shards are then numbers."""
_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_LABEL_BYTES = 4096
_EXTENSIONS = {"cls", *(suffix.removeprefix(".") for suffix in SUFFIXES)}


@dataclasses.dataclass(frozen=True)
class _ShardImages:
    """Images in uncompressed tar files; each is read from its place and decoded when asked for."""

    shards: Sequence[Path]
    places: NDArray[np.int64]
    """Shard, offset and size of each image, ``(N, 3)``."""
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Pixels:
        shard, offset, size = self.places[index].tolist()
        path = self.shards[shard]
        try:
            with path.open("rb") as file:
                file.seek(offset)
                return decode_image(file.read(size))
        except OSError as error:
            raise DataError(f"shard {path} cannot be read: {error.strerror or error}") from error
        except DataError as error:
            raise DataError(f"{self.names[index]}: {error}") from error.__cause__


@dataclasses.dataclass
class _Sample:
    """What is known of one key."""

    name: str
    place: tuple[int, int, int] | None = None
    label: str | None = None


def holds_shards(folder: Path) -> bool:
    """Whether a folder is to be read as shards: it, or folders of splits in it, has more of them than class folders.

    So a tar file that somebody left beside the images changes nothing.

    Raises:
        DataError: A folder cannot be listed, or two folders have shards of one split.
    """
    count = sum(map(len, _split_shards(folder).values()))
    return count > 0 and count > len(_class_folders(folder))


def read_shards(path: Path, on_bad_image: str = "error", warn: list[str] | None = None) -> Task:
    """Read shards as a task: one tar file, a folder of them, or a folder with ``train``, ``val`` and ``test`` of them.

    The shards are gone through once for where everything is; nothing is unpacked, and an image's bytes are read when it
    is asked for. Its identity is its shard's name and its key.

    Args:
        path: A tar file or a folder.
        on_bad_image: As for ``read_folder``.
        warn: Receives a line for each sample or image that was left out, and for what lies beside the shards.

    Raises:
        DataError: A shard is damaged, cut short or compressed, or an image has no label.
    """
    warn = warn if warn is not None else []
    known = _known_names(path if kind_of(path) == "folder" else path.parent)
    shards = _split_shards(path)
    warn += _left_out(path, shards)
    samples = {split: _samples(files, warn) for split, files in shards.items()}
    names = {split: [_name(sample, known) for sample in found] for split, found in samples.items()}
    class_names = sorted_class_names(path, {split: set(of) for split, of in names.items()})
    class_names = known or class_names
    label_of = {name: label for label, name in enumerate(class_names)}
    examples = {}
    for split, found in samples.items():
        identities = tuple(sample.name for sample in found)
        images = _ShardImages(tuple(shards[split]), np.asarray([sample.place for sample in found]), identities)
        labels = np.asarray([label_of[name] for name in names[split]], dtype=np.int64)
        examples[split] = Examples(images, labels, identities)
    if on_bad_image == "skip":
        examples = {split: without_bad_images(rows, class_names, warn) for split, rows in examples.items()}
    name = path.resolve().name.removesuffix(SUFFIX)
    return Task(name, tuple(class_names), examples["train"], examples.get("validation"), examples.get("test"))


def _split_shards(path: Path) -> dict[str, list[Path]]:
    """Split -> its shards."""
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
    found = [Path(entry.path) for entry in visible_entries(folder) if entry.name.lower().endswith(suffixes)]
    return [path for path in found if kind_of(path) == "file"]


def _folders_in(folder: Path, names: Collection[str] = ()) -> list[Path]:
    """The folders in a folder; if names are given, those that have one of them in any case."""
    entries = visible_entries(folder)
    found = [Path(entry.path) for entry in entries if not names or entry.name.lower() in names]
    return [path for path in found if kind_of(path) == "folder"]


def _class_folders(folder: Path) -> list[Path]:
    """The folders with images in them that would be classes if there were no shards."""
    folders: list[Path] = []
    for place in _folders_in(folder):
        inner = _folders_in(place) if place.name.lower() in SPLITS else []
        folders += inner or [place]
    return [place for place in folders if next(image_files(place, collections.Counter()), None) is not None]


def _left_out(path: Path, splits: dict[str, list[Path]]) -> list[str]:
    """A line for everything beside the shards that looks like data."""
    if kind_of(path) == "file":
        return []
    folders = _class_folders(path)
    used = {shard.parent for shards in splits.values() for shard in shards}
    left_out = {
        "shard(s) in no split": 0 if path in used else len(_shards_in(path)),
        "compressed shard(s); expected plain tar files": sum(len(_shards_in(place, _COMPRESSED)) for place in used),
        f"folder(s) of images, such as {folders[0].name if folders else ''}": len(folders),
    }
    return [f"{path}: left out {count} {what}" for what, count in left_out.items() if count]


def _known_names(folder: Path) -> list[str] | None:
    path = folder / CLASS_NAMES
    return None if kind_of(path) == "nothing" else [class_name(line) for _, line in read_lines(path)]


def _samples(shards: Sequence[Path], warn: list[str]) -> list[_Sample]:
    """Every image of some shards with its label, in order."""
    samples: list[_Sample] = []
    for number, shard in enumerate(shards):
        found = list(_index(number, shard).values())
        unlabelled = [sample.name for sample in found if sample.label is None]
        if unlabelled:
            raise DataError(
                f"{shard}: {len(unlabelled)} image(s) have no label, such as {unlabelled[0]}; expected .cls"
            )
        alone = sum(sample.place is None for sample in found)
        if alone:
            warn.append(f"{shard}: left out {alone} label(s) without an image")
        samples += [sample for sample in found if sample.place is not None]
    if not samples:
        raise DataError(f"{shards[0].parent}: the shards hold no images; expected KEY.jpg and KEY.cls for each")
    return samples


def _index(number: int, shard: Path) -> dict[str, _Sample]:
    """Key -> what a shard has under it."""
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
                sample = samples.setdefault(key, _Sample(f"{shard.stem}/{key}"))
                _add(sample, number, member, opener, shard)
    except DataError:
        raise
    except tarfile.TarError as error:
        raise DataError(f"shard {shard} is damaged or compressed: {error}; expected a plain tar file") from error
    except OSError as error:
        raise DataError(f"shard {shard} cannot be read: {error.strerror or error}") from error
    return samples


def _add(sample: _Sample, number: int, member: tarfile.TarInfo, opener: OpenMember, shard: Path) -> None:
    is_label = member.name.lower().endswith(".cls")
    if (sample.label if is_label else sample.place) is not None:
        raise DataError(f"shard {shard} has two files for {member.name}; expected one image and one label for a key")
    limit = _LABEL_BYTES if is_label else MAXIMUM_FILE_BYTES
    if member.size > limit:
        raise DataError(f"shard {shard}: {member.name} has {member.size:,} bytes; expected at most {limit:,}")
    if is_label:
        sample.label = _label(opener, f"shard {shard}: {member.name}")
    else:
        sample.place = number, member.offset_data, member.size


def _label(opener: OpenMember, where: str) -> str:
    try:
        with opener() as file:
            text = file.read().decode("utf-8").strip()
    except tarfile.TarError as error:
        raise DataError(f"{where} is damaged: {error}") from error
    except UnicodeDecodeError:
        raise DataError(f"{where} is no UTF-8; expected a class") from None
    if not class_name(text):
        raise DataError(f"{where} is empty; expected a class")
    return text


def _name(sample: _Sample, known: list[str] | None) -> str:
    text = str(sample.label)
    if known is None:
        return class_name(text)
    if not text.isdecimal() or int(text) >= len(known):
        raise DataError(f"{sample.name} has label {text!r}; expected a number below {len(known)}, as in {CLASS_NAMES}")
    return known[int(text)]
