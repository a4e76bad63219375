"""Connections that end where a request's head does not come in time, so that they keep nobody else out.

uvicorn itself ends connections that rest between two requests, but waits for a head without end; bodies have the
gate's limit of time.
"""

from __future__ import annotations

import asyncio
import json

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from .refusals import Refusal


class Connection(H11Protocol):
    """One connection of a server."""

    head_seconds = 10.0
    """Time for a request's head, from its first byte or from the connection's begin."""
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a head."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Take a part of a request; more bytes of the same head give it no more time."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._unwatch()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no request, in the form that all errors have."""
        self._refuse(Refusal(400, "damaged_request", f"{msg} Expected a request of HTTP/1.1"))

    def _watch(self) -> None:
        if self.conn.their_state is not h11.IDLE:
            self._unwatch()
        elif self._timer is None:
            self._timer = self.loop.call_later(self.head_seconds, self._give_up)

    def _unwatch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self._timer = None
        if self.transport.is_closing():
            return
        if self.conn.trailing_data[0]:  # a head has begun
            message = f"the request's head has not come within {self.head_seconds:g} s; send it at once"
            self._refuse(Refusal(408, "slow_head", message))
        else:
            self.transport.close()

    def _refuse(self, refusal: Refusal) -> None:
        """Answer with an error, and end the connection."""
        content = json.dumps(refusal.body).encode()
        headers = {"content-type": "application/json", "content-length": str(len(content)), "connection": "close"}
        head = h11.Response(status_code=refusal.status, headers=list(headers.items()))
        for event in (head, h11.Data(content), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


def connections_of(head_seconds: float) -> type[Connection]:
    """The connections of a server that waits so long for a request's head."""
    return type("Connection", (Connection,), {"head_seconds": head_seconds})
