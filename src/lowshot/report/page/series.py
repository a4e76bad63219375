"""Methods in charts: their points, and the colours and markers by which they are known on the whole page."""

from __future__ import annotations

import dataclasses

from ...markup import Markup, element

COLOURS = 6
"""Number of ``series-N`` classes in the style sheet."""
_MARKERS = (
    "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0-10 0",
    "M-4.6-4.6h9.2v9.2h-9.2z",
    "M0-6.2l5.8 10h-11.6z",
    "M0-6.6l6.2 6.6-6.2 6.6-6.2-6.6z",
    "M0 6.2l5.8-10h-11.6z",
    "M-2-6h4v4h4v4h-4v4h-4v-4h-4v-4h4z",
    "M-5.4-5.4h10.8l-10.8 10.8h10.8z",
)  # seven: with six colours, the first 42 methods differ in one or the other
_DOT = "M-3 0a3 3 0 1 0 6 0a3 3 0 1 0-6 0"


@dataclasses.dataclass(frozen=True)
class Point:
    """A mean with its deviation, both as fractions in [0, 1]."""

    x: float
    mean: float
    deviation: float
    """The reading error of a published figure."""
    tip: str
    """Text beside a pointer over it."""
    origins: str = ""
    """Numbers of the origins (``tips.Origins``) that are shown below the tip."""


@dataclasses.dataclass(frozen=True)
class Series:
    """One method's points, by ascending x."""

    label: str
    number: int
    """Chooses colour and marker, the same in every chart of a page."""
    is_rival: bool
    points: tuple[Point, ...]
    is_published: bool = False
    """Whether others have published it. A method that was not run here has the number -1."""

    @property
    def style(self) -> str:
        """Its class in the style sheet."""
        return "other" if self.number < 0 else series_style(self.number, self.is_rival)

    @property
    def classes(self) -> str:
        """All classes of its group."""
        return f"{self.style} published" if self.is_published else self.style

    @property
    def marker(self) -> str:
        """The shape of its markers, as a path; a dot where the method was not run here."""
        return _DOT if self.number < 0 else _MARKERS[self.number % len(_MARKERS)]

    @property
    def highlight(self) -> str:
        """A key that all drawings of one method share: pointing at one makes all of them stand out."""
        return self.label if self.number < 0 else str(self.number)


@dataclasses.dataclass(frozen=True)
class Baseline:
    """A level to compare with, drawn across the chart."""

    label: str
    level: float
    tip: str
    origins: str = ""
    """Numbers, as those of a ``Point``."""


def series_style(number: int | None, is_rival: bool) -> str:
    """Class of a method in the style sheet; one without a number is a baseline."""
    if number is None:
        return "baseline"
    return "rival" if is_rival else f"series-{number % COLOURS}"


def key_mark(number: int | None, is_rival: bool, *, is_published: bool = False) -> Markup:
    """The marker of a method as a small drawing, for legends and tables; a piece of dashed line for a baseline."""
    style = series_style(number, is_rival)
    if number is None:
        shape = element("path", d="M-7 0h14", class_="line")
    else:
        shape = element("path", d=_MARKERS[number % len(_MARKERS)], class_="marker")
    group = element("g", shape, class_=f"{style} published" if is_published else style)
    return element("svg", group, viewBox="-8 -8 16 16", class_="chart key", aria_hidden="true")
