"""Which folders of a folder are its splits and which are its classes, as far as names and contents tell."""

from __future__ import annotations

import collections
import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

from ..errors import DataError
from .listing import SPLITS, Classes, first_names, visible_entries

_USUAL = frozenset({"train", "val", "valid", "validation", "test"})
_PARTS = re.compile(r"(images?|imgs?|masks?|labels?|annotations?|(fold|split)[-_ ]?\d+)", re.IGNORECASE)
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^\W\d_A-Z]+")  # of seg_train, TrainImages, train2017


@dataclasses.dataclass
class LeftOut:
    """Files and folders that were left out of a folder.

    Args:
        links: Links, which are not followed.
        loose: Files beside the folders of classes.
        special: Pipes, sockets and devices.
        others: Files in classes without an image's suffix, by the suffix that they have.
    """

    links: int = 0
    loose: int = 0
    special: int = 0
    others: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)

    def lines(self) -> list[str]:
        """Return a line for each kind of thing."""
        suffixes = ", ".join(f"{count:,} {suffix or 'without any'}" for suffix, count in self.others.most_common(5))
        kinds = {
            "file(s) in no class": self.loose,
            f"file(s) without an image's suffix: {suffixes}": self.others.total(),
            "pipe(s), socket(s) or device(s)": self.special,
            "link(s), which are not followed": self.links,
        }
        return [f"{count:,} {kind}" for kind, count in kinds.items() if count]

    def reason(self) -> str:
        """Return the end of a sentence that says why a folder is as good as empty."""
        return f" (left out: {'; '.join(self.lines())})" if self.lines() else ""


def subfolders(folder: Path) -> tuple[list[Path], LeftOut]:
    """Return the folders in a folder, and what else is in it.

    Raises:
        DataError: It cannot be listed, or a name in it is not UTF-8.
    """
    folders, left_out = [], LeftOut()
    for entry in visible_entries(folder):
        if entry.is_symlink():
            left_out.links += 1
        elif entry.is_dir():
            folders.append(Path(entry.path))
        else:
            left_out.loose += 1
    return folders, left_out


def split_folders(root: Path, warn: list[str]) -> dict[str, Path]:
    """Return the folder of each split; the root as ``train`` where the folders in it are the classes.

    A split's folder is known by its name, which is a word for a split or has one in it, and by holding folders: a class
    may be called ``train`` too. Where another folder is called by the word alone, ``train_masks`` beside ``train`` is
    no split.

    Args:
        root: The folder.
        warn: Receives a line for what lies beside the splits, and one for names that only contain a split's.

    Raises:
        DataError: Two folders are one split, there is no train split, or all folders are called as parts of a data set
            and none holds classes.
    """
    folders, left_out = subfolders(root)
    places: dict[str, list[tuple[int, Path]]] = {}
    for folder in folders:
        named = _split_of(folder.name)
        if named and subfolders(_innermost(folder))[0]:
            places.setdefault(named[0], []).append((named[1], folder))
    by_part_of_names = all(doubt == 2 for folders_of_split in places.values() for doubt, _ in folders_of_split)
    if by_part_of_names and len(places) < 2 and sum(map(len, places.values())) < len(folders):
        places = {}  # a class such as freight_train
    if not places:
        _refuse_parts(root, folders)
        return {"train": root}
    splits = {split: _likeliest(root, split, candidates) for split, candidates in places.items()}
    if "train" not in splits:
        raise DataError(
            f"{root} has a {min(splits)} split and no train; expected a folder train with the classes in it, "
            "or --train DIR"
        )
    warn += [f"{root}: left out {line}" for line in left_out.lines()]
    if others := [folder.name for folder in folders if folder not in splits.values()]:
        warn.append(f"{root}: left out {len(others)} folder(s) that are no split: {first_names(others)}")
    inside = {split: _innermost(folder) for split, folder in splits.items()}
    if any(inside[split] != folder or folder.name.lower() not in SPLITS for split, folder in splits.items()):
        warn.append(f"{root}: read {', '.join(f'{f.relative_to(root)} as {split}' for split, f in inside.items())}")
    return inside


