"""The form of a row in the table of settings: type, default, range, and what the setting decides."""

from __future__ import annotations

import dataclasses
import enum
import functools
import math
import re
from collections.abc import Callable, Iterable
from typing import Any, Literal, get_args, get_origin, get_type_hints

from ..errors import InputError


class Decides(enum.Enum):
    """The part of a run that a setting decides. Whatever asks which settings matter for something asks for these."""

    RESULT = "result"
    """The numbers that are learnt from given weights, images and words."""
    BACKBONE = "backbone"
    """The weights to start from: compared by their hashes where a run goes on."""
    WORDS = "words"
    """The prompts of the classes."""
    IMAGES = "images"
    """The images that are learnt from, or judged."""
    CONFIDENCE = "confidence"
    """How sure a classifier may be of its answers, and not the answers."""
    COST = "cost"
    """The time or the memory that a run takes."""
    MACHINE = "machine"
    """How this machine does it: its device, its folders, its threads."""
    TELLING = "telling"
    """Who is told of a run, and how often."""

    @property
    def changes_answers(self) -> bool:
        """Whether two runs that differ in such a setting are different runs: their answers may differ."""
        return self not in (Decides.COST, Decides.MACHINE, Decides.TELLING)


@dataclasses.dataclass(frozen=True)
class Values:
    """Which values a setting may have, beyond their type."""

    expected: str
    """The end of the sentence that refuses another one: ``rank is 0; expected 1 or more``."""
    allow: Callable[[Any], bool]
    each: bool = False
    """Whether that is asked of each item of a list, so that the one that does not fit is named."""


ANY = Values("", lambda _: True)


def at_least(low: int) -> Values:
    """Whole numbers from ``low`` on."""
    return Values(f"{low} or more", lambda value: bool(value >= low))


def number(expected: str, allow: Callable[[float], bool]) -> Values:
    """Finite numbers that a condition holds for."""
    return Values(expected, lambda value: math.isfinite(value) and allow(value))


def texts(expected: str, allow: Callable[[str], bool]) -> Values:
    """Lists of texts that a condition holds for."""
    return Values(expected, lambda text: isinstance(text, str) and allow(text), each=True)


def listed(names: Iterable[str]) -> str:
    """``a, b or c``."""
    *before, last = names
    return f"{', '.join(before)} or {last}" if before else last


_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30}
_AMOUNT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMG]?i?B?)\s*", re.IGNORECASE | re.ASCII)
_AMOUNT_EXPECTED = "an amount such as 2GB or 800MB"


def parse_bytes(name: str, text: str) -> int:
    """``2GB``, ``1.5 GiB``, ``800 MB`` or ``0`` in bytes.

    Args:
        name: The setting's name, for the message.
        text: Its value.

    Raises:
        InputError: It is none of these.
    """
    amount = _AMOUNT.fullmatch(text)
    if amount is None or amount[2].upper() not in _UNITS:
        raise refusal(name, text, _AMOUNT_EXPECTED)
    return int(float(amount[1]) * _UNITS[amount[2].upper()])


def _is_amount(text: str, above: int) -> bool:
    try:
        return parse_bytes("", text) > above
    except InputError:
        return False


AMOUNT = Values(_AMOUNT_EXPECTED, lambda text: _is_amount(text, -1))
POSITIVE_AMOUNT = Values(_AMOUNT_EXPECTED, lambda text: _is_amount(text, 0))


def refusal(name: str, value: object, expected: str) -> InputError:
    """The error for a setting with a value that it cannot have."""
    return InputError(f"{name.replace('_', '-')} is {value!r}; expected {expected}")


@dataclasses.dataclass(frozen=True)
class Setting:
    """A row of the table of settings: all that is known of one, once."""

    name: str
    section: str
    """Its section in a recipe file."""
    kind: Any
    """Its type, as annotated."""
    default: Any
    decides: Decides
    values: Values
    of_data: bool
    """Whether data sets may have it each their own way, and runs on them be averaged all the same."""
    same_pace: bool
    """Whether a training step takes as long whatever it is."""
    teachable: bool
    """Whether a client may set it where a server teaches."""
    movable: bool
    """Whether an adapter may be loaded with another value than it was saved with."""
    younger: bool
    """Whether grids were run before it existed: their keys do not have it where it is the default."""

    @functools.cached_property
    def types(self) -> tuple[type, ...]:
        """The types that a value may have: those of a union, ``str`` for names, ``tuple`` for a list."""
        union = get_args(self.kind) if type(None) in get_args(self.kind) else (self.kind,)
        origins = (get_origin(kind) or kind for kind in union)
        return tuple(str if origin is Literal else origin for origin in origins)

    @functools.cached_property
    def names(self) -> tuple[Any, ...]:
        """The names that a value is one of; none where it is no name."""
        return get_args(self.kind) if get_origin(self.kind) is Literal else ()

    def is_older_default(self, value: Any) -> bool:
        """Whether a value is what runs had before there was this setting."""
        return self.younger and value == self.default

    def check(self, value: Any) -> None:
        """Refuse a value that is out of range.

        Raises:
            InputError: It is none of its names, or its row does not allow it.
        """
        if value is None and type(None) in self.types:
            return
        if self.names and value not in self.names:
            raise refusal(self.name, value, listed(self.names))
        for item in value if self.values.each else (value,):
            if not self.values.allow(item):
                raise refusal(self.name, item, self.values.expected)


def setting(
    default: Any,
    decides: Decides,
    values: Values = ANY,
    *,
    of_data: bool = False,
    same_pace: bool = False,
    teachable: bool = False,
    movable: bool = False,
    younger: bool = False,
) -> Any:
    """A dataclass field that is a setting; its type and its help stand around it, the rest of its row is this."""
    flags = {"of_data": of_data, "same_pace": same_pace, "teachable": teachable, "movable": movable, "younger": younger}
    return dataclasses.field(default=default, metadata={"decides": decides, "values": values, **flags})


class Section:
    """A section of a recipe: a dataclass of which every field is a setting, checked when one is made.

    Raises:
        InputError: A value is out of range, or does not go with another.
    """

    def __post_init__(self) -> None:
        for row in rows_of(type(self)):
            row.check(getattr(self, row.name))
        self._check_together()

    def _check_together(self) -> None:
        """Refuse values that do not go with each other."""


_ROWS: dict[type, tuple[Setting, ...]] = {}


def rows_of(section: type[Any]) -> tuple[Setting, ...]:
    """The rows of a section, in its order."""
    if section not in _ROWS:
        types, title = get_type_hints(section), section.__name__.removesuffix("Config").lower()
        _ROWS[section] = tuple(
            Setting(field.name, title, types[field.name], field.default, **field.metadata)
            for field in dataclasses.fields(section)
        )
    return _ROWS[section]
