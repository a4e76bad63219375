"""The HTTP interface: every path, what it takes and what it says. What is done stands in ``service`` and ``jobs``."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import shutil
import tempfile
import zipfile
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Annotated, Any, TypeVar

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.staticfiles import StaticFiles

from ..adapters.adapter import CONFIG_FILE
from ..adapters.checkpoint import TENSORS_FILE
from ..adapters.lora_xs import BASIS_FILE
from ..errors import LowshotError
from ..records import RECORD_FILE
from . import schema, teach_requests
from .prometheus import CONTENT_TYPE
from .refusals import GONE, ClientGone, Draining, Refusal, refusal_of
from .service import Options, Service
from .uploads import images_to_predict

VERSION = importlib.metadata.version("lowshot")
PAGE = Path(__file__).parent / "page"
CARD_FILE = "README.md"
_DOWNLOADED = (CONFIG_FILE, TENSORS_FILE, RECORD_FILE, BASIS_FILE, CARD_FILE)
_DESCRIPTION = (
    "Few-shot classifiers of one backbone: ask them about images, teach new ones. "
    "Errors are `{error: {code, message}}`."
)
_CODES = {404: "unknown_path", 405: "unknown_method"}
_Result = TypeVar("_Result")
_FILES = {"type": "array", "items": {"type": "string", "format": "binary"}, "minItems": 1}
_PREDICT_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {"schema": {"type": "object", "properties": {"images": _FILES}, "required": ["images"]}},
        "application/json": {"schema": schema.ImagesAsText.model_json_schema()},
    },
}
_TEACH_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {
                    "name": {"type": "string", "pattern": f"^{teach_requests.NAME.pattern}$"},
                    "settings": {"type": "string", "contentMediaType": "application/json"},
                    "images": _FILES,
                    "labels": {"type": "array", "items": {"type": "string", "minLength": 1, "maxLength": 100}},
                },
                "required": ["name", "images", "labels"],
            }
        }
    },
}


def create_app(service: Service, *, token_required: bool) -> FastAPI:
    """The application, without its gate.

    Args:
        service: What stands behind it; it is closed with the application.
        token_required: What clients are told; the gate is who asks for it.
    """

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if service.teaching is not None:
            service.teaching.start()
        yield
        await service.close()

    app = FastAPI(
        title="lowshot",
        version=VERSION,
        description=_DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,  # both would load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.token_required = token_required
    _say_errors(app)
    _add_states(app, service)
    _add_adapters(app, service)
    _add_predict(app, service)
    _add_teaching(app, service)
    _add_page(app)
    return app


def _add_states(app: FastAPI, service: Service) -> None:
    """Whether the server is well, and what it is."""

    @app.get("/healthz", response_model=schema.StateAnswer)
    async def alive() -> Response:
        """The process answers."""
        return JSONResponse({"status": "ok"})

    @app.get("/readyz", response_model=schema.StateAnswer, responses=_errors(503))
    async def ready() -> Response:
        """The model is loaded, and requests are taken."""
        if service.draining:
            raise Draining
        return JSONResponse({"status": "ok"})

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Figures for Prometheus."""
        return Response(service.metrics.text(service.gauges()), media_type=CONTENT_TYPE)

    @app.get("/v1/server", response_model=schema.ServerAnswer)
    async def server() -> Response:
        """What this server is, and what it takes at most."""
        limits = service.limits
        told = (
            "image_bytes",
            "images_per_request",
            "request_bytes",
            "teaching_bytes",
            "classes",
            "images_per_class",
            "teaching_steps",
        )
        return JSONResponse(
            {
                "version": VERSION,
                "model": service.bank.backbone.identity.id,
                "methods": list(service.methods),
                "settings": list(teach_requests.TEACHABLE),
                "limits": {name: getattr(limits, name) for name in told},
                "teach": service.teaching is not None,
                "token_required": app.state.token_required,
                "demo": service.demo,
            }
        )