def refuse_folders_of_classes(folder: Path, classes: Classes, warn: list[str]) -> None:
    """Refuse classes of which all images lie in folders within them, and say where some do.

    Folders within classes that all have one name, such as ``<class>/images/*``, are no classes.

    Args:
        folder: The folder that the images' paths start from.
        classes: What would be the classes.
        warn: Receives a line if images of some classes lie deeper than those of others.

    Raises:
        DataError: The folders within may as well be the classes.
    """
    files = [file.split("/") for names in classes.values() for file in names]
    deeper = [parts for parts in files if len(parts) > 2]
    outer, inner = sorted({parts[0] for parts in files}), sorted({parts[1] for parts in deeper})
    flat = len({parts[0] for parts in files if len(parts) == 2})
    if not deeper or (not flat and len(inner) == 1 and len(outer) > 1):
        return
    if len(outer) == 1 and "train" in {SPLITS.get(name.lower()) for name in inner}:
        raise DataError(
            f"{folder} has one folder, {outer[0]}, which is a data set with splits of its own: {first_names(inner)}; "
            f"expected {folder / outer[0]}"
        )
    if not flat:
        raise DataError(
            f"{folder}: no images lie in its {len(outer)} folder(s) {first_names(outer)}, only in folders within: "
            f"{first_names(inner)}. Say which are the classes: --train DIR takes the folders in DIR, {outer[0]} with "
            f"--train {folder}, {deeper[0][1]} with --train {folder / deeper[0][0]}; --test DIR is for a test split"
        )
    within = len({parts[0] for parts in deeper})
    warn.append(
        f"{folder}: {len(deeper):,} image(s) of {within} of its {len(outer)} classes lie in folders within the class, "
        f"such as {'/'.join(deeper[0])}; the classes are {first_names(outer)}. --train DIR takes the folders in DIR"
    )


def _split_of(name: str) -> tuple[str, int] | None:
    """Return the split that a folder is called by, with the doubt: 0 a usual word, 1 another, 2 a part of the name."""
    if name.lower() in SPLITS:
        return SPLITS[name.lower()], int(name.lower() not in _USUAL)
    splits = {SPLITS[word.lower()] for word in _WORDS.findall(name) if word.lower() in SPLITS}
    return (splits.pop(), 2) if len(splits) == 1 else None


def _innermost(folder: Path) -> Path:
    """Return the folder that an archive's own folder of the same name holds, as in ``seg_train/seg_train``."""
    inner = subfolders(folder)[0]
    while len(inner) == 1 and inner[0].name.lower() == folder.name.lower():
        folder, inner = inner[0], subfolders(inner[0])[0]
    return folder


def _likeliest(root: Path, split: str, candidates: Sequence[tuple[int, Path]]) -> Path:
    """Return the folder of a split that is least in doubt."""
    least = min(doubt for doubt, _ in candidates)
    folder, *others = (folder for doubt, folder in candidates if doubt == least)
    if others:
        raise DataError(
            f"{root}: {folder.name} and {others[0].name} are both a {split} split; expected one: "
            "--train DIR, --validation DIR and --test DIR say which"
        )
    return folder


def _refuse_parts(root: Path, folders: Sequence[Path]) -> None:
    """Refuse folders that are all called as parts of a data set are: they would make classes that mean nothing."""
    splits = [_split_of(folder.name) for folder in folders]
    parts = [folder.name for folder in folders if _PARTS.fullmatch(folder.name)]
    named = [split for split in splits if split]
    meant = parts or len({split for split, _ in named}) > 1 or any(doubt < 2 for _, doubt in named)
    if meant and len(parts) + len(named) == len(folders):
        names = first_names([folder.name for folder in folders])
        raise DataError(
            f"{root}: its folder(s) {names} are called as parts of a data set are, not as classes. Put images into a "
            "folder for each class, or say where such folders are: --train DIR, and --test DIR for a test split; "
            f"--train {root} if these are classes all the same"
        )
