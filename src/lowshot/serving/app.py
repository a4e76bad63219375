"""The HTTP interface: every path, its parameters and its answers. The work stands in ``service`` and ``jobs``."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.staticfiles import StaticFiles

from ..errors import LowshotError
from . import change_requests, schema, teach_requests
from .bodies import ADDED, IMAGES, LESSON, body_of
from .downloads import zipped
from .jobs import Job
from .pages import FOLDER, page
from .prometheus import CONTENT_TYPE
from .refusals import GONE, ClientGone, Draining, Refusal, refusal_of
from .service import Options, Service
from .uploads import images_to_predict

VERSION = importlib.metadata.version("lowshot")
_DESCRIPTION = (
    "Few-shot classifiers of one backbone: ask them about images, teach new ones. "
    "Errors are `{error: {code, message}}`."
)
_Result = TypeVar("_Result")
_Route = TypeVar("_Route", bound=Callable[..., Awaitable[Response]])
_LIMITS = (
    "image_bytes",
    "images_per_request",
    "request_bytes",
    "teaching_bytes",
    "classes",
    "images_per_class",
    "teaching_steps",
)
"""Limits that clients are told."""


def create_app(service: Service, *, token_required: bool) -> FastAPI:
    """The application, without its gate.

    Args:
        service: Does the work; it is closed with the application.
        token_required: Whether the gate asks for a token, which clients are told.
    """

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if service.teaching is not None:
            service.teaching.start()
        yield
        await service.close()

    errors = (Refusal, LowshotError, ClientGone, HTTPException, RequestValidationError, Exception)
    app = FastAPI(
        title="lowshot",
        version=VERSION,
        description=_DESCRIPTION,
        lifespan=lifespan,
        exception_handlers=dict.fromkeys(errors, answer_error),
        docs_url=None,  # both would load scripts from elsewhere; /docs is a page of our own
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.service = service
    app.state.token_required = token_required
    app.include_router(router)
    app.mount("/static", Modules(directory=FOLDER, check_dir=False), name="static")
    return app


async def answer_error(request: Request, error: Exception) -> Response:
    """Answer any error in the one form that all have."""
    if isinstance(error, ClientGone):
        return Response(status_code=GONE)
    if isinstance(error, Refusal):
        refusal = error
    elif isinstance(error, LowshotError):
        refusal = refusal_of(error)
    elif isinstance(error, HTTPException):
        code = {404: "unknown_path", 405: "unknown_method"}.get(error.status_code, "bad_request")
        path = f"{request.method} {request.url.path[:80]!r}"
        message = f"{path}: {error.detail}; /openapi.json lists what there is"
        refusal = Refusal(error.status_code, code, message, headers=error.headers)
    elif isinstance(error, RequestValidationError):
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        refusal = Refusal(422, "unusable_setting", f"{place} does not fit: {first['msg']}")
    else:
        refusal = Refusal(500, "failed", f"the server failed: {type(error).__name__}; its log says more")
    return JSONResponse(refusal.body, refusal.status, refusal.headers)


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Errors of a path for the OpenAPI document, with those that the gate may give everywhere."""
    return {status: {"model": schema.ErrorAnswer} for status in sorted({*statuses, 400, 401, 422})}


