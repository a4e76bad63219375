"""A task: labelled images in up to three splits, and the names of their classes."""

from __future__ import annotations

import collections
import dataclasses
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError

Pixels = NDArray[np.uint8]
"""One decoded image: ``(height, width, 3)``, RGB, 0 to 255."""

Label: TypeAlias = str | int | float
"""A label that callers know a class by: a text, a number or a truth value."""

_MOST_SHOWN = 5


class Images(Protocol):
    """A fixed sequence of images that are decoded when asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Pixels: ...


@dataclasses.dataclass(frozen=True)
class Examples:
    """Labelled images of one split.

    Args:
        images: N images.
        labels: Index of each image's class, ``(N,)``. Where images have several labels ``(N, C)``: 1 for each class
            that an image shows, else 0. An image may show none.
        identities: A name for each image that no move, sort or second reading changes; shots are drawn by it.

    Raises:
        DataError: There is not one of each for every image, or labels are no whole numbers, or a table of others than
            0 and 1.
    """

    images: Images
    labels: NDArray[np.int64]
    identities: tuple[str, ...]

    def __post_init__(self) -> None:
        labels = np.asarray(self.labels)  # in the order of whatever was given: a column of pandas is not indexed
        if labels.size and labels.dtype.kind not in "iu":
            raise DataError(f"labels of examples are {labels.dtype}; expected the index of each image's class")
        if labels.ndim > 1 and (labels.ndim > 2 or not np.isin(labels, (0, 1)).all()):
            raise DataError(f"labels have the shape {labels.shape}; expected (N,), or (N, C) of 0 and 1")
        object.__setattr__(self, "labels", labels.astype(np.int64, copy=False))
        object.__setattr__(self, "identities", tuple(self.identities))
        if not len(self.images) == len(self.labels) == len(self.identities):
            raise DataError(
                f"{len(self.images)} images have {len(self.labels)} labels and {len(self.identities)} identities; "
                "expected one of each for every image"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        """Return their number: the images may be gigabytes."""
        return f"Examples({len(self):,} images)"

    @property
    def has_several(self) -> bool:
        """Tell whether images have several labels each, or none."""
        return self.labels.ndim == 2

    @property
    def shots(self) -> int:
        """Images per class: of the class that has most; of several labels the median class's, drawn for the rarest."""
        if self.has_several:
            return max(1, int(np.median(self.labels.sum(0))))
        return int(np.bincount(self.labels).max())

    def counts(self, classes: int) -> NDArray[np.int64]:
        """Return how many images each of so many classes has, ``(C,)``."""
        counts = self.labels.sum(0) if self.has_several else np.bincount(self.labels, minlength=classes)
        return counts.astype(np.int64, copy=False)

    def of_several(self, classes: int) -> Examples:
        """Return the same with labels ``(N, C)``: each image shows its one class of so many."""
        if self.has_several:
            return self
        return dataclasses.replace(self, labels=np.eye(classes, dtype=np.int64)[self.labels])

    def relabelled(self, place: NDArray[np.int64], classes: int) -> Examples:
        """Return the same images with the label of each class in another place.

        Args:
            place: The new label of each class, ``(C,)``.
            classes: How many labels there are then.
        """
        if not self.has_several:
            return dataclasses.replace(self, labels=place[self.labels])
        labels = np.zeros((len(self), classes), dtype=np.int64)
        labels[:, place] = self.labels
        return dataclasses.replace(self, labels=labels)

    @property
    def has_repeats(self) -> bool:
        """Tell whether some image is there twice, so that none can be held out."""
        return len(set(self.identities)) < len(self.identities)

    def subset(self, indices: Sequence[int] | NDArray[np.int64]) -> Examples:
        """Return the examples at these indices, in their order."""
        chosen = [int(i) for i in indices]
        return Examples(
            images=ImageSubset(self.images, chosen),
            labels=self.labels[chosen],
            identities=tuple(self.identities[i] for i in chosen),
        )

    def part(self, indices: Sequence[int] | NDArray[np.int64]) -> Examples:
        """Return the same as ``subset``, whose embeddings are rows of those of all of these (see ``Part``)."""
        some = self.subset(indices)
        return dataclasses.replace(some, images=Part(self.images, [int(i) for i in indices]))


@dataclasses.dataclass(frozen=True)
class ImageSubset:
    """Some images of a sequence, still decoded only when asked for."""

    images: Images
    indices: Sequence[int]

    def __len__(self) -> int:
        return len(self.indices)

    def __repr__(self) -> str:
        return f"ImageSubset({len(self):,} of {self.images!r})"

    def __getitem__(self, index: int) -> Pixels:
        return self.images[self.indices[index]]

    def place(self, index: int) -> tuple[Images, int]:
        """Return the sequence that an image stands in, and its place there."""
        return self.images, self.indices[index]


class Part(ImageSubset):
    """Some of the shots, where every one of them has its turn: a frozen tower encodes all of the shots at once."""


@dataclasses.dataclass(frozen=True, eq=False)
class JoinedImages:
    """The images of one sequence, then those of another."""

    first: Images
    second: Images

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def __getitem__(self, index: int) -> Pixels:
        images, place = self.place(index)
        return images[place]

    def place(self, index: int) -> tuple[Images, int]:
        """Return the sequence that an image stands in, and its place there."""
        own = len(self.first)
        return (self.first, index) if index < own else (self.second, index - own)


