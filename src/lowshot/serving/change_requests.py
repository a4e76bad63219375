"""From a request for an adapter with other classes to a job: what cannot be done is refused before anything is queued.

What is made is an adapter more, under a name of its own; the one that it is made from stays as it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

from starlette.requests import Request

from ..records import RunRecord
from .jobs import Job
from .refusals import Refusal
from .service import Service
from .teach_requests import check_alike, check_labels, checked_label, checked_name, written_images
from .uploads import check_names, files_of, form_of, json_object, text_of

Change: TypeAlias = Literal["add", "remove", "rename"]


async def add(service: Service, request: Request, of: str) -> Job:
    """Take a request in to teach an adapter more; returns its job.

    Args:
        service: Has the adapter, and who teaches.
        request: Its body is a form with ``name``, that of the new adapter, ``images`` and ``labels``.
        of: Name of the adapter.

    Raises:
        LowshotError: There is no such adapter, or it is refused.
        Refusal: Anything about it cannot be used.
    """
    record, limits = await _record(service, of), service.limits
    most = limits.classes * limits.images_per_class
    async with form_of(request, files=most, fields=most + 1) as form:
        check_names(form, {"name", "images", "labels"})
        name, files = checked_name(text_of(form, "name")), files_of(form, "images")
        labels = [checked_label(label) for label in form.getlist("labels")]
        check_labels(labels, len(files), limits, record.classes)
        with service.teacher.place(name) as folder:
            images = await written_images(service, folder, files, labels)
            return _queued(service, folder, name, of, "add", images=images)


async def remove(service: Service, request: Request, of: str) -> Job:
    """Take a request in for an adapter without some of its classes; its body is JSON with ``name`` and ``classes``.

    Args and errors are those of ``add``.
    """
    record, values = await _record(service, of), await _values(request, {"name": str, "classes": list})
    classes = values["classes"]
    unknown = next((each for each in classes if each not in record.classes), None)
    if not classes or unknown is not None:
        problem = f"has no class {str(unknown)[:100]!r}" if classes else "is to lose no class"
        raise _unusable(f"adapter {of!r} {problem}; expected some of {', '.join(record.classes[:20])}")
    if len(set(record.classes) - set(classes)) < 2:
        raise _unusable("fewer than two classes would be left; expected at least 2")
    with service.teacher.place(checked_name(values["name"])) as folder:
        return _queued(service, folder, values["name"], of, "remove", classes=classes)


async def rename(service: Service, request: Request, of: str) -> Job:
    """Take a request in for an adapter with another name of a class; its body is JSON with ``name``, ``old``, ``new``.

    Args and errors are those of ``add``.
    """
    record = await _record(service, of)
    values = await _values(request, {"name": str, "old": str, "new": str})
    old, new = values["old"], checked_label(values["new"])
    if old not in record.classes:
        raise _unusable(f"adapter {of!r} has no class {old[:100]!r}; expected one of {', '.join(record.classes[:20])}")
    check_alike([new if each == old else each for each in record.classes])
    with service.teacher.place(checked_name(values["name"])) as folder:
        return _queued(service, folder, values["name"], of, "rename", old=old, new=new)


def _queued(service: Service, folder: Path, name: str, of: str, kind: Change, **values: Any) -> Job:
    """The job in a folder that makes an adapter of this name of another."""
    change = {"what": kind, "adapter": str(service.bank.folder / of)}
    return service.teacher.add(folder, name, {"model": service.model_id, "change": change, **values})


async def _record(service: Service, of: str) -> RunRecord:
    """The record of an adapter; refused where this server does not teach, or its classes have no names."""
    service.teacher  # noqa: B018 - refuses
    description = await asyncio.to_thread(service.bank.describe, of)
    if description.record.labels:
        raise _unusable(
            f"the classes of adapter {of!r} are known by labels such as {description.record.labels[0]!r}, not by "
            "names; expected an adapter that was fitted with names"
        )
    return description.record


async def _values(request: Request, kinds: Mapping[str, type]) -> dict[str, Any]:
    """The JSON object in a body, with just these values; the members of a list are texts."""
    values = json_object(await request.body(), "the body")
    fits = set(values) == set(kinds) and all(isinstance(values[name], kind) for name, kind in kinds.items())
    lists = [value for value in values.values() if isinstance(value, list)]
    if not fits or not all(isinstance(each, str) for value in lists for each in value):
        expected = ", ".join(f"{name} ({'texts' if kind is list else 'a text'})" for name, kind in kinds.items())
        raise Refusal(400, "damaged_body", f"the body has {', '.join(sorted(values))[:200]}; expected {expected}")
    return values


def _unusable(message: str) -> Refusal:
    return Refusal(422, "unusable_classes", message)
