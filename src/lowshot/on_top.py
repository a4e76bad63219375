"""The record of classes that were set on top of adapted towers: how many there are, and what held-out images told."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from .errors import InputError


@dataclasses.dataclass(frozen=True)
class Recognised:
    """Held-out images, and how many of them were given their own class.

    Args:
        images: How many were held out.
        right: How many of them are recognised among all classes.
        before: How many of them were recognised among the classes of the towers alone; None of images of other classes.
    """

    images: int
    right: int
    before: int | None = None


@dataclasses.dataclass(frozen=True)
class OnTop:
    """The last classes of an adapter, of which the towers have learnt nothing.

    Args:
        classes: How many there are: they are the last ones.
        images: How many images they were made of: the last ones of the record's draw.
        known_images: Images of the towers' classes that the towers were not trained on, by which they were placed.
        blend: Share of the images' mean in a class's vector; the rest is its prompt.
        temperature: What class scores are divided by where there is no calibration.
        new: What the images of the classes on top told, each held out; None where no class has two.
        known: What the images of the towers' classes told; None where there are none.
    """

    classes: int
    images: int
    known_images: int
    blend: float
    temperature: float
    new: Recognised | None = None
    known: Recognised | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a record."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], classes: int) -> OnTop:
        """Read what ``to_dict`` gave.

        Args:
            values: From a record.
            classes: How many the adapter has.

        Raises:
            InputError: It is something else.
        """
        try:
            told = {name: None if values[name] is None else Recognised(**values[name]) for name in ("new", "known")}
            on_top = cls(**{**values, **told})
        except (TypeError, KeyError):
            raise _damaged() from None
        counts = [on_top.classes, on_top.images, on_top.known_images]
        for each in (on_top.new, on_top.known):
            counts += [] if each is None else [each.images, each.right, each.before or 0]
        sound = (
            all(type(count) is int and count >= 0 for count in counts)
            and 1 <= on_top.classes < classes
            and all(type(each) is float and math.isfinite(each) for each in (on_top.blend, on_top.temperature))
            and 0 <= on_top.blend <= 1
            and on_top.temperature > 0
        )
        if not sound:
            raise _damaged()
        return on_top


def _damaged() -> InputError:
    return InputError(
        "on_top is not what lowshot writes: how many classes, images and known images there are, a blend, a "
        "temperature, and what was recognised"
    )
