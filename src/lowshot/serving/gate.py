"""The gate before the application: who may ask, how much may come, and the headers that every answer has.

Plain ASGI, so that a body is counted while it comes, before anything is made of it.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import Callable, Mapping
from urllib.parse import SplitResult, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .limits import Limits
from .prometheus import Metrics
from .refusals import GONE, Busy, ClientGone, Refusal

_LOG = logging.getLogger("lowshot.serving")
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
TEACH_PATH = "/v1/adapters"
_OPEN = frozenset({"/", "/docs", "/healthz", "/readyz", "/v1/server", "/openapi.json", "/favicon.ico"})
_SMALL_BODY_BYTES = 1 << 16  # of a request that needs none
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
        application: The application behind it.
        limits: Sizes and times.
        metrics: Told of every answer.
        token: The secret of those who may ask; None where only this machine can ask, or anybody may.
        hosts: Names under which the server may be addressed; None for any. A page elsewhere that has its own name
            point to this machine (DNS rebinding) is told by it.
        public: Whether anybody may ask, and nothing can be changed: then pages of other sites may ask too, and show
            this one inside them.
    """

    def __init__(
        self,
        application: ASGIApp,
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
        body = _Body(scope, receive, self._limits, self._count)
        answer = _Answer(scope, send, body, self._headers)
        try:
            self._check(scope)
            body.check_announced()
            await self._application(scope, body.receive, answer.send)
        except Refusal as refusal:
            await JSONResponse(refusal.body, refusal.status, refusal.headers)(scope, receive, answer.send)
        except Exception:  # the application has answered so; were it raised further, the connection would be cut
            _LOG.exception("the server failed to answer %r %r", scope["method"], scope["path"])
        finally:
            self._bytes_in_flight -= body.counted
            self._metrics.answered(scope, answer.status, time.perf_counter() - started)

    def _check(self, scope: Scope) -> None:
        """Refuse by the head alone a request to another host, from another site, or without the token."""
        host = _header(scope, "host")
        if self._hosts is not None and (_parts(f"//{host}").hostname or "") not in self._hosts:
            raise Refusal(
                400, "unknown_host", f"the request is addressed to host {host!r}; expected one of {sorted(self._hosts)}"
            )
        if scope["method"] not in _SAFE and not self._public:
            # A page from elsewhere, open in a browser on this machine, must not change anything here.
            origin = _header(scope, "origin")
            is_other = origin != "" and _parts(origin).netloc.lower() != host.lower()
            if is_other or _header(scope, "sec-fetch-site") in ("cross-site", "same-site"):
                where = origin or "another site"
                raise Refusal(
                    403, "other_site", f"the request was made by a page of {where}; expected this server's own"
                )
        if self._token is None or scope["path"] in _OPEN or scope["path"].startswith("/static/"):
            return
        scheme, _, token = _header(scope, "authorization").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(token.strip().encode("latin-1"), self._token):
            raise Refusal(
                401,
                "token",
                "this server asks for its token, and the request has none or another; send 'Authorization: Bearer "
                "TOKEN'",
                headers={"WWW-Authenticate": "Bearer"},
            )

    def _count(self, size: int) -> None:
        """Note bytes of a body that has come, or refuse them where all requests together have too many."""
        if self._bytes_in_flight + size > self._limits.bytes_in_flight:
            raise Busy("the requests that are under way have too many bytes together")
        self._bytes_in_flight += size


class _Body:
    """Counts a request's body while it comes."""

    def __init__(self, scope: Scope, receive: Receive, limits: Limits, count: Callable[[int], None]) -> None:
        self._receive = receive
        self._count = count
        path = scope["path"]
        if scope["method"] != "POST":
            self._largest = _SMALL_BODY_BYTES
        elif path == TEACH_PATH or (path.startswith(f"{TEACH_PATH}/") and path.endswith("/add")):
            self._largest = limits.teaching_bytes  # its images are learnt from
        else:
            self._largest = limits.request_bytes
        self._seconds = limits.upload_seconds
        self._until = time.monotonic() + self._seconds
        self._announced = _header(scope, "content-length")
        self.counted = 0
        self.is_whole = self._announced in ("", "0") and not _header(scope, "transfer-encoding")

    def check_announced(self) -> None:
        """Refuse a body that says itself that it is too large, before it comes."""
        if self._announced.isdecimal() and int(self._announced) > self._largest:
            raise self._too_large(f"{int(self._announced):,} bytes")

    async def receive(self) -> Message:
        """The next part of the body, unless it is too large or late; after the last, whether the client has gone."""
        if self.is_whole:
            return await self._receive()
        message = await self._next()
        if message["type"] == "http.disconnect":
            raise ClientGone
        size = len(message.get("body", b""))
        if self.counted + size > self._largest:
            raise self._too_large("more")
        self._count(size)
        self.counted += size
        return message

    async def read_on(self) -> None:
        """Throw away the rest for a moment: a client that is still sending may not see an answer before."""
        self._until = min(self._until, time.monotonic() + _READ_ON_SECONDS)
        left = self._largest
        try:
            while not self.is_whole and left > 0:
                left -= len((await self._next()).get("body", b""))
        except Refusal:
            return

    async def _next(self) -> Message:
        try:
            message = await asyncio.wait_for(self._receive(), max(0.0, self._until - time.monotonic()))
        except asyncio.TimeoutError:
            problem = f"the request's body has not come within {self._seconds:g} s; send less at once"
            raise Refusal(408, "slow_upload", problem) from None
        self.is_whole = message["type"] == "http.disconnect" or not message.get("more_body", False)
        return message

    def _too_large(self, size: str) -> Refusal:
        return Refusal(
            413,
            "too_large",
            f"the request's body has {size}; expected at most {self._largest:,} bytes: send less at once",
        )


class _Answer:
    """An answer on its way, with the headers that every answer has."""

    def __init__(self, scope: Scope, send: Send, body: _Body, headers: Mapping[str, str]) -> None:
        self._send = send
        self._body = body
        self._headers = {**headers, "Cache-Control": "no-store"} if scope["path"].startswith("/v1/") else headers
        self.status = GONE

    async def send(self, message: Message) -> None:
        """Pass a part of the answer on. Where one begins before all of the request has come, the connection ends."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if not self._body.is_whole:
                await self._body.read_on()
            headers = MutableHeaders(scope=message)
            for name, value in self._headers.items():
                headers.setdefault(name, value)
            if not self._body.is_whole:
                headers.setdefault("Connection", "close")
        await self._send(message)


def _header(scope: Scope, name: str) -> str:
    """A header's value, empty if it is not there; where it is there twice, both."""
    return ", ".join(Headers(scope=scope).getlist(name))


def _parts(address: str) -> SplitResult:
    """Parts of an address; empty ones for ``null`` and whatever is no address."""
    try:
        return urlsplit(address)
    except ValueError:
        return urlsplit("")
