"""Bodies of requests, for the OpenAPI document. They are read by hand: by ``uploads`` and who takes requests in."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from . import schema
from .teach_requests import NAME

_FILES = {"type": "array", "items": {"type": "string", "format": "binary"}, "minItems": 1}
_NAME = {"type": "string", "pattern": f"^{NAME.pattern}$"}
_SETTINGS = {"type": "string", "contentMediaType": "application/json"}
_LABELS = {"type": "array", "items": {"type": "string", "minLength": 1, "maxLength": 100}}


def body_of(model: type[BaseModel]) -> dict[str, Any]:
    """A body of JSON of this shape."""
    return {"required": True, "content": {"application/json": {"schema": model.model_json_schema()}}}


def _form(*required: str, **parts: Any) -> dict[str, Any]:
    """A body that is a form of these parts."""
    form = {"type": "object", "properties": parts, "required": list(required)}
    return {"required": True, "content": {"multipart/form-data": {"schema": form}}}


LESSON = _form("name", "images", "labels", name=_NAME, settings=_SETTINGS, images=_FILES, labels=_LABELS)
ADDED = _form("name", "images", "labels", name=_NAME, images=_FILES, labels=_LABELS)
IMAGES = {
    "required": True,
    "content": {**_form("images", images=_FILES)["content"], **body_of(schema.ImagesAsText)["content"]},
}
