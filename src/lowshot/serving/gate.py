"""What every request passes before and after the application: who may ask, how much may come, what goes on the answer.

Plain ASGI, so that a body is counted while it comes, before anything is made of it.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from .limits import Limits
from .prometheus import Metrics
from .refusals import GONE, Busy, ClientGone, Refusal

Message: TypeAlias = MutableMapping[str, Any]
Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

_LOG = logging.getLogger("lowshot.serving")
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
TEACH_PATH = "/v1/adapters"
_OPEN = frozenset({"/", "/healthz", "/readyz", "/v1/server", "/openapi.json", "/favicon.ico"})
_SMALL_BODY_BYTES = 1 << 16
_READ_ON_SECONDS = 2.0
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_NO_FRAMES = {"Content-Security-Policy": f"{_POLICY}; frame-ancestors 'none'", "X-Frame-Options": "DENY"}


class Gate:
    """Guards an application.

    Args:
        application: What is guarded.
        limits: Sizes and times.
        metrics: Told of every answer.
        token: What who asks must know; None where only this machine can ask, or anybody may.
        hosts: Names under which the server may be addressed; None for any. A page elsewhere that has its own name
            point to this machine (DNS rebinding) is told by it.
        public: Whether anybody may ask, and nothing can be changed: then pages of other sites may ask too, and show
            this one inside them.
    """

    def __init__(
        self,
        application: Application,
        *,
        limits: Limits,
        metrics: Metrics,
        token: str | None,
        hosts: frozenset[str] | None,
        public: bool = False,
    ) -> None:
        self._application = application
        self._limits = limits
        self._metrics = metrics
        self._token = None if token is None else token.encode()
        self._hosts = hosts
        self._public = public
        self._headers = _HEADERS if public else _HEADERS | _NO_FRAMES
        self._bytes_in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request through, or say why not."""
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        started = time.perf_counter()
        body = _Body(self, receive, self._largest_body(scope), is_whole=not _has_body(scope))
        answer = _Answer(scope, send, body, self._headers)
        try:
            self._check(scope)
            body.check_announced(_header(scope, b"content-length"))
            await self._application(scope, body.receive, answer.send)
        except Refusal as refusal:
            await answer.refuse(refusal)
        except Exception:  # the application has said so; were it raised further, the connection would be cut
            _LOG.exception("the server failed to answer %r %r", scope["method"], scope["path"])
        finally:
            self._bytes_in_flight -= body.counted
            self._metrics.answered(scope, answer.status, time.perf_counter() - started)

    def _check(self, scope: Scope) -> None:
        """Refuse by the head of a request alone.

        Raises:
            Refusal: It is addressed to another host, comes from another site, or has not the token.
        """
        host = _header(scope, b"host")
        if self._hosts is not None and _host_name(host) not in self._hosts:
            raise Refusal(
                400, "unknown_host", f"the request is addressed to host {host!r}; expected one of {sorted(self._hosts)}"
            )
        if scope["method"] not in _SAFE and not self._public:
            _check_origin(_header(scope, b"origin"), host, _header(scope, b"sec-fetch-site"))
        if self._token is not None and not _is_open(scope["path"]):
            self._check_token(_header(scope, b"authorization"))

    def _check_token(self, given: str) -> None:
        assert self._token is not None
        scheme, _, value = given.partition(" ")
        if scheme.lower() == "bearer" and hmac.compare_digest(value.strip().encode("latin-1"), self._token):
            return
        raise Refusal(
            401,
            "token",
            "this server asks for its token, and the request has none or another; send 'Authorization: Bearer TOKEN'",
            headers={"WWW-Authenticate": "Bearer"},
        )

    def _largest_body(self, scope: Scope) -> int:
        if scope["method"] != "POST":
            return _SMALL_BODY_BYTES
        return self._limits.teaching_bytes if scope["path"] == TEACH_PATH else self._limits.request_bytes

    def count(self, size: int) -> None:
        """Note bytes of a body that has come.

        Raises:
            Busy: The bodies of all requests together are too much.
        """
        if self._bytes_in_flight + size > self._limits.bytes_in_flight:
            raise Busy("the requests that are under way have too many bytes together")
        self._bytes_in_flight += size

    @property
    def upload_seconds(self) -> float:
        """In which a body must have come."""
        return self._limits.upload_seconds


