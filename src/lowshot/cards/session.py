"""One person's cards, for as long as the page is open: what the page shows, and what it asks to be done."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ..data import decode_image
from ..errors import InputError
from .deciding import Decisions
from .looking import Look

_SIDE = 1024
_TINY = 96
"""Images of a smaller side are sent without loss, and shown with their pixels."""


@dataclasses.dataclass(frozen=True)
class Picture:
    """An image for the page."""

    content: bytes
    media_type: str


class Session:
    """Cards, what was decided of them, and the next ones. Threads may share it.

    Args:
        decisions: Theirs; nobody else changes them.
        look: Looks for the next cards.
        kind: ``suggest``, ``doubt`` or ``copies``.
        where: Where the labels go, for people.
        then: The command that learns from them; empty if there is none.
    """

    def __init__(self, decisions: Decisions, look: Look, *, kind: str, where: str, then: str = "") -> None:
        self._decisions, self._look = decisions, look
        self._about = {"kind": kind, "where": where, "then": then}
        self._lock = threading.RLock()
        self._revision = 0
        self._images: dict[str, str] = {}
        self._ids: dict[str, str] = {}

    def begin(self, classes: Sequence[str] = ()) -> None:
        """Look for the first cards, unless those of an earlier process are still there.

        Raises:
            LowshotError: The images cannot be looked at.
        """
        with self._lock:
            self._decisions.add_classes(classes)
            if not self._decisions.rounds:
                self._decisions.begin_round(self._look(self._decisions))

    def state(self) -> dict[str, Any]:
        """All that the page shows."""
        with self._lock:
            decisions = self._decisions
            cards = [
                {
                    "key": card.key,
                    "kind": card.kind,
                    "images": [{"id": self._id(image), "name": image} for image in card.images],
                    "labels": card.labels,
                    "looks_like": card.looks_like,
                    "probability": card.probability,
                    "why": card.why,
                    "choice": decisions.choices.get(card.key, {}),
                }
                for card in decisions.cards.values()
            ]
            shown = {"round": decisions.rounds, "classes": decisions.classes, "cards": cards}
            return {**self._about, **shown, **self._figures()}

    def decide(self, key: str, choice: Any) -> dict[str, Any]:
        """Make a choice; returns the ``revision`` after it, and figures of all choices.

        Raises:
            LowshotError: As for ``Decisions.decide``.
        """
        with self._lock:
            self._decisions.decide(key, choice)
            self._revision += 1
            return self._figures()

    def add_class(self, name: str) -> dict[str, Any]:
        """Add a class; returns its ``name`` as it is written, and the ``revision``.

        Raises:
            LowshotError: As for ``Decisions.add_classes``, or the classes are those of the data.
        """
        with self._lock:
            if self._about["kind"] != "suggest":
                raise InputError("the classes are those of the data; expected one of them")
            [name] = self._decisions.add_classes([self._decisions.place.class_called(name)])
            self._revision += 1
            return {"name": name, "revision": self._revision}

    def next_round(self, after: int) -> dict[str, Any]:
        """Look for the next cards, from the labels so far; returns the state.

        Args:
            after: The round that the page shows. If another page has asked already, its round is what comes next.

        Raises:
            LowshotError: The images cannot be looked at.
        """
        with self._lock:
            if after == self._decisions.rounds:
                self._decisions.begin_round(self._look(self._decisions))
                self._revision += 1
            return self.state()

    def picture(self, identifier: str) -> Picture | None:
        """An image that a card is about; None if there is none of this identifier.

        Raises:
            ImageError: It cannot be read.
        """
        with self._lock:
            image = self._images.get(identifier)
            path = None if image is None else self._decisions.place.where(image)
        return None if path is None else _picture(path)

    def _figures(self) -> dict[str, Any]:
        """The number of labels that were given, and how often a suggestion's guess was that label."""
        decisions = self._decisions
        given = [
            (decisions.card(key), choice["label"]) for key, choice in decisions.choices.items() if "label" in choice
        ]
        guessed = [card.looks_like == label for card, label in given if card.kind == "suggestion" and card.looks_like]
        return {
            "revision": self._revision,
            "labelled": sum(label is not None for label in decisions.labels().values()),
            "guesses": {"right": sum(guessed), "of": len(guessed)},
        }

    def _id(self, image: str) -> str:
        """The identifier of an image: of its name, and of its time and size, so that a browser may keep it."""
        if image not in self._ids:
            try:
                status = Path(image).stat()
                version = f"{status.st_mtime_ns} {status.st_size}"
            except OSError:
                version = ""
            identifier = hashlib.sha256(f"{version} {image}".encode("utf-8", "backslashreplace")).hexdigest()[:20]
            self._ids[image] = identifier
            self._images[identifier] = image
        return self._ids[image]


def _picture(path: Path) -> Picture:
    image = Image.fromarray(decode_image(path))
    image.thumbnail((_SIDE, _SIDE))
    file = io.BytesIO()
    if max(image.size) <= _TINY:
        image.save(file, "PNG")
        return Picture(file.getvalue(), "image/png")
    image.save(file, "JPEG", quality=88)
    return Picture(file.getvalue(), "image/jpeg")
