"""A server from its socket to its end."""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
import logging
import math
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import uvicorn

from ..errors import InputError
from .app import create_app
from .bank import AdapterBank
from .connections import connections_of
from .entries import adapter_folders
from .gate import LOOPBACK, Gate
from .jobs import Workshop
from .limits import Limits
from .service import Service

BUILTIN = "builtin"
_SHORTEST_TOKEN = 16
_BACKLOG = 512


@dataclasses.dataclass(frozen=True)
class ServerSettings:
    """A folder of adapters, and the manner in which it is served."""

    folder: Path
    """It must exist; it may be empty."""
    token: str | None = None
    """Secret of those who may ask."""
    memory: str = "2GB"
    """Most memory for adapters and class embeddings."""
    model: str | None = None
    """Where the backbone is; that of most adapters if not given, the built-in one where there is no adapter."""
    device: str = "auto"
    precision: str | None = None
    """Type to compute all adapters in; that of most adapters if not given, and only those are served."""
    teach: bool = True
    """Whether adapters can be taught and removed."""
    public: bool = False
    """Whether anybody may ask who can reach it: without a token, and only where nothing can be changed."""
    demo: bool = False
    limits: Limits = dataclasses.field(default_factory=Limits)

    def __post_init__(self) -> None:
        assert not self.public or (self.token is None and not self.teach), "what is public is asked, and not changed"


def read_token(path: Path) -> str:
    """The token in a file.

    Raises:
        InputError: It cannot be read, or what is in it is too short or cannot stand in a header.
    """
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise InputError(f"token file {path} cannot be read: {reason}") from None
    if len(token) < _SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise InputError(
            f"token file {path} has {len(token)} characters; expected one word of {_SHORTEST_TOKEN} or more, such as "
            "`openssl rand -hex 32` writes"
        )
    return token


def listening_socket(host: str, port: int, token: str | None, *, public: bool = False) -> socket.socket:
    """Take an address, before anything slow is done; whoever connects waits until the server is ready.

    Args:
        host: A name or an address of this machine.
        port: 0 for any that is free.
        token: Secret of those who may ask.
        public: Whether anybody may ask without one.

    Raises:
        InputError: It is no address of this machine or is taken, or it can be reached from elsewhere, there is no
            token and it is not public.
    """
    if not 0 <= port <= 65535:
        raise InputError(f"port is {port}; expected 0 to 65535, 0 for any that is free")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise InputError(f"host {host!r} is no address: {error}") from None
    is_loopback = ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback
    if token is None and not public and not is_loopback:
        raise InputError(
            f"host {host} can be reached from other machines, where anybody could ask and teach; say --token-file "
            "FILE, or --public --no-teach to let anybody ask, or leave --host out"
        )
    bound = socket.socket(family, kind, protocol)
    try:
        if os.name != "nt":
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        reason = error.strerror or error
        raise InputError(f"port {port} of {host} cannot be had: {reason}; choose another --port") from None
    return bound


def url_of(listening: socket.socket) -> str:
    """The address at which a browser finds the page."""
    host, port = listening.getsockname()[:2]
    address = ipaddress.ip_address(str(host).partition("%")[0])
    name = "localhost" if address.is_unspecified else f"[{host}]" if address.version == 6 else host
    return f"http://{name}:{port}/"


def serve(listening: socket.socket, settings: ServerSettings, announce: Callable[[AdapterBank], None]) -> None:
    """Load, serve, and come back when a signal has ended it and all that was under way is answered.

    Args:
        listening: Of ``listening_socket``.
        settings: The folder and how to serve it.
        announce: Called once, when requests are taken.

    Raises:
        LowshotError: As for ``load``.
    """
    service = load(settings)
    server_of(listening, settings, service, lambda: announce(service.bank)).run(sockets=[listening])


def load(settings: ServerSettings) -> Service:
    """Load the backbone, and take the folder for teaching if it is to be taught in.

    Raises:
        InputError: The folder or the model cannot be used.
        OutputError: The folder cannot be written, or another server teaches in it.
    """
    model = settings.model
    if model is None and not any(adapter_folders(settings.folder)):
        model = BUILTIN
    workshop = Workshop(settings.folder) if settings.teach else None
    try:
        bank = AdapterBank(
            settings.folder,
            model=model,
            device=settings.device,
            memory=settings.memory,
            precision=settings.precision,
        )
    except BaseException:
        if workshop is not None:
            workshop.close()
        raise
    return Service(bank, settings.limits, workshop=workshop, demo=settings.demo)


def server_of(
    listening: socket.socket, settings: ServerSettings, service: Service, announce: Callable[[], None]
) -> uvicorn.Server:
    """The server of a service on a socket: ``run(sockets=[listening])`` comes back when it has ended."""
    gate = Gate(
        create_app(service, token_required=settings.token is not None),
        limits=settings.limits,
        metrics=service.metrics,
        token=settings.token,
        public=settings.public,
        hosts=names_of(listening),
    )
    return runner(gate, settings.limits, announce, service.drain)


def names_of(listening: socket.socket) -> frozenset[str] | None:
    """The names under which a socket may be asked; None, for any, where other machines reach it."""
    host = str(listening.getsockname()[0])
    return LOOPBACK | {host} if ipaddress.ip_address(host.partition("%")[0]).is_loopback else None


def runner(
    gate: Gate, limits: Limits, announce: Callable[[], None], stopping: Callable[[], None] = lambda: None
) -> uvicorn.Server:
    """The server of whatever is behind a gate.

    Args:
        gate: The gate.
        limits: Sizes and times.
        announce: Called once, when requests are taken.
        stopping: Called when a signal ends it, before what is under way is waited for.
    """
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    config = uvicorn.Config(
        gate,
        http=connections_of(limits.head_seconds),
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=limits.connections,
        backlog=_BACKLOG,
        timeout_graceful_shutdown=math.ceil(limits.drain_seconds),
    )
    return _Server(config, announce, stopping)


class _Server(uvicorn.Server):
    """Ends by a signal as a success: the signal is not raised again once all is answered."""

    def __init__(self, config: uvicorn.Config, announce: Callable[[], None], stopping: Callable[[], None]) -> None:
        super().__init__(config)
        self._announce, self._stopping = announce, stopping

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._announce()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._stopping()
        super().handle_exit(sig, frame)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
