"""The interface of every tracker: a run that takes settings once, and figures by step."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import sys
from collections.abc import Mapping
from typing import Protocol, TypeAlias

PROJECT = "lowshot"
"""Project under which trackers file runs, where their own environment variables name nothing else."""

Plain: TypeAlias = str | int | float | bool


@dataclasses.dataclass(frozen=True)
class TrackedRun:
    """A run as a tracker knows it."""

    id: str
    """32 hexadecimal digits, kept with the state of training: a run that goes on has the same."""
    name: str
    """For people; several runs may have the same."""
    settings: Mapping[str, Plain]
    """The resolved recipe, and what it is applied to."""
    step: int = 0
    """Steps that are done. The tracker may know the run already: it was interrupted, or closed before it was judged."""

    @property
    def file_name(self) -> str:
        """Name that is this run's alone, of letters, digits, dots and hyphens."""
        return f"{as_key(self.name)}-{self.id[:8]}"


class Tracker(Protocol):
    """A run that is open in a tracker.

    Whatever its methods raise is a warning to the user. They print nothing on standard output, which is for results.
    """

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Take figures by name, as they are after so many steps."""

    def close(self, failed: bool) -> None:
        """Send what is left, and say how the run ended."""


def prints_aside() -> contextlib.AbstractContextManager[object]:
    """Send what a tracker prints on standard output to standard error for the length of a block."""
    return contextlib.redirect_stdout(sys.stderr)


def as_key(text: str) -> str:
    """Return a text as part of a name that every tracker, and every file system, takes."""
    return re.sub(r"[^A-Za-z0-9_.]+", "-", text).strip("-.") or "unnamed"