async def _service_of(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


router = APIRouter()
Behind = Annotated[Service, Depends(_service_of)]
"""The service behind the application, as a parameter of a path."""


@router.get("/healthz", response_model=schema.StateAnswer)
async def alive() -> Response:
    """The process answers."""
    return JSONResponse({"status": "ok"})


@router.get("/readyz", response_model=schema.StateAnswer, responses=_errors(503))
async def ready(service: Behind) -> Response:
    """The model is loaded, and requests are taken."""
    if service.draining:
        raise Draining
    return JSONResponse({"status": "ok"})


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(service: Behind) -> Response:
    """Figures for Prometheus."""
    return Response(service.metrics.text(service.gauges()), media_type=CONTENT_TYPE)


@router.get("/v1/server", response_model=schema.ServerAnswer)
async def server(request: Request, service: Behind) -> Response:
    """What this server is, and what it takes at most."""
    return JSONResponse(
        {
            "version": VERSION,
            "model": service.model_id,
            "reads_names": service.reads_names,
            "methods": list(service.methods),
            "settings": list(teach_requests.TEACHABLE),
            "limits": {name: getattr(service.limits, name) for name in _LIMITS},
            "teach": service.teaching is not None,
            "token_required": request.app.state.token_required,
            "demo": service.demo,
        }
    )


@router.get("/v1/adapters", response_model=schema.AdaptersAnswer)
async def adapters(service: Behind) -> Response:
    """All adapters, and those that are not served with the reason."""
    return await asyncio.to_thread(lambda: JSONResponse(service.adapters()))  # megabytes, of thousands


@router.get("/v1/adapters/{name}", response_model=schema.AdapterAnswer, responses=_errors(404, 409))
async def adapter(service: Behind, name: str) -> Response:
    """One adapter: its classes, prompts, figures, pictures."""
    return JSONResponse(await asyncio.to_thread(service.adapter, name))


@router.delete("/v1/adapters/{name}", status_code=204, responses=_errors(403, 404))
async def delete(service: Behind, name: str) -> Response:
    """Remove an adapter from the disk."""
    await service.remove(name)
    return Response(status_code=204)


@router.get(
    "/v1/adapters/{name}/download",
    response_class=FileResponse,
    responses={200: {"content": {"application/zip": {}}}, **_errors(404, 409)},
)
async def download(service: Behind, name: str) -> Response:
    """The adapter's folder as a zip file, without the pictures it was taught with."""
    await asyncio.to_thread(service.bank.describe, name)
    return await asyncio.to_thread(zipped, service.bank.folder / name)


@router.get(
    "/v1/adapters/{name}/examples/{id}",
    response_class=FileResponse,
    responses={200: {"content": {"image/jpeg": {}, "image/png": {}}}, **_errors(404, 409)},
)
async def example(service: Behind, name: str, id: str) -> Response:  # noqa: A002 - the path's own word
    """A picture that an adapter was taught with."""
    picture = await asyncio.to_thread(service.example, name, id)
    return FileResponse(picture.path, media_type=picture.media_type)


def _images_are_sent_to(verb: str, answer: type[BaseModel]) -> Callable[[_Route], _Route]:
    """Register a route of an adapter that images are sent to, with all that can be wrong with them."""
    return router.post(
        f"/v1/adapters/{{name}}/{verb}",
        response_model=answer,
        response_model_exclude_none=True,
        openapi_extra={"requestBody": IMAGES},
        responses=_errors(404, 408, 409, 413, 415, 429, 503),
    )


async def _images_sent(service: Service, request: Request) -> list[bytes | Refusal]:
    """The images that an adapter is asked about: each one's file, or why there is none."""
    if service.draining:
        raise Draining
    return await images_to_predict(request, service.limits)


@_images_are_sent_to("predict", schema.PredictAnswer)
async def predict(
    service: Behind,
    request: Request,
    name: str,
    top: Annotated[int, Query(ge=1, le=1000, description="Classes to name.")] = 5,
    zero_shot: Annotated[bool, Query(description="Also what the backbone says without the adapter.")] = False,
    neighbours: Annotated[int, Query(ge=0, le=20, description="Nearest pictures of the training.")] = 0,
) -> Response:
    """What an adapter says of images: files in `images`, or base64 in JSON. A bad one fails alone."""
    contents = await _images_sent(service, request)
    options = Options(top=top, zero_shot=zero_shot, neighbours=neighbours)
    return JSONResponse(await _unless_gone(request, service.predict(name, contents, options)))


@_images_are_sent_to("embed", schema.EmbedAnswer)
async def embed(service: Behind, request: Request, name: str) -> Response:
    """Embeddings of images by the vision tower with what an adapter learnt in it. They are sent as to predict."""
    contents = await _images_sent(service, request)
    return JSONResponse(await _unless_gone(request, service.embed(name, contents)))


@_images_are_sent_to("explain", schema.ExplainAnswer)
async def explain(
    service: Behind,
    request: Request,
    name: str,
    class_name: Annotated[str | None, Query(alias="class", description="The class to ask about.")] = None,
) -> Response:
    """Which parts of images spoke for a class: the most probable one, or `class`. They are sent as to predict."""
    contents = await _images_sent(service, request)
    return JSONResponse(await _unless_gone(request, service.explain(name, contents, class_name)))


@router.post(
    "/v1/adapters",
    status_code=202,
    response_model=schema.AcceptedAnswer,
    openapi_extra={"requestBody": LESSON},
    responses=_errors(400, 403, 408, 409, 413, 415, 422, 429, 503),
)
async def teach(service: Behind, request: Request) -> Response:
    """Teach an adapter: `images` with one of `labels` each. Answers with a job to follow."""
    return await _accepted(service, teach_requests.teach(service, request))


async def _accepted(service: Service, job: Coroutine[Any, Any, Job]) -> Response:
    """The answer to a request that a job comes of."""
    if service.draining:
        job.close()
        raise Draining
    number = (await job).id
    url = f"/v1/jobs/{number}"
    return JSONResponse({"job": number, "url": url}, status_code=202, headers={"Location": url})


def _another_is_made_by(verb: str, body: dict[str, Any], *errors: int) -> Callable[[_Route], _Route]:
    """Register a route of an adapter that another adapter is made of, as a job."""
    return router.post(
        f"/v1/adapters/{{name}}/{verb}",
        status_code=202,
        response_model=schema.AcceptedAnswer,
        openapi_extra={"requestBody": body},
        responses=_errors(403, 404, 408, 409, 413, 429, 503, *errors),
    )


@_another_is_made_by("add", ADDED, 415)
async def add(service: Behind, request: Request, name: str) -> Response:
    """Teach a head on frozen features more classes or images: another adapter, under `name` in the form."""
    return await _accepted(service, change_requests.add(service, request, name))


@_another_is_made_by("remove", body_of(schema.Removal))
async def remove_classes(service: Behind, request: Request, name: str) -> Response:
    """Take classes out of an adapter: another adapter, under `name` in the body."""
    return await _accepted(service, change_requests.remove(service, request, name))


@_another_is_made_by("rename", body_of(schema.Renaming))
async def rename_class(service: Behind, request: Request, name: str) -> Response:
    """Call a class of an adapter by another name: another adapter, under `name` in the body."""
    return await _accepted(service, change_requests.rename(service, request, name))


@router.get("/v1/jobs", response_model=schema.JobsAnswer)
async def jobs(service: Behind) -> Response:
    """What is taught, waits for it, or was taught not long ago."""
    return JSONResponse({"jobs": [job.to_dict() for job in service.jobs]})


@router.get("/v1/jobs/{id}", response_model=schema.JobAnswer, responses=_errors(403, 404))
async def job(service: Behind, id: str) -> Response:  # noqa: A002 - the path's own word
    """How far a job is."""
    return JSONResponse(service.teacher.job(id).to_dict())


@router.delete("/v1/jobs/{id}", response_model=schema.JobAnswer, responses=_errors(403, 404, 409))
async def cancel(service: Behind, id: str) -> Response:  # noqa: A002 - the path's own word
    """End a job; nothing of it is left."""
    job = service.teacher.job(id)
    await service.teacher.cancel(job)
    return JSONResponse(job.to_dict())


@router.get("/", include_in_schema=False)
async def first_page() -> Response:
    """The page in the browser."""
    return HTMLResponse(page("/"), headers={"Cache-Control": "no-cache"})


@router.get("/docs", include_in_schema=False)
async def interface() -> Response:
    """A page about this interface, made of the OpenAPI document."""
    return HTMLResponse(page("/docs"), headers={"Cache-Control": "no-cache"})


@router.get("/favicon.ico", include_in_schema=False)
async def icon() -> Response:
    """The page's icon."""
    return FileResponse(FOLDER / "icon.svg", media_type="image/svg+xml")


class Modules(StaticFiles):
    """The page's modules, asked for anew each time, and sent only if they have changed."""

    def file_response(self, *arguments: Any, **named: Any) -> Response:
        response = super().file_response(*arguments, **named)
        response.headers.setdefault("Cache-Control", "no-cache")
        return response


async def _unless_gone(request: Request, work: Awaitable[_Result]) -> _Result:
    """The result of work that goes on for as long as somebody waits for it; else it is cancelled."""

    async def hang_up() -> None:
        while (await request.receive())["type"] != "http.disconnect":  # the request itself has been read
            pass

    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(hang_up())
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGone
        return task.result()
    finally:
        watch.cancel()
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
