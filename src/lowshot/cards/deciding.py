"""The decisions of a person about cards, in a journal: whatever ends the process, no answer that was given is lost."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TypeAlias

from ..data import class_name
from ..errors import InputError, LowshotError, UnknownNameError
from ..folders import Journal

Choice: TypeAlias = dict[str, Any]
"""What was answered: ``{"label": NAME}``, ``{"left_out": [NUMBER...]}`` of the card's images, ``{"skip": True}``, or
``{}`` where an answer was taken back."""
Labels: TypeAlias = Mapping[str, str | None]
"""Image -> the class that it was given; None where it is left out. Others are as they were."""

LONGEST_NAME = 100
_IN_PLACE = {"in_place": True}


@dataclasses.dataclass(frozen=True)
class Card:
    """Images that a person is asked about."""

    kind: str
    """``suggestion``, ``doubt``, or ``copies``."""
    images: tuple[str, ...]
    """Their files: one, or two of ``copies``."""
    labels: tuple[str | None, ...]
    """The class that each is said to be of; None where nobody has said."""
    looks_like: str | None = None
    """The most probable class, of a doubt another one than its label."""
    probability: float | None = None
    """That it is what it looks like; of a doubt that its label is wrong; of copies how much they are alike."""
    why: str = ""
    """A word or two on why it is asked about."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Card:
        """The card of a journal's row, in which its tuples are lists."""
        return cls(**{**values, "images": tuple(values["images"]), "labels": tuple(values["labels"])})

    @property
    def key(self) -> str:
        """The name by which it is known."""
        return "|".join(self.images)

    def labels_by(self, choice: Choice) -> dict[str, str | None]:
        """The labels that a choice gives to its images."""
        if "label" in choice:
            return dict.fromkeys(self.images, choice["label"])
        return {self.images[number]: None for number in choice.get("left_out", ())}

    def checked(self, choice: Any, classes: Collection[str]) -> Choice:
        """The choice, if it can be made of this card.

        Raises:
            InputError: It cannot.
            UnknownNameError: Its label is no class.
        """
        match choice:
            case {"label": str(label), **more} if not more and self.kind != "copies":
                if label not in classes:
                    raise UnknownNameError("class", label, classes)
            case {"left_out": [*numbers], **more} if not more and self.kind != "suggestion":
                if not set(map(str, numbers)) <= set(map(str, range(len(self.images)))):
                    raise InputError(f"left_out is {numbers}; expected numbers of the card's images")
            case {"skip": True, **more} if not more:
                pass
            case dict() if not choice:
                pass
            case _:
                raise InputError(
                    f"choice is {str(choice)[:100]}; of a {self.kind} expected a label, left_out, skip or nothing"
                )
        return dict(choice)


class Place(Protocol):
    """Where the labels go."""

    @property
    def journal(self) -> Path:
        """The file of what was decided."""

    def plan(self, card: Card, labels: Labels) -> dict[str, Any]:
        """Plan, in values of JSON, what has to be done for a card's images, given the labels of all images.

        Raises:
            InputError: It cannot be done.
        """

    def done_before(self, plans: Sequence[Mapping[str, Any]], labels: Labels) -> None:
        """Take note of what was done for decisions of an earlier process, in their order, the last one perhaps not.

        Raises:
            OutputError: Somebody else has changed it since.
        """

    def put(self, plan: Mapping[str, Any], labels: Labels) -> None:
        """Do what was planned; what of it is done already is left as it is.

        Raises:
            InputError: It cannot be done.
            OutputError: It cannot be written.
        """

    def where(self, image: str) -> Path:
        """Where an image is now."""

    def class_called(self, name: str) -> str:
        """The name that a class of this name has where the labels are read again."""


