"""ImageNet's class names: CoOp's ``classnames.txt``, or the list inside open_clip."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Sequence
from pathlib import Path

from ...errors import DataError
from .facts import CATALOGUE, CLASS_NAMES_URL
from .places import SYNSET, Place, find, synset_folders

FILE = "classnames.txt"
"""A line per class: its synset, a space, its name."""
TOLD_APART = {"n04008634": (744, "projectile"), "n04355933": (836, "sunglass")}
"""Synset -> its label and its name in ImageNet. CLIP's list has two pairs of equal names, ``missile`` and
``sunglasses``; classes of one prompt cannot be told apart, so one of each pair keeps ImageNet's own name. The pairs are
200 of the 50,000 test images."""


def names_of_synsets(place: Place, synsets: Sequence[str]) -> list[str]:
    """The class name of each synset.

    ``classnames.txt`` is looked for beside the images, in the folders above them, and where ImageNet itself is. Without
    it open_clip's list is taken, which has the same names, if that package is installed.

    Args:
        place: Where the data set is.
        synsets: Its synsets, sorted.

    Raises:
        DataError: There is no list, it is damaged, or it lacks a synset.
    """
    path = _file(place)
    known = _read(path) if path else _from_open_clip(place, synsets)
    missing = [synset for synset in synsets if synset not in known]
    if missing:
        raise DataError(f"{path or 'open_clip'} has no name for {len(missing)} synset(s), such as {missing[0]}")
    return [known[synset] for synset in synsets]


def names_in_order(place: Place, classes: int) -> list[str]:
    """The names of all of ImageNet's classes in label order, for folders that are called by their labels.

    Raises:
        DataError: There is no list, it is damaged, or it has another number of classes.
    """
    path = _file(place)
    names = [name for _, name in sorted(_read(path).items())] if path else _open_clip_names()
    if names is None:
        raise DataError(_absent(place))
    if len(names) != classes:
        raise DataError(f"{path or 'open_clip'} has {len(names):,} classes; expected {classes:,}")
    return names


def has_class_names(place: Place) -> bool:
    """Whether there is a list of names, without reading it."""
    return _file(place) is not None or _open_clip_source() is not None


def _file(place: Place) -> Path | None:
    imagenet = find(CATALOGUE["imagenet"], place.root)
    return place.file(FILE) or (imagenet.file(FILE) if imagenet else None)


def _read(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    names: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        synset, _, name = line.strip().partition(" ")
        if not synset:
            continue
        if not SYNSET.fullmatch(synset) or not name.strip():
            raise DataError(f"{path}, line {number}, is {line[:60]!r}; expected a synset and a name: n01440764 tench")
        if synset in names:
            raise DataError(f"{path}, line {number}: synset {synset} is there twice")
        names[synset] = name.strip()
    twice = {name for name in names.values() if list(names.values()).count(name) > 1}
    names.update({s: name for s, (_, name) in TOLD_APART.items() if names.get(s) in twice})
    return names


def _from_open_clip(place: Place, synsets: Sequence[str]) -> dict[str, str]:
    """open_clip's names by synset. It lists no synsets: those of a whole ImageNet, sorted, are its order."""
    names = _open_clip_names()
    if names is not None:
        for everything in (synsets, *_synsets_of_imagenet(place)):
            if len(everything) == len(names):
                return dict(zip(everything, names, strict=True))
    raise DataError(_absent(place))


def _synsets_of_imagenet(place: Place) -> list[list[str]]:
    imagenet = find(CATALOGUE["imagenet"], place.root)
    splits = [imagenet.images / split for split in ("val", "train")] if imagenet else []
    return [[folder.name for folder in synset_folders(split)] for split in splits if split.is_dir()]


def _open_clip_names() -> list[str] | None:
    source = _open_clip_source()
    names = _list_in(source) if source else None
    told_apart = dict(TOLD_APART.values())
    return [told_apart.get(label, name) for label, name in enumerate(names)] if names else None


def _open_clip_source() -> Path | None:
    """Where open_clip has the names. The file is read, not imported: that imports torchvision, which may be broken."""
    package = importlib.util.find_spec("open_clip")
    folders = package.submodule_search_locations if package else None
    sources = [Path(folder) / "zero_shot_metadata.py" for folder in folders or ()]
    return next((source for source in sources if source.is_file()), None)


def _list_in(source: Path) -> list[str] | None:
    for statement in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "IMAGENET_CLASSNAMES":
            return [str(name) for name in ast.literal_eval(statement.value)]
    return None


def _absent(place: Place) -> str:
    return (
        f"ImageNet's class names are not there: expected {FILE} in {place.images} or a folder above it "
        f"(CoOp's list: {CLASS_NAMES_URL}), or the package open-clip-torch"
    )
