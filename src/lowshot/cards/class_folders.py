"""Labels as folders: each image that is given a class is put into that class's folder."""

from __future__ import annotations

import contextlib
import filecmp
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..data import class_name
from ..errors import DataError, InputError, OutputError, UnknownNameError
from ..files import os_errors_about
from ..folders import PARTIAL, PUT, folder_names
from .deciding import Card, Labels

LEFT_OUT = ".left-out"
"""The folder, which nothing reads, of images that are left out."""


class ClassFolders:
    """Folders of classes in one folder.

    Where an image goes is written down before it is put there, so that none is lost or there twice, whatever ends the
    process. No file is written over: where a name is taken the image gets ``_2`` and so on behind its own.

    Args:
        root: The folder of the classes' folders; it is made if it is not there.
        name: Of what is decided; two of different names may go to the same folders, one after the other.
        put: ``copy``, ``link`` or ``move``; images that are said to be of a class lie in its folder, and are moved.
    """

    def __init__(self, root: Path, name: str, put: str = "copy") -> None:
        if put not in PUT:
            raise UnknownNameError("way to put images", put, PUT)
        if root.exists() and not root.is_dir():
            raise InputError(f"{root} is a file; expected a folder, or a name that ends in .csv or .jsonl")
        self.root = root.absolute()
        self._name, self._put = name, put
        self._at: dict[str, str | None] = {}

    @property
    def journal(self) -> Path:
        return self.root / f".lowshot-{self._name}.jsonl"

    def where(self, image: str) -> Path:
        return Path(self._at.get(image) or image)

    def class_called(self, name: str) -> str:
        return class_name(self._folder(self.root, class_name(name)).name)

    def plan(self, card: Card, labels: Labels) -> dict[str, Any]:
        moves = []
        for image, before in zip(card.images, card.labels, strict=True):
            at = self._at.get(image, image if self._put == "move" else None)
            to = self._place(image, before, at, labels)
            if to != at:
                if to is not None and not any(Path(place).exists() for place in (at, image) if place):
                    raise DataError(f"{at or image} has gone, and can have no label; skip it")
                moves.append([image, at, to])
        return {"moves": moves}

    def done_before(self, plans: Sequence[Mapping[str, Any]], labels: Labels) -> None:  # noqa: ARG002
        for partial in self.root.glob(f"*/.*{PARTIAL}"):  # of a process that was killed
            partial.unlink()
        for plan in plans:
            self._at |= {image: to for image, _, to in plan["moves"]}

    def put(self, plan: Mapping[str, Any], labels: Labels) -> None:  # noqa: ARG002
        for image, at, to in plan["moves"]:
            with os_errors_about(Path(to or at)):
                self._moved(Path(image), None if at is None else Path(at), None if to is None else Path(to))
            self._at[image] = to

    def _moved(self, image: Path, at: Path | None, to: Path | None) -> None:
        if to is None:
            assert at is not None
            # Only what is still the copy that was made is taken away.
            if at.exists() and image.exists() and filecmp.cmp(image, at, shallow=False):
                at.unlink()
        elif not os.path.lexists(to):
            to.parent.mkdir(parents=True, exist_ok=True)
            if at is not None and at.exists():
                PUT["move"](at, to)
            elif image.exists():  # else it has gone between two processes
                PUT[self._put](image, to)
        elif at is not None and at.exists() and filecmp.cmp(at, to, shallow=False):
            at.unlink()  # it was copied to another disk, and not removed yet
        if at is not None and self.root in at.parent.parents:
            with contextlib.suppress(OSError):
                at.parent.rmdir()  # a class without images could not be learnt

    def _place(self, image: str, before: str | None, at: str | None, labels: Labels) -> str | None:
        """Where an image belongs that is said to be of a class; None where it has no place but its own."""
        label = labels.get(image, before)
        if label is None and image in labels:
            base = self._base(image, before)
            return (
                at if at and LEFT_OUT in Path(at).parts else str(_free(base / LEFT_OUT / Path(image).relative_to(base)))
            )
        if label == before:
            home = image if self._put == "move" else None
            return home if home is None or at == home else str(_free(Path(home)))
        assert label is not None
        folder = self._folder(self._base(image, before), label)
        return at if at and Path(at).parent == folder else str(_free(folder / Path(image).name))

    def _base(self, image: str, before: str | None) -> Path:
        """The folder that an image's class lies in among the others."""
        if before is None:
            return self.root
        for parent in Path(image).parents:
            if class_name(parent.name) == before:
                return parent.parent
        raise OutputError(f"{image} is in no folder of its class, {before}; write the labels to a table instead")

    @staticmethod
    def _folder(base: Path, label: str) -> Path:
        """The folder of a class: the one that is there, else a new one."""
        if base.is_dir():
            for entry in sorted(base.iterdir()):
                if entry.is_dir() and class_name(entry.name) == label:
                    return entry
        return base / folder_names([label])[label]


def _free(path: Path) -> Path:
    """The path, with a number behind its name where that is taken."""
    count, free = 1, path
    while os.path.lexists(free):
        count += 1
        free = path.with_stem(f"{path.stem}_{count}")
    return free
