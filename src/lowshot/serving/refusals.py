"""Answers of a server that does not do what it was asked: a status, a code for programs, a sentence for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import (
    AdapterError,
    InputError,
    LowshotError,
    OutputBusyError,
    OutputError,
    OutputExistsError,
    UnknownNameError,
)

GONE = 499
"""The status that is noted of a client that went before its answer, as nginx has it; nobody is sent it."""


class Refusal(Exception):  # noqa: N818 - an answer, not a fault
    """An answer other than what was asked for.

    Args:
        status: Of HTTP.
        code: One word for programs, which stays the same when the sentence changes.
        message: What it is about, what was got, what was expected, the next step.
        headers: Of the answer.
        more: What the answer has beside the error.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        headers: Mapping[str, str] | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})
        self.more = dict(more or {})

    @property
    def body(self) -> dict[str, Any]:
        """The answer, as JSON has it."""
        return {"error": {"code": self.code, "message": self.message}, **self.more}


class Busy(Refusal):
    """There is more to do than may wait.

    Args:
        reason: A sentence without its end.
        seconds: After which it is worth trying again.
    """

    def __init__(self, reason: str, seconds: float = 1.0) -> None:
        wait = min(60, max(1, round(seconds + 0.5)))
        super().__init__(429, "busy", f"{reason}; try again in {wait} s", headers={"Retry-After": str(wait)})


class Draining(Refusal):
    """The server finishes what it has and takes no more."""

    def __init__(self) -> None:
        super().__init__(
            503,
            "draining",
            "the server is shutting down and takes no more work; ask another, or try again later",
            headers={"Retry-After": "5"},
        )


class ClientGone(Exception):  # noqa: N818 - nobody is told
    """Whoever asked has hung up: nobody is left to answer."""


_STATUSES: Mapping[type[LowshotError], int] = {
    UnknownNameError: 404,
    AdapterError: 409,
    OutputExistsError: 409,
    OutputBusyError: 409,
    OutputError: 507,
    InputError: 422,
}
"""The first class that an error is of decides; any other error is the server's own."""


def refusal_of(error: LowshotError) -> Refusal:
    """The answer of a server to one of lowshot's own errors."""
    status = next((status for kind, status in _STATUSES.items() if isinstance(error, kind)), 500)
    return Refusal(status, error.code, " ".join(str(error).split()))
