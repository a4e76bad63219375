"""The error of arguments that do not fit. In a file of its own, for the parser takes a while to import."""

from __future__ import annotations

from ..errors import InputError


class UsageError(InputError):
    """Arguments of a command that do not fit: a line for each of the reasons."""
