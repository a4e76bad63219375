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
from ..task import first_alike
from .places import SYNSET, Place, find, synset_folders
from .rows import CATALOGUE, CLASS_NAMES_URL

FILE = "classnames.txt"
"""A line per class: its synset, a space, its name."""
TOLD_APART = {"n04008634": (744, "projectile"), "n04355933": (836, "sunglass")}
"""Synset -> its label and its name in ImageNet. CLIP's list has two pairs of equal names, ``missile`` and
``sunglasses``; classes of one prompt cannot be told apart, so one of each pair keeps ImageNet's own name. The pairs are
200 of the 50,000 test images."""
_HOW_TO_GET_IT = f"lowshot data prepare fetches it, or save it from {CLASS_NAMES_URL} as {{root}}/{FILE}"


def names_of_synsets(place: Place, synsets: Sequence[str], warn: list[str]) -> list[str]:
    """Return the class name of each synset.

    ``classnames.txt`` is looked for beside the images, in the folders above them, and where ImageNet itself is. Without
    it open_clip's list is taken, if that package is installed.

    Args:
        place: Where the data set is.
        synsets: Its synsets, sorted.
        warn: Receives a line if the names are open_clip's.

    Raises:
        DataError: There is no list, it is damaged, lacks a synset, or has one name for two.
    """
    path = class_names_file(place)
    if path:
        known = _read(path)
    else:  # open_clip lists no synsets: those of a whole ImageNet, sorted, are the order of its names
        names = _open_clip_names(place, warn)
        imagenet = find(CATALOGUE["imagenet"], place.root)
        splits = [imagenet.images / split for split in ("val", "train")] if imagenet else []
        folders = ([folder.name for folder in synset_folders(split)] for split in splits if split.is_dir())
        order = next((each for each in (synsets, *folders) if len(each) == len(names)), None)
        if order is None:
            raise DataError(_absent(place))
        known = dict(zip(order, names, strict=True))
    missing = [synset for synset in synsets if synset not in known]
    if missing:
        raise DataError(f"{path or 'open_clip'} has no name for {len(missing)} synset(s), such as {missing[0]}")
    return _told_apart(path, [known[synset] for synset in synsets])


def names_in_order(place: Place, classes: int, warn: list[str]) -> list[str]:
    """Return the names of all of ImageNet's classes in label order, for folders that are called by their labels.

    Args:
        place: Where the data set is.
        classes: How many there must be.
        warn: Receives a line if the names are open_clip's.

    Raises:
        DataError: There is no list, it is damaged, has another number of classes, or one name for two.
    """
    path = class_names_file(place)
    names = [name for _, name in sorted(_read(path).items())] if path else _open_clip_names(place, warn)
    if len(names) != classes:
        raise DataError(f"{path or 'open_clip'} has {len(names):,} classes; expected {classes:,}")
    return _told_apart(path, names)


def has_class_names(place: Place) -> bool:
    """Tell whether there is a list of names, without reading it."""
    return class_names_file(place) is not None or _open_clip_source() is not None


def class_names_file(place: Place) -> Path | None:
    """Return the ``classnames.txt`` that is used, if there is one."""
    path = place.file(FILE)
    if path is None and (imagenet := find(CATALOGUE["imagenet"], place.root)):
        path = imagenet.file(FILE)
    return path


def check_class_names(path: Path) -> None:
    """Refuse a file that does not name all of ImageNet's classes.

    Raises:
        DataError: It has other or fewer lines.
    """
    synsets, classes = len(_read(path)), CATALOGUE["imagenet"].classes
    if synsets != classes:
        raise DataError(f"it has {synsets:,} synsets; expected {classes:,}")


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


def _told_apart(path: Path | None, names: list[str]) -> list[str]:
    """Return these names; what is alike to a tokenizer would be refused of the task, which knows of no file.

    Raises:
        DataError: Two are alike.
    """
    if alike := first_alike(names):
        raise DataError(
            f"{path or 'open_clip'} names two classes alike, {alike[0]!r} and {alike[1]!r}, and nothing would tell "
            f"them apart; expected CoOp's {FILE}, which is at {CLASS_NAMES_URL}"
        )
    return names


def _open_clip_names(place: Place, warn: list[str]) -> list[str]:
    """Return open_clip's names in label order, and warn that they are."""
    source = _open_clip_source()
    statements = ast.parse(source.read_text(encoding="utf-8")).body if source else []
    for statement in statements:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "IMAGENET_CLASSNAMES":
            warn.append(
                f"class names are open_clip's: CoOp's {FILE}, which published figures use, is not in {place.images} or "
                f"a folder above it; {_HOW_TO_GET_IT.format(root=place.root)}"
            )
            told_apart = dict(TOLD_APART.values())
            names = enumerate(ast.literal_eval(statement.value))
            return [told_apart.get(label, str(name)) for label, name in names]
    raise DataError(_absent(place))


def _open_clip_source() -> Path | None:
    """Return open_clip's file of names. It is read: to import it imports torchvision, which may be broken."""
    package = importlib.util.find_spec("open_clip")
    folders = package.submodule_search_locations if package else None
    sources = [Path(folder) / "zero_shot_metadata.py" for folder in folders or ()]
    return next((source for source in sources if source.is_file()), None)


def _absent(place: Place) -> str:
    return (
        f"ImageNet's class names are not there: expected {FILE} in {place.images} or a folder above it; "
        f"{_HOW_TO_GET_IT.format(root=place.root)}; or install the package open-clip-torch, which has CLIP's"
    )
