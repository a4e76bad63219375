"""Images in tar files, as WebDataset has them: ``KEY.jpg`` and ``KEY.cls`` for each image."""

from __future__ import annotations

import dataclasses
import tarfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .images import SUFFIXES, decode_image
from .listing import SPLITS, class_name, sorted_class_names, visible_entries, without_bad_images
from .task import Examples, Pixels, Task

SUFFIX = ".tar"
"""How shards are called."""
CLASS_NAMES = "classnames.txt"
"""A file in the folder of shards: class names in label order, a line each. Labels in the shards are then numbers."""
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
    """Whether there are shards in a folder, or in folders of splits in it."""
    folders = [folder, *(folder / split for split in SPLITS)]
    return any(_shards_in(place) for place in folders if place.is_dir())


def read_shards(path: Path, on_bad_image: str = "error", warn: list[str] | None = None) -> Task:
    """Read shards as a task: one tar file, a folder of them, or a folder with ``train``, ``val`` and ``test`` of them.

    The shards are gone through once for where everything is; nothing is unpacked, and an image's bytes are read when it
    is asked for. Its identity is its shard's name and its key.

    Args:
        path: A tar file or a folder.
        on_bad_image: As for ``read_folder``.
        warn: Receives a line for each sample or image that was left out.

    Raises:
        DataError: A shard is damaged or compressed, or an image has no label.
    """
    warn = warn if warn is not None else []
    known = _known_names(path if path.is_dir() else path.parent)
    shards = _split_shards(path)
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
    if path.is_file():
        return {"train": [path]}
    splits: dict[str, list[Path]] = {}
    for name, split in SPLITS.items():
        shards = _shards_in(path / name) if (path / name).is_dir() else []
        if shards and split in splits:
            raise DataError(f"{path}: two folders have shards of the {split} split; expected one")
        if shards:
            splits[split] = shards
    return splits or {"train": _shards_in(path)}


def _shards_in(folder: Path) -> list[Path]:
    return [Path(entry.path) for entry in visible_entries(folder) if entry.name.endswith(SUFFIX) and entry.is_file()]


def _known_names(folder: Path) -> list[str] | None:
    try:
        lines = (folder / CLASS_NAMES).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{folder / CLASS_NAMES} cannot be read: {error}") from error
    return [class_name(line) for line in lines if line.strip()]


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
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                name = PurePosixPath(member.name)
                stem, _, extension = name.name.partition(".")
                if not member.isreg() or not stem or extension.lower() not in _EXTENSIONS:
                    continue
                key = (name.parent / stem).as_posix()
                sample = samples.setdefault(key, _Sample(f"{shard.stem}/{key}"))
                _add(sample, tar, member, (number, member.offset_data, member.size), shard)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DataError(f"shard {shard} is damaged or compressed: {error}; expected a plain tar file") from error
    return samples


def _add(
    sample: _Sample, tar: tarfile.TarFile, member: tarfile.TarInfo, place: tuple[int, int, int], shard: Path
) -> None:
    is_label = member.name.lower().endswith(".cls")
    if (sample.label if is_label else sample.place) is not None:
        raise DataError(f"shard {shard} has two files for {member.name}; expected one image and one label for a key")
    if not is_label:
        sample.place = place
        return
    file = tar.extractfile(member)
    text = file.read(_LABEL_BYTES).decode("utf-8", "replace").strip() if file else ""
    if not class_name(text):
        raise DataError(f"shard {shard}: {member.name} is empty; expected a class")
    sample.label = text


def _name(sample: _Sample, known: list[str] | None) -> str:
    text = str(sample.label)
    if known is None:
        return class_name(text)
    if not text.isdecimal() or int(text) >= len(known):
        raise DataError(f"{sample.name} has label {text!r}; expected a number below {len(known)}, as in {CLASS_NAMES}")
    return known[int(text)]