def is_text(name: str) -> bool:
    """Tell whether a name can be written as UTF-8; names on disk may be other bytes, and JSON has half characters."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def as_read(text: str) -> str:
    """Return a text as CLIP's tokenizers read it: they drop case and extra spaces, and compose accents."""
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


def first_alike(names: Iterable[str]) -> tuple[str, str] | None:
    """Return the first two class names that CLIP's tokenizers read as the same words, if any are."""
    read_as: dict[str, str] = {}
    for name in names:
        words = as_read(name.replace("_", " "))
        if words in read_as:
            return read_as[words], name
        read_as[words] = name
    return None


def numbered(contents: Iterable[str]) -> tuple[str, ...]:
    """Return identities of images that are known by their content: it, and the how-manieth of that content it is."""
    seen: collections.Counter[str] = collections.Counter()
    identities = []
    for content in contents:
        seen[content] += 1
        identities.append(f"{content}/{seen[content]}")
    return tuple(identities)


def whole(images: Images) -> Images:
    """Return the sequence that these images are some of, or these themselves."""
    while isinstance(images, ImageSubset):
        images = images.images
    return images


def place_of(images: Images, index: int) -> tuple[Images, int]:
    """Return the sequence that an image of these stands in by itself, and its place there."""
    while isinstance(images, ImageSubset | JoinedImages):
        images, index = images.place(index)
    return images, index


@dataclasses.dataclass(frozen=True)
class Task:
    """Classes to be learnt, and labelled images of them.

    Args:
        name: Short name, as on the command line.
        class_names: Class names in label order, as they go into prompts.
        train: The images that shots are drawn from.
        validation: For choosing settings; may be None.
        test: For the reported figures; may be None.
        summary: One line on what the images are.
        template: The data set's own template as CoOp writes it, which ``coop`` stands for; None where there is none.
        class_labels: What callers know the classes by, in label order, where that is not their names.
    """

    name: str
    class_names: tuple[str, ...]
    train: Examples
    validation: Examples | None = None
    test: Examples | None = None
    summary: str = ""
    template: str | None = None
    class_labels: tuple[Label, ...] = ()

    def __post_init__(self) -> None:
        if len(self.class_names) < 2:
            raise DataError(f"{self.name} has {len(self.class_names)} class(es); expected at least 2")
        for name in (self.name, *self.class_names):
            if not is_text(name):
                raise DataError(f"the name {name!r} is not UTF-8; rename it")
        without = [name for name in self.class_names if not as_read(name.replace("_", " "))]
        if without:
            raise DataError(f"{self.name} has a class without a name, {without[0]!r}")
        if alike := first_alike(self.class_names):
            one, other = alike
            differ = f"{self.name}: classes {one!r} and {other!r} differ only in case or spaces"
            raise DataError(f"{self.name} names a class twice: {one}" if one == other else differ)
        if self.class_labels and len(set(self.class_labels)) != len(self.class_names):
            raise DataError(f"{self.name} has {len(set(self.class_labels))} labels for {len(self.class_names)} classes")
        for split, examples in self.splits().items():
            self._check_labels(split, examples)

    def _check_labels(self, split: str, examples: Examples) -> None:
        """Refuse labels of no class, and splits of which some have several labels an image and others one."""
        classes, labels = len(self.class_names), examples.labels
        if examples.has_several != self.has_several:
            several, one = (split, "train") if examples.has_several else ("train", split)
            raise DataError(f"{self.name}: images of {several} have several labels, those of {one} have one")
        if examples.has_several:
            if labels.shape[1] != classes:
                raise DataError(f"{self.name}: labels of {split} are of {labels.shape[1]} classes; expected {classes}")
        elif not set(labels.tolist()) <= set(range(classes)):
            extent = f"{labels.min()} to {labels.max()}"
            raise DataError(f"{self.name} has labels from {extent}; expected 0 to {classes - 1}")

    def __repr__(self) -> str:
        """Return name, first classes and sizes of the splits."""
        first = ", ".join(self.class_names[:_MOST_SHOWN]) + (", ..." if len(self.class_names) > _MOST_SHOWN else "")
        sizes = ", ".join(f"{len(examples):,} {name}" for name, examples in self.splits().items())
        return f"Task({self.name!r}, {len(self.class_names)} classes: {first}; images: {sizes})"

    @property
    def has_several(self) -> bool:
        """Tell whether its images have several labels each, or none."""
        return self.train.has_several

    def of_several(self) -> Task:
        """Return the same task, whose images may have several labels: each shows the one class that it is of."""
        if self.has_several:
            return self
        parts = {name: examples.of_several(len(self.class_names)) for name, examples in self.splits().items()}
        return dataclasses.replace(self, **parts)  # type: ignore[arg-type]

    def names_at(self, split: str, row: int) -> list[str]:
        """Return the names of the classes that an image of a split shows."""
        labels = self.splits()[split].labels
        shown = np.flatnonzero(labels[row]).tolist() if self.has_several else [int(labels[row])]
        return [self.class_names[label] for label in shown]

    def splits(self) -> dict[str, Examples]:
        """Return the splits that there are, by their names: ``train`` always, then ``validation`` and ``test``."""
        splits = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: examples for name, examples in splits.items() if examples is not None}
