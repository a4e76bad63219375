"""ImageNet's class names: CoOp's ``classnames.txt``, or the list inside open_clip.

CoOp says that its list was copied from CLIP's. open_clip has CLIP's list as OpenAI published it (CLIP-LoRA's code has
another copy of it). Whether the two are equal name by name nobody says, so whose names are used is said.
"""

from __future__ import annotations

import ast
import collections
import importlib.util
from collections.abc import Sequence
from pathlib import Path

from ...errors import DataError
from ..listing import read_lines
from .facts import CATALOGUE, CLASS_NAMES_URL
from .places import SYNSET, Place, find, synset_folders

FILE = "classnames.txt"
"""A line per class: its synset, a space, its name."""
TOLD_APART = {"n04008634": (744, "projectile"), "n04355933": (836, "sunglass")}
"""Synset -> its label and its name in ImageNet. CLIP's list has two pairs of equal names, ``missile`` and
``sunglasses``; classes of one prompt cannot be told apart, so one of each pair keeps ImageNet's own name. The pairs are
200 of the 50,000 test images."""
_HOW_TO_GET_IT = f"lowshot data prepare fetches it, or save it from {CLASS_NAMES_URL} as {{root}}/{FILE}"


def names_of_synsets(place: Place, synsets: Sequence[str], warn: list[str]) -> list[str]:
    """The class name of each synset.

    ``classnames.txt`` is looked for beside the images, in the folders above them, and where ImageNet itself is. Without
    it open_clip's list is taken, if that package is installed.

    Args:
        place: Where the data set is.
        synsets: Its synsets, sorted.
        warn: Receives a line if the names are open_clip's.

    Raises:
        DataError: There is no list, it is damaged, or it lacks a synset.
    """
    path = class_names_file(place)
    known = _read(path) if path else _from_open_clip(place, synsets)
    if path is None:
        warn.append(_whose(place))
    missing = [synset for synset in synsets if synset not in known]
    if missing:
        raise DataError(f"{path or 'open_clip'} has no name for {len(missing)} synset(s), such as {missing[0]}")
    return [known[synset] for synset in synsets]


def names_in_order(place: Place, classes: int, warn: list[str]) -> list[str]:
    """The names of all of ImageNet's classes in label order, for folders that are called by their labels.

    Args:
        place: Where the data set is.
        classes: How many there must be.
        warn: Receives a line if the names are open_clip's.

    Raises:
        DataError: There is no list, it is damaged, or it has another number of classes.
    """
    path = class_names_file(place)
    names = [name for _, name in sorted(_read(path).items())] if path else _open_clip_names()
    if names is None:
        raise DataError(_absent(place))
    if len(names) != classes:
        raise DataError(f"{path or 'open_clip'} has {len(names):,} classes; expected {classes:,}")
    if path is None:
        warn.append(_whose(place))
    return names


def has_class_names(place: Place) -> bool:
    """Whether there is a list of names, without reading it."""
    return class_names_file(place) is not None or _open_clip_source() is not None


def class_names_file(place: Place) -> Path | None:
    """The ``classnames.txt`` that is used, if there is one."""
    found = place.file(FILE)
    if found is None and (imagenet := find(CATALOGUE["imagenet"], place.root)):
        found = imagenet.file(FILE)
    return found


def check_class_names(path: Path) -> None:
    """Refuse a file that does not name all of ImageNet's classes.

    Raises:
        DataError: What it holds instead.
    """
    found, classes = len(_read(path)), CATALOGUE["imagenet"].classes
    if found != classes:
        raise DataError(f"it has {found:,} synsets; expected {classes:,}")


def _read(path: Path) -> dict[str, str]:
    names: dict[str, str] = {}
    for number, line in read_lines(path):
        synset, _, name = line.partition(" ")
        if not SYNSET.fullmatch(synset) or not name.strip():
            raise DataError(f"{path}, line {number}, is {line[:60]!r}; expected a synset and a name: n01440764 tench")
        if synset in names:
            raise DataError(f"{path}, line {number}: synset {synset} is there twice")
        names[synset] = name.strip()
    twice = {name for name, times in collections.Counter(names.values()).items() if times > 1}
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


def _whose(place: Place) -> str:
    return (
        f"class names are open_clip's: CoOp's {FILE}, which published figures use, is not in {place.images} or a "
        f"folder above it; {_HOW_TO_GET_IT.format(root=place.root)}"
    )


def _absent(place: Place) -> str:
    return (
        f"ImageNet's class names are not there: expected {FILE} in {place.images} or a folder above it; "
        f"{_HOW_TO_GET_IT.format(root=place.root)}; or install the package open-clip-torch, which has CLIP's"
    )
