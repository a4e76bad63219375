"""The errors lowshot raises.

LowshotError             failed
├── InputError           unusable_setting  what was given cannot be used (also a ValueError)
│   ├── UnknownNameError unknown_name      a name that is in no list; ``kind``, ``name``, ``known``, ``nearest``
│   ├── DataError        unusable_data     images, folders, labels
│   │   ├── ImageError   unusable_image    one image
│   │   └── LongPromptError long_prompt    more tokens than the text tower takes; ``prompt``, ``tokens``, ``limit``
│   ├── AdapterError     adapter_refused   a saved adapter that is incomplete, damaged or of another backbone
│   ├── OutputError      no_room           a place that cannot be written
│   │   ├── OutputExistsError output_exists  a place that is taken; ``path``
│   │   └── OutputBusyError output_busy     a place that another process is about to fill; ``path``, ``holder``
│   └── MissingExtraError missing_extra    an optional package that is not installed; ``package``, ``extra``
├── NotFittedError       not_fitted        asked to predict before fit (also a ValueError and an AttributeError)
└── RunError             failed            work that began and failed

Class and code are stable, the sentence is not. Every message names the thing, what was got, what was expected and,
where there is one, the next step; what a program may want of it is an attribute. The command line exits with
``exit_status``, the server answers with ``code``; docs/reference/errors.md has both.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from .extras import install_command

_MOST_NEAREST = 3
_NEAR = 0.7  # of 1: a letter or two are wrong, or left out
_SHORTEST_PART = 3  # letters of a part of a name, such as pets of oxford_pets
_Error = TypeVar("_Error", bound="LowshotError")


def first_line(error: BaseException) -> str:
    """The first line of an error's message that says anything; the error's kind where none does."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


class LowshotError(Exception):
    """Everything lowshot raises on purpose."""

    code: ClassVar[str] = "failed"
    """One word for programs, which stays the same when the sentence changes."""
    exit_status: ClassVar[int] = 1
    """Exit status of a command that ends so."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pass between processes with message and facts, whatever the class is made of."""
        return _restored, (type(self), self.args, self.__dict__)


def _restored(kind: type[_Error], arguments: tuple[Any, ...], facts: dict[str, Any]) -> _Error:
    error = kind.__new__(kind, *arguments)
    error.__dict__.update(facts)
    return error


class InputError(LowshotError, ValueError):
    """Something that the user gave cannot be used."""

    code = "unusable_setting"
    exit_status = 2


class UnknownNameError(InputError):
    """A name that is in no list.

    Args:
        kind: The kind of thing, such as ``"method"``.
        name: The name that was given.
        known: The names that exist.
    """

    code = "unknown_name"

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        self.kind = kind
        self.name = name
        self.known = tuple(sorted(known))
        alike = difflib.get_close_matches(name, self.known, n=_MOST_NEAREST, cutoff=_NEAR)
        parts = [each for each in self.known if len(name) >= _SHORTEST_PART and name in re.split(r"[-_ ]", each)]
        self.nearest = tuple(dict.fromkeys((*alike, *parts)))[:_MOST_NEAREST]
        hint = f"known: {', '.join(self.known)}" if self.known else "there is none yet"
        if self.nearest:
            hint = f"did you mean {' or '.join(self.nearest)}?"
        super().__init__(f"unknown {kind} {name!r}; {hint}")


class DataError(InputError):
    """Images, folders or labels that cannot be used."""

    code = "unusable_data"


class ImageError(DataError):
    """An image that is missing, damaged, none at all, or of a size that cannot be used."""

    code = "unusable_image"


class LongPromptError(DataError):
    """A prompt of more tokens than the text tower takes.

    Args:
        prompt: The prompt.
        tokens: How many it has.
        limit: The most that the tower takes.
    """

    code = "long_prompt"

    def __init__(self, prompt: str, tokens: int, limit: int) -> None:
        self.prompt = prompt
        self.tokens = tokens
        self.limit = limit
        shown = prompt if len(prompt) <= 200 else f"{prompt[:200]}..."
        super().__init__(
            f"prompt {shown!r} has {tokens} tokens; expected at most {limit}: shorten the class name (--class-names "
            "says another), the template or the description"
        )


class AdapterError(InputError):
    """A saved adapter that is incomplete, damaged or belongs to another backbone."""

    code = "adapter_refused"


class OutputError(InputError):
    """A place that cannot be written."""

    code = "no_room"


class OutputExistsError(OutputError):
    """A place that already holds something.

    Args:
        path: The place.
    """

    code = "output_exists"

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(f"output {path} already exists; choose another folder or remove it")


class OutputBusyError(OutputError):
    """A place that another process is about to fill.

    Args:
        path: The place.
        holder: The other process in words; empty if it is not known.
    """

    code = "output_busy"

    def __init__(self, path: Path, holder: str) -> None:
        self.path = path
        self.holder = holder
        super().__init__(
            f"output {path} is being made by {holder or 'another process'}; wait until that has ended, or choose "
            "another folder"
        )


class MissingExtraError(InputError):
    """An optional package is not installed.

    Args:
        package: The package that could not be imported.
        extra: The extra of lowshot that brings it.
        purpose: The work that needs it.
    """

    code = "missing_extra"

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        self.package = package
        self.extra = extra
        super().__init__(f"{purpose} needs the package {package}: {install_command(extra, package)}")


class NotFittedError(LowshotError, ValueError, AttributeError):
    """A classifier was asked to predict before it was fitted."""

    code = "not_fitted"
    exit_status = 2


class RunError(LowshotError):
    """Work that began and failed."""
