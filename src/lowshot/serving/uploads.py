"""The files and texts in a request's body, within limits. No address in it is ever followed."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import json
import re
from collections.abc import AsyncIterator
from typing import Any

from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from .limits import Limits
from .refusals import Refusal

_MULTIPART, _JSON = "multipart/form-data", "application/json"
_FIELD_BYTES = 1 << 16


async def images_to_predict(request: Request, limits: Limits) -> list[bytes | Refusal]:
    """The images' files in the order that they came in; in the place of one that is too large, the reason."""
    kind = _kind(request)
    if kind == _MULTIPART:
        async with form_of(request, files=limits.images_per_request, fields=0) as form:
            check_names(form, {"images"})
            return [await content_of(file, place, limits) for place, file in enumerate(files_of(form, "images"))]
    if kind == _JSON:
        return await asyncio.to_thread(_images_of_json, await request.body(), limits)
    raise Refusal(
        415, "unknown_type", f"the body is {kind or 'of no stated type'}; expected {_MULTIPART} with files, or {_JSON}"
    )


@contextlib.asynccontextmanager
async def form_of(request: Request, *, files: int, fields: int) -> AsyncIterator[FormData]:
    """A multipart body of so many parts at most; its files are gone after the block."""
    kind = _kind(request)
    if kind != _MULTIPART:
        raise Refusal(415, "unknown_type", f"the body is {kind or 'of no stated type'}; expected {_MULTIPART}")
    try:
        form = await request.form(max_files=files, max_fields=fields, max_part_size=_FIELD_BYTES)
    except HTTPException as error:
        is_large = error.detail.startswith(("Too many", "Part exceeded"))
        status, code = (413, "too_large") if is_large else (400, "damaged_body")
        raise Refusal(status, code, f"the form cannot be taken: {error.detail}") from None
    except (ValueError, LookupError) as error:  # headers of a part that are no text
        raise Refusal(400, "damaged_body", f"the form is damaged: {error}") from None
    try:
        yield form
    finally:
        await form.close()


def check_names(form: FormData, known: set[str]) -> None:
    """Refuse parts that nobody asked for: a misspelt one would do nothing."""
    unknown = sorted(set(form) - known)
    if unknown:
        raise Refusal(
            400, "unknown_field", f"the form has a field {unknown[0][:40]!r}; expected {', '.join(sorted(known))}"
        )


def files_of(form: FormData, name: str) -> list[UploadFile]:
    """The files under a name: one or more, and no text among them."""
    values = form.getlist(name)
    files = [value for value in values if isinstance(value, UploadFile)]
    if not files or len(files) < len(values):
        instead = "a text" if values else "nothing"
        raise Refusal(400, "no_images", f"the form has {instead} under {name!r}; expected one or more image files")
    return files


async def content_of(file: UploadFile, place: int, limits: Limits) -> bytes | Refusal:
    """The bytes of an image's file, or the reason why they are too many."""
    size = file.size or 0
    return _too_large(place, size, limits) if size > limits.image_bytes else await file.read()


def text_of(form: FormData, name: str, default: str | None = None) -> str:
    """The one text under a name."""
    values = form.getlist(name)
    if not values and default is not None:
        return default
    if len(values) != 1 or not isinstance(values[0], str):
        raise Refusal(400, "damaged_body", f"the form has {len(values)} values under {name!r}; expected one text")
    return values[0]


def json_object(text: str | bytes, place: str) -> dict[str, Any]:
    """The JSON object in a text, which is named in refusals by its place."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, "damaged_body", f"{place} is no JSON: {str(error)[:200]}") from None
    if not isinstance(value, dict):
        raise Refusal(400, "damaged_body", f"{place} is a {type(value).__name__}; expected a JSON object")
    return value


def _too_large(place: int, size: int, limits: Limits) -> Refusal:
    return Refusal(
        413,
        "too_large",
        f"images[{place}] has {size:,} bytes; expected at most {limits.image_bytes:,}: send a smaller one",
    )


def _images_of_json(content: bytes, limits: Limits) -> list[bytes | Refusal]:
    value = json_object(content, "the body")
    images = value.get("images")
    if set(value) != {"images"} or not isinstance(images, list) or not images:
        raise Refusal(400, "no_images", 'the body is no {"images": ["BASE64", ...]} with one image or more')
    if len(images) > limits.images_per_request:
        raise Refusal(
            413, "too_large", f"the request has {len(images)} images; expected at most {limits.images_per_request}"
        )
    return [_decoded(image, place, limits) for place, image in enumerate(images)]


def _decoded(image: object, place: int, limits: Limits) -> bytes | Refusal:
    if not isinstance(image, str):
        raise Refusal(400, "damaged_body", f"images[{place}] is a {type(image).__name__}; expected base64 text")
    if re.match(r"[a-z][a-z0-9+.-]*:", image[:40], re.IGNORECASE):
        return Refusal(
            422, "unusable_image", f"images[{place}] is an address; this server follows none: send the image in base64"
        )
    try:
        content = base64.b64decode(image, validate=True)
    except (binascii.Error, ValueError) as error:
        return Refusal(422, "unusable_image", f"images[{place}] is no base64: {error}")
    return _too_large(place, len(content), limits) if len(content) > limits.image_bytes else content


def _kind(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()
