"""Cards to ask about, from the labels so far: each call looks anew, at what has been decided too."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from ..data import Addition, Examples, ImagesOnDemand, Task, images_below, joined
from ..errors import DataError
from ..labelling import Unlabelled, copied_images, doubted_labels
from ..progress import Track, silent
from ..settings import Recipe
from .deciding import Card, Decisions, Labels
from .table import absolute, path_of


class Look(Protocol):
    """Looks for the cards of a round."""

    def __call__(self, decisions: Decisions) -> list[Card]:
        """The cards to ask about next; none where nothing is left to ask.

        Raises:
            LowshotError: The images cannot be looked at.
        """


@dataclasses.dataclass
class SuggestedCards:
    """The images to label next. They are encoded once, by the first call."""

    folder: Path
    """The images to choose from."""
    recipe: Recipe
    """As for ``suggested_images``."""
    data: Addition | None = None
    """The labelled images that there were before."""
    count: int = 20
    """Cards of a round."""
    track: Track = silent
    warn: Callable[[Sequence[str]], None] = lambda _: None
    _images: Unlabelled | None = dataclasses.field(default=None, init=False)

    def __call__(self, decisions: Decisions) -> list[Card]:
        labels = {image: label for image, label in decisions.labels().items() if label is not None}
        if self._images is None:
            warnings: list[str] = []
            known = self._known(decisions, labels)
            try:
                self._images = Unlabelled(self.folder, self.recipe, known, track=self.track, warn=warnings)
            except DataError:
                if self._is_done(decisions):
                    return []
                raise
            finally:
                self.warn(warnings)
        number = self._images.numbers
        given = {number[image]: label for image, label in labels.items() if image in number}
        left_out = [number[image] for image in decisions.closed() if image in number]
        return [
            Card("suggestion", (absolute(each.image),), (None,), each.looks_like, each.probability, each.why)
            for each in self._images.suggestions(self.count, decisions.classes, given=given, left_out=left_out)
        ]

    def _known(self, decisions: Decisions, labels: dict[str, str]) -> Addition | None:
        """The images that have a label and are not in the folder: those of before, and those that were moved away."""
        moved = {image: label for image, label in labels.items() if not Path(image).exists()}
        put = {absolute(decisions.place.where(image)) for image in labels}
        names = [] if self.data is None else list(self.data.class_names)
        names += [label for label in dict.fromkeys(moved.values()) if label not in names]
        numbers = np.asarray([names.index(label) for label in moved.values()], dtype=np.int64)
        files = [str(decisions.place.where(image)) for image in moved]
        examples = Examples(ImagesOnDemand(files), numbers, tuple(files))
        if self.data is None:
            return Addition("labels", tuple(names), examples) if files else None
        own = self.data.examples
        own = own.subset([row for row in range(len(own)) if path_of(own.images, row) not in put])
        every = joined(own, examples, numbers.tolist())
        return dataclasses.replace(self.data, class_names=tuple(names), examples=every, class_labels=())

    def _is_done(self, decisions: Decisions) -> bool:
        """Whether nothing is left in the folder to ask about."""
        try:
            return {absolute(path) for path in images_below(self.folder, [])} <= decisions.closed()
        except DataError:
            return bool(decisions.choices) and self.folder.is_dir()


@dataclasses.dataclass
class DoubtedCards:
    """The labels that are more likely wrong than right."""

    read: Callable[[], Task]
    """Reads the data, as they are now."""
    recipe: Recipe
    """As for ``doubted_labels``."""
    folds: int = 8
    track: Track = silent
    warn: Callable[[Sequence[str]], None] = lambda _: None

    def __call__(self, decisions: Decisions) -> list[Card]:
        task, warnings = _decided(self.read(), decisions.labels()), list[str]()
        try:
            doubted = doubted_labels(task, self.recipe, folds=self.folds, track=self.track, warn=warnings)
        finally:
            self.warn(warnings)
        closed = decisions.closed()
        closed |= {absolute(decisions.place.where(image)) for image in closed}
        return [
            Card("doubt", (absolute(each.image),), (each.label,), each.looks_like, each.probability)
            for each in doubted.doubts
            if absolute(each.image) not in closed
        ]


@dataclasses.dataclass
class CopiedCards:
    """Images that are in two classes or in two splits, or nearly so."""

    read: Callable[[], Task]
    """Reads the data, as they are now."""
    recipe: Recipe
    """As for ``copied_images``."""
    track: Track = silent

    def __call__(self, decisions: Decisions) -> list[Card]:
        task = _decided(self.read(), decisions.labels())
        closed = {decisions.card(key).images for key, choice in decisions.choices.items() if choice}
        cards = []
        for each in copied_images(task, self.recipe, track=self.track):
            why = "the same pixels" if each.is_exact else "nearly the same"
            if each.splits[0] != each.splits[1]:
                why += f", in {each.splits[0]} and {each.splits[1]}"
            images = absolute(each.first), absolute(each.second)
            if images not in closed:
                cards.append(Card("copies", images, each.classes, None, each.correlation, why))
        return cards


def _decided(task: Task, labels: Labels) -> Task:
    """The same task with these labels in the place of its own, and without what is left out."""
    splits = {}
    for split, examples in task.splits().items():
        files = [path_of(examples.images, row) for row in range(len(examples))]
        rows = [row for row, file in enumerate(files) if labels.get(file, "") is not None]
        some = examples.subset(rows)
        changed = [
            task.class_names.index(label) if (label := labels.get(files[row])) else int(examples.labels[row])
            for row in rows
        ]
        splits[split] = dataclasses.replace(some, labels=np.asarray(changed, dtype=np.int64))
    return dataclasses.replace(
        task, train=splits["train"], validation=splits.get("validation"), test=splits.get("test")
    )