class _Body:
    """Counts a request's body while it comes."""

    def __init__(self, gate: Gate, receive: Receive, largest: int, *, is_whole: bool) -> None:
        self._gate = gate
        self._receive = receive
        self._largest = largest
        self._until = time.monotonic() + gate.upload_seconds
        self.counted = 0
        self.is_whole = is_whole

    def check_announced(self, length: str) -> None:
        """Refuse what says itself that it is too large, before it comes.

        Raises:
            Refusal: It is.
        """
        if length.isdecimal() and int(length) > self._largest:
            raise self._too_large(f"{int(length):,} bytes")

    async def receive(self) -> Message:
        """The next part of the body; once it is whole, that the client has gone, when it goes.

        Raises:
            Refusal: It is too large, or takes too long.
        """
        if self.is_whole:
            return await self._receive()
        message = await self._next()
        if message["type"] == "http.disconnect":
            raise ClientGone
        size = len(message.get("body", b""))
        self.is_whole = not message.get("more_body", False)
        if self.counted + size > self._largest:
            raise self._too_large("more")
        self._gate.count(size)
        self.counted += size
        return message

    async def _next(self) -> Message:
        try:
            return await asyncio.wait_for(self._receive(), max(0.0, self._until - time.monotonic()))
        except asyncio.TimeoutError:
            seconds = self._gate.upload_seconds
            raise Refusal(
                408, "slow_upload", f"the request's body has not come within {seconds:g} s; send less at once"
            ) from None

    async def read_on(self) -> None:
        """Throw away what is still coming, for a moment: who is still sending may not see an answer before."""
        self._until = min(self._until, time.monotonic() + _READ_ON_SECONDS)
        left = self._largest
        try:
            while not self.is_whole and left > 0:
                message = await self._next()
                left -= len(message.get("body", b""))
                self.is_whole = message["type"] == "http.disconnect" or not message.get("more_body", False)
        except Refusal:
            return

    def _too_large(self, got: str) -> Refusal:
        return Refusal(
            413,
            "too_large",
            f"the request's body has {got}; expected at most {self._largest:,} bytes: send less at once",
        )


class _Answer:
    """What is sent back, with the headers that every answer has."""

    def __init__(self, scope: Scope, send: Send, body: _Body, headers: Mapping[str, str]) -> None:
        self._send = send
        self._body = body
        self._headers = headers
        self._is_api = scope["path"].startswith("/v1/")
        self.status = GONE

    async def send(self, message: Message) -> None:
        """Pass a part of the answer on. Where one begins before all of the request has come, the connection ends."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if not self._body.is_whole:
                await self._body.read_on()
            have = {name.lower() for name, _ in message["headers"]}
            common = {**self._headers, **({"Cache-Control": "no-store"} if self._is_api else {})}
            common |= {} if self._body.is_whole else {"Connection": "close"}
            added = [(n.lower().encode(), v.encode()) for n, v in common.items() if n.lower().encode() not in have]
            message = {**message, "headers": [*message["headers"], *added]}
        await self._send(message)

    async def refuse(self, refusal: Refusal) -> None:
        """Answer with an error."""
        content = json.dumps(refusal.body).encode()
        headers = {"Content-Type": "application/json", "Content-Length": str(len(content)), **refusal.headers}
        named = [(name.lower().encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
        await self.send({"type": "http.response.start", "status": refusal.status, "headers": named})
        await self.send({"type": "http.response.body", "body": content})


def _has_body(scope: Scope) -> bool:
    return _header(scope, b"content-length") not in ("", "0") or _header(scope, b"transfer-encoding") != ""


def _header(scope: Scope, name: bytes) -> str:
    """A header's value, empty if it is not there; where it is there twice, both."""
    return ", ".join(value.decode("latin-1") for key, value in scope["headers"] if key == name)


def _host_name(host: str) -> str:
    """``localhost`` of ``localhost:8000``, ``::1`` of ``[::1]:8000``."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _check_origin(origin: str, host: str, site: str) -> None:
    """A page from elsewhere, open in a browser on this machine, must not change anything here.

    Raises:
        Refusal: The request was made by such a page.
    """
    is_other = origin != "" and _network_place(origin) != host.lower()
    if is_other or site in ("cross-site", "same-site"):
        raise Refusal(
            403,
            "other_site",
            f"the request was made by a page of {origin or 'another site'}; expected this server's own",
        )


def _network_place(origin: str) -> str:
    """``localhost:8000`` of ``http://localhost:8000``; empty for ``null`` and whatever is no address."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _is_open(path: str) -> bool:
    """What may be seen without the token: the page, which asks for it, and what tells that the server is well."""
    return path in _OPEN or path.startswith("/static/")
