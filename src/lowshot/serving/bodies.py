"""Bodies of requests, for the OpenAPI document. They are read by hand: by ``uploads`` and who takes requests in."""

from __future__ import annotations

import copy
from typing import Any

from pydantic import BaseModel

from . import schema
from .teach_requests import NAME

_FILES = {"type": "array", "items": {"type": "string", "format": "binary"}, "minItems": 1}
IMAGES = {
    "required": True,
    "content": {
        "multipart/form-data": {"schema": {"type": "object", "properties": {"images": _FILES}, "required": ["images"]}},
        "application/json": {"schema": schema.ImagesAsText.model_json_schema()},
    },
}
LESSON = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {
                    "name": {"type": "string", "pattern": f"^{NAME.pattern}$"},
                    "settings": {"type": "string", "contentMediaType": "application/json"},
                    "images": _FILES,
                    "labels": {"type": "array", "items": {"type": "string", "minLength": 1, "maxLength": 100}},
                },
                "required": ["name", "images", "labels"],
            }
        }
    },
}
ADDED = copy.deepcopy(LESSON)
del ADDED["content"]["multipart/form-data"]["schema"]["properties"]["settings"]  # type: ignore[index]


def body_of(model: type[BaseModel]) -> dict[str, Any]:
    """A body of JSON of this shape."""
    return {"required": True, "content": {"application/json": {"schema": model.model_json_schema()}}}
