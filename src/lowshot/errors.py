"""The errors lowshot raises.

LowshotError
├── InputError            what was given cannot be used (also a ValueError); exit status 2
│   ├── UnknownNameError  a name that is in no list; the message offers the nearest
│   ├── DataError         images, folders, labels
│   │   └── LongPromptError  a prompt of more tokens than the text tower takes
│   ├── AdapterError      a saved adapter that is incomplete, damaged or of another backbone
│   ├── OutputError       a place that cannot be written
│   └── MissingExtraError an optional package that is not installed
├── NotFittedError        asked to predict before fit (also a ValueError and an AttributeError); exit status 2
└── RunError              work that began and failed; exit status 1

Every message names the thing, what was got, what was expected and, where there is one, the next step.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def first_line(error: BaseException) -> str:
    """The first line of an error's message that says anything; the error's kind where none does."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


class LowshotError(Exception):
    """Everything lowshot raises on purpose."""

    exit_status = 1


class InputError(LowshotError, ValueError):
    """What the user gave cannot be used."""

    exit_status = 2


class UnknownNameError(InputError):
    """A name that is in no list.

    Args:
        what: The kind of thing, such as ``"method"``.
        name: The name that was given.
        known: The names that exist.
    """

    def __init__(self, what: str, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"known: {', '.join(known)}" if known else "there is none yet"
        if near:
            hint = f"did you mean {' or '.join(near)}?"
        super().__init__(f"unknown {what} {name!r}; {hint}")


class DataError(InputError):
    """Images, folders or labels that cannot be used."""


class LongPromptError(DataError):
    """A prompt of more tokens than the text tower takes.

    Args:
        prompt: The prompt.
        tokens: What it comes to.
        limit: What the tower takes at most.
    """

    def __init__(self, prompt: str, tokens: int, limit: int) -> None:
        self.prompt = prompt
        shown = prompt if len(prompt) <= 200 else f"{prompt[:200]}..."
        super().__init__(
            f"prompt {shown!r} has {tokens} tokens; expected at most {limit}: shorten the class name (--class-names "
            "says another), the template or the description"
        )


class AdapterError(InputError):
    """A saved adapter that is incomplete, damaged or belongs to another backbone."""


class OutputError(InputError):
    """A place that cannot be written, or that already holds something."""


class MissingExtraError(InputError):
    """An optional package is not installed.

    Args:
        package: The package that could not be imported.
        extra: The extra of lowshot that brings it.
        purpose: What it is needed for.
    """

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs the package {package}: pip install 'lowshot[{extra}]'")


class NotFittedError(LowshotError, ValueError, AttributeError):
    """A classifier was asked to predict before it was fitted."""

    exit_status = 2


class RunError(LowshotError):
    """Work that began and failed."""