def _add_adapters(app: FastAPI, service: Service) -> None:
    """What there is, and taking it away."""

    @app.get("/v1/adapters", response_model=schema.AdaptersAnswer)
    async def adapters() -> Response:
        """All adapters, and those that are not served with the reason."""
        return await _told(asyncio.to_thread(lambda: JSONResponse(service.adapters())))  # megabytes, of thousands

    @app.get("/v1/adapters/{name}", response_model=schema.AdapterAnswer, responses=_errors(404, 409))
    async def adapter(name: str) -> Response:
        """One adapter: its classes, prompts, figures, pictures."""
        return JSONResponse(await _told(asyncio.to_thread(service.adapter, name)))

    @app.delete("/v1/adapters/{name}", status_code=204, responses=_errors(403, 404))
    async def delete(name: str) -> Response:
        """Remove an adapter from the disk."""
        await service.remove(name)
        return Response(status_code=204)

    @app.get(
        "/v1/adapters/{name}/download",
        response_class=FileResponse,
        responses={200: {"content": {"application/zip": {}}}, **_errors(404, 409)},
    )
    async def download(name: str) -> Response:
        """The adapter's folder as a zip file, without the pictures it was taught with."""
        await _told(asyncio.to_thread(service.bank.describe, name))
        return await _told(asyncio.to_thread(_zipped, service.bank.folder / name))

    @app.get(
        "/v1/adapters/{name}/examples/{id}",
        response_class=FileResponse,
        responses={200: {"content": {"image/jpeg": {}, "image/png": {}}}, **_errors(404, 409)},
    )
    async def example(name: str, id: str) -> Response:  # noqa: A002 - the path's own word
        """A picture that an adapter was taught with."""
        found = await _told(asyncio.to_thread(service.example, name, id))
        return FileResponse(found.path, media_type=found.media_type)


def _add_predict(app: FastAPI, service: Service) -> None:
    """The work itself."""

    @app.post(
        "/v1/adapters/{name}/predict",
        response_model=schema.PredictAnswer,
        response_model_exclude_none=True,
        openapi_extra={"requestBody": _PREDICT_BODY},
        responses=_errors(400, 404, 408, 409, 413, 415, 422, 429, 503),
    )
    async def predict(
        request: Request,
        name: str,
        top: Annotated[int, Query(ge=1, le=1000, description="Classes to name.")] = 5,
        zero_shot: Annotated[bool, Query(description="Also what the backbone says without the adapter.")] = False,
        neighbours: Annotated[int, Query(ge=0, le=20, description="Nearest pictures of the training.")] = 0,
    ) -> Response:
        """What an adapter says of images: files in `images`, or base64 in JSON. A bad one fails alone."""
        if service.draining:
            raise Draining
        contents = await images_to_predict(request, service.limits)
        options = Options(top=top, zero_shot=zero_shot, neighbours=neighbours)
        return JSONResponse(await _unless_gone(request, service.predict(name, contents, options)))


def _add_teaching(app: FastAPI, service: Service) -> None:
    """New adapters."""

    @app.post(
        "/v1/adapters",
        status_code=202,
        response_model=schema.AcceptedAnswer,
        openapi_extra={"requestBody": _TEACH_BODY},
        responses=_errors(400, 403, 408, 409, 413, 415, 422, 429, 503),
    )
    async def teach(request: Request) -> Response:
        """Teach an adapter: `images` with one of `labels` each. Answers with a job to follow."""
        if service.draining:
            raise Draining
        job = await teach_requests.teach(service, request)
        url = f"/v1/jobs/{job.id}"
        return JSONResponse({"job": job.id, "url": url}, status_code=202, headers={"Location": url})

    @app.get("/v1/jobs", response_model=schema.JobsAnswer)
    async def jobs() -> Response:
        """What is taught, waits for it, or was taught not long ago."""
        known = [] if service.teaching is None else service.teaching.jobs
        return JSONResponse({"jobs": [job.to_dict() for job in known]})

    @app.get("/v1/jobs/{id}", response_model=schema.JobAnswer, responses=_errors(403, 404))
    async def job(id: str) -> Response:  # noqa: A002 - the path's own word
        """How far a job is."""
        return JSONResponse(service.teacher.job(id).to_dict())

    @app.delete("/v1/jobs/{id}", response_model=schema.JobAnswer, responses=_errors(403, 404, 409))
    async def cancel(id: str) -> Response:  # noqa: A002 - the path's own word
        """End a job; nothing of it is left."""
        found = service.teacher.job(id)
        await service.teacher.cancel(found)
        return JSONResponse(found.to_dict())