class Decisions:
    """Cards, round by round, and the choices that were made of them.

    A choice is written down before anything is done for it, and again when all is done. So a process that was killed
    between the two is finished by the next.

    Args:
        place: Where the labels go.
        about: What they depend on, in values of JSON; a journal about something else is left alone.

    Raises:
        OutputError: The journal cannot be written, is damaged or about something else, or its place was changed.
    """

    def __init__(self, place: Place, about: Mapping[str, Any]) -> None:
        self.place = place
        self.rounds = 0
        """Rounds of cards so far."""
        self.cards: dict[str, Card] = {}
        """The cards of this round, by key."""
        self.classes: list[str] = []
        """Names of all classes, in the order in which they came."""
        self._known: dict[str, Card] = {}
        self._choices: dict[str, Choice] = {}  # in the order in which they were made
        self._journal = Journal(place.journal, {"lowshot": "decisions", **about})
        with contextlib.ExitStack() as refused:
            refused.callback(self.close)
            self._replay()
            refused.pop_all()

    def close(self) -> None:
        """Decide no more."""
        self._journal.close()

    def __enter__(self) -> Decisions:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
        if not self.rounds:  # nothing was asked, and another start may be about something else
            self.place.journal.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                self.place.journal.parent.rmdir()

    def _replay(self) -> None:
        """Read what was decided, and do what was not done yet."""
        plans: list[dict[str, Any]] = []
        unfinished: dict[str, Any] | None = None
        for row in self._journal.rows():
            if "cards" in row:
                self._begin(map(Card.from_dict, row["cards"]), row["classes"])
            elif "choice" in row:
                self._choices.pop(row["card"], None)
                self._choices[row["card"]] = row["choice"]
                plans.append(row["plan"])
                unfinished = row["plan"]
            elif row == _IN_PLACE:
                unfinished = None
            else:
                self.classes.append(row["class"])
        labels = self.labels()
        self.place.done_before(plans, labels)
        if unfinished is not None:
            self.place.put(unfinished, labels)
            self._journal.append([_IN_PLACE])

    @property
    def choices(self) -> Mapping[str, Choice]:
        """The choice made of each card of all rounds, by key, in the order in which they were made."""
        return self._choices

    def card(self, key: str) -> Card:
        """A card of any round.

        Raises:
            UnknownNameError: There is none of this key.
        """
        try:
            return self._known[key]
        except KeyError:
            raise UnknownNameError("card", key, ()) from None

    def labels(self) -> dict[str, str | None]:
        """The labels that all choices come to."""
        return self._labels_of(self._choices)

    def closed(self) -> set[str]:
        """Images that a choice was made about."""
        return {image for key, choice in self._choices.items() if choice for image in self._known[key].images}

    def begin_round(self, cards: Sequence[Card], classes: Sequence[str] = ()) -> None:
        """Ask about these cards from now on.

        Raises:
            OutputError: It cannot be written down.
        """
        rows = [dataclasses.asdict(card) for card in cards]
        self._journal.append([{"cards": rows, "classes": list(classes)}])
        self._begin(cards, classes)

    def add_classes(self, names: Sequence[str]) -> list[str]:
        """Add classes, and return their names as they are written; one that is there already is returned as that is.

        Raises:
            InputError: One is no name.
            OutputError: They cannot be written down.
        """
        known = {each.casefold(): each for each in self.classes}
        new = []
        for name in names:
            plain = class_name(name)
            if not plain or len(plain) > LONGEST_NAME or not plain.isprintable():
                raise InputError(f"class {name[:LONGEST_NAME]!r} is no name; expected 1 to {LONGEST_NAME} characters")
            if plain.casefold() not in known:
                known[plain.casefold()] = plain
                new.append(plain)
        if new:
            self._journal.append({"class": name} for name in new)
            self.classes += new
        return [known[class_name(name).casefold()] for name in names]

    def decide(self, key: str, choice: Any) -> None:
        """Make a choice of a card, in the place of an earlier one; when this returns it is on the disk.

        Raises:
            UnknownNameError: There is no such card or class.
            InputError: The choice cannot be made, or nothing can be done for it, as where the image has gone.
            OutputError: It cannot be written.
        """
        card = self.card(key)
        choice = card.checked(choice, self.classes)
        before = self._choices.get(key, {})
        after = {**{other: each for other, each in self._choices.items() if other != key}, key: choice}
        labels = self._labels_of(after)
        plan = self.place.plan(card, labels)
        self._journal.append([{"card": key, "choice": choice, "plan": plan}])
        try:
            self.place.put(plan, labels)
        except LowshotError:
            with contextlib.suppress(LowshotError):
                undone = self.place.plan(card, self.labels())
                self._journal.append([{"card": key, "choice": before, "plan": undone}, _IN_PLACE])
            raise
        self._choices = after
        self._journal.append([_IN_PLACE])

    def _begin(self, cards: Iterable[Card], classes: Sequence[str]) -> None:
        self.rounds += 1
        self.cards = {card.key: card for card in cards}
        self._known |= self.cards
        self.classes += [name for name in classes if name not in self.classes]

    def _labels_of(self, choices: Mapping[str, Choice]) -> dict[str, str | None]:
        labels: dict[str, str | None] = {}
        for key, choice in choices.items():
            labels |= self._known[key].labels_by(choice)
        return labels
