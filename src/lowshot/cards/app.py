"""The page's server: a few paths, behind the same gate as ``lowshot serve``, on this machine alone."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route

from ..errors import LowshotError
from ..serving.app import Modules, answer_error
from ..serving.gate import Gate
from ..serving.limits import Limits
from ..serving.pages import FOLDER, framed
from ..serving.prometheus import Metrics
from ..serving.refusals import Refusal
from ..serving.server import names_of, runner
from .session import Session

PAGE = Path(__file__).parent / "page"
_PICTURES_AT_ONCE = 4


def create_app(session: Session) -> Starlette:
    """The application, without its gate."""
    pictures = asyncio.Semaphore(_PICTURES_AT_ONCE)

    async def page(_: Request) -> Response:
        body = (PAGE / "cards.html").read_text(encoding="utf-8")
        content = framed(body, script="cards/main.js", title="Labels \u00b7 lowshot")
        return HTMLResponse(content, headers={"Cache-Control": "no-cache"})

    async def state(_: Request) -> Response:
        return JSONResponse(await asyncio.to_thread(session.state))

    async def decide(request: Request) -> Response:
        body = await _body(request, "card", "choice")
        return JSONResponse(await asyncio.to_thread(session.decide, str(body["card"]), body["choice"]))

    async def add_class(request: Request) -> Response:
        body = await _body(request, "name")
        return JSONResponse(await asyncio.to_thread(session.add_class, str(body["name"])))

    async def next_round(request: Request) -> Response:
        body = await _body(request, "after")
        return JSONResponse(await asyncio.to_thread(session.next_round, body["after"]))

    async def picture(request: Request) -> Response:
        async with pictures:
            image = await asyncio.to_thread(session.picture, request.path_params["id"])
        if image is None:
            raise HTTPException(404, "there is no such image")
        # The identifier is of the file's time and size too, so that another file is another address.
        return Response(image.content, media_type=image.media_type, headers={"Cache-Control": "private, max-age=3600"})

    errors = (Refusal, LowshotError, HTTPException, Exception)
    return Starlette(
        routes=[
            Route("/", page),
            Route("/v1/cards", state),
            Route("/v1/decisions", decide, methods=["POST"]),
            Route("/v1/classes", add_class, methods=["POST"]),
            Route("/v1/rounds", next_round, methods=["POST"]),
            Route("/images/{id}", picture),
            Mount("/static", Modules(directory=FOLDER, check_dir=False)),
            Mount("/cards", Modules(directory=PAGE, check_dir=False)),
        ],
        exception_handlers=dict.fromkeys(errors, answer_error),
    )


async def _body(request: Request, *names: str) -> dict[str, Any]:
    """A request's JSON object with these members.

    Raises:
        Refusal: It is something else.
    """
    try:
        body = json.loads(await request.body())
    except ValueError:
        body = None
    if not isinstance(body, dict) or set(body) != set(names):
        raise Refusal(422, "unusable_setting", f"the body is no JSON object of {', '.join(names)} alone")
    return body


def serve_cards(session: Session, listening: socket.socket, announce: Callable[[], None]) -> None:
    """Serve the page until a signal ends it.

    Args:
        session: The cards.
        listening: Of ``listening_socket``, on loopback.
        announce: Called once, when the page is there.
    """
    limits = Limits()
    gate = Gate(create_app(session), limits=limits, metrics=Metrics(), token=None, hosts=names_of(listening))
    runner(gate, limits, announce).run(sockets=[listening])