def _add_page(app: FastAPI) -> None:
    """The page and its modules: files of the package, nothing else."""

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return FileResponse(PAGE / "index.html", headers={"Cache-Control": "no-cache"})

    @app.get("/favicon.ico", include_in_schema=False)
    async def icon() -> Response:
        return FileResponse(PAGE / "icon.svg", media_type="image/svg+xml")

    app.mount("/static", _Modules(directory=PAGE, check_dir=False), name="static")


class _Modules(StaticFiles):
    """Asked for anew each time, and sent only if they have changed."""

    def file_response(self, *arguments: Any, **named: Any) -> Response:
        response = super().file_response(*arguments, **named)
        response.headers.setdefault("Cache-Control", "no-cache")
        return response


def _say_errors(app: FastAPI) -> None:
    """Every error in the one form."""

    @app.exception_handler(Refusal)
    async def refused(_: Request, refusal: Refusal) -> Response:
        return JSONResponse(refusal.body, refusal.status, refusal.headers)

    @app.exception_handler(LowshotError)
    async def failed(_: Request, error: LowshotError) -> Response:
        refusal = refusal_of(error)
        return JSONResponse(refusal.body, refusal.status, refusal.headers)

    @app.exception_handler(ClientGone)
    async def gone(_: Request, __: ClientGone) -> Response:
        return Response(status_code=GONE)

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> Response:
        said = f"{request.method} {request.url.path[:80]!r}: {error.detail}; /openapi.json lists what there is"
        body = {"error": {"code": _CODES.get(error.status_code, "bad_request"), "message": said}}
        return JSONResponse(body, error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    async def unfit(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        body = {"error": {"code": "unusable_setting", "message": f"{where} does not fit: {first['msg']}"}}
        return JSONResponse(body, 422)

    @app.exception_handler(Exception)
    async def broken(_: Request, error: Exception) -> Response:
        said = f"the server failed: {type(error).__name__}; its log says more"
        return JSONResponse({"error": {"code": "failed", "message": said}}, 500)


async def _told(work: Awaitable[_Result]) -> _Result:
    """The result of something that says no in lowshot's own errors."""
    try:
        return await work
    except LowshotError as error:
        raise refusal_of(error) from None


async def _unless_gone(request: Request, work: Awaitable[_Result]) -> _Result:
    """Do it for as long as somebody waits for it.

    Raises:
        ClientGone: Nobody does any more; the work was cancelled.
    """
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(_hung_up(request))
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


async def _hung_up(request: Request) -> None:
    """Comes back when the client has gone; its request has been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _zipped(folder: Path) -> Response:
    """An adapter's files, as they are, in one file that is gone when it is sent."""
    temporary = Path(tempfile.mkdtemp(prefix="lowshot-"))
    try:
        path = temporary / f"{folder.name}.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for name in _DOWNLOADED:
                is_plain = name != CARD_FILE or not (folder / name).is_symlink()  # nothing checks what a card links to
                if is_plain and (folder / name).is_file():
                    archive.write(folder / name, f"{folder.name}/{name}")
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return FileResponse(
        path,
        media_type="application/zip",
        filename=path.name,
        background=BackgroundTask(shutil.rmtree, temporary, ignore_errors=True),
    )


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For the OpenAPI document; those that every path may give because of the gate are added."""
    return {status: {"model": schema.ErrorAnswer} for status in sorted({*statuses, 400, 401})}
