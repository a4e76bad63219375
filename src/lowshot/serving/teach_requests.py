"""From a request to teach to a job: names, settings and images are checked before anything is queued."""

from __future__ import annotations

import asyncio
import re
import reprlib
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from starlette.datastructures import UploadFile
from starlette.requests import Request

from ..errors import InputError
from ..methods import method_spec
from ..settings import SETTINGS, Recipe, default_preset, preset_recipe
from .jobs import Job
from .limits import Limits
from .refusals import Refusal
from .service import Service
from .uploads import check_names, content_of, files_of, form_of, json_object, text_of

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
"""Form of the name of an adapter that is taught here."""
TEACHABLE = (*(name for name, row in SETTINGS.items() if row.teachable), "steps")
"""Settings that a client may send: names as in a recipe, and ``steps`` for those of the whole training."""
_SPECIAL = frozenset({"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))})
_MOST_CLASS_CHARACTERS = 100
_MOST = {"batch_size": 256, "rank": 512}
_MOST_TEMPLATES = 20


async def teach(service: Service, request: Request) -> Job:
    """Take a request to teach in; returns its job.

    Args:
        service: Decodes the images, to tell bad ones at once, and has who teaches.
        request: Its body has ``name``, ``settings``, ``images`` and ``labels``.

    Raises:
        Refusal: Anything about it cannot be used.
    """
    limits, teaching, model = service.limits, service.teacher, service.model_id
    most = limits.classes * limits.images_per_class
    async with form_of(request, files=most, fields=most + 2) as form:
        check_names(form, {"name", "settings", "images", "labels"})
        name = checked_name(text_of(form, "name"))
        files, labels = files_of(form, "images"), [checked_label(label) for label in form.getlist("labels")]
        check_labels(labels, len(files), limits)
        settings = checked_settings(
            json_object(text_of(form, "settings", "{}"), "settings"), labels, model, limits, service.methods
        )
        with teaching.place(name) as folder:
            images = await written_images(service, folder, files, labels)
            of_base = ("quantize", "quantize_projection", "precision")
            settings |= {setting: getattr(service.bank, setting) for setting in of_base}  # those it can serve
            if beside := service.bank.backbone.beside:
                settings["beside"] = beside[0].identity.id
            return teaching.add(folder, name, {"model": model, "settings": settings, "images": images})


async def written_images(
    service: Service, folder: Path, files: Sequence[UploadFile], labels: Sequence[str]
) -> list[dict[str, str]]:
    """Write the images of a request into a job's folder; returns each one's ``file`` and ``class``.

    Raises:
        Refusal: One cannot be learnt from.
    """
    images = []
    for place, (file, label) in enumerate(zip(files, labels, strict=True)):
        content = await service.usable_image(await content_of(file, place, service.limits), place)
        await asyncio.to_thread((folder / str(place)).write_bytes, content)
        images.append({"file": str(place), "class": label})
    return images


def checked_name(name: str) -> str:
    """A name for an adapter that is fit for a folder on any system; any other is refused."""
    if not NAME.fullmatch(name) or ".." in name or name.endswith(".") or name.partition(".")[0] in _SPECIAL:
        raise Refusal(
            422,
            "unusable_name",
            f"name is {name[:80]!r}; expected 1 to 64 small letters, digits, dots, dashes and underscores, with a "
            "letter or digit first and no name that is special on Windows",
        )
    return name


def check_labels(labels: Sequence[str], images: int, limits: Limits, known: Sequence[str] = ()) -> None:
    """Refuse labels that are not one for each image, and too many or too few classes or images of one.

    Args:
        labels: Of the images of a request.
        images: How many there are.
        limits: How many may be.
        known: Classes that there are already.
    """
    if len(labels) != images:
        raise Refusal(
            400, "damaged_body", f"the form has {images} images and {len(labels)} labels; expected one for each"
        )
    counts = Counter(labels)
    names = dict.fromkeys((*known, *counts))
    if not 2 <= len(names) <= limits.classes:
        number = f"there would be {len(names)} classes" if known else f"the labels name {len(names)} class(es)"
        raise Refusal(422, "unusable_classes", f"{number}; expected 2 to {limits.classes} different ones")
    check_alike(list(names))
    most, count = counts.most_common(1)[0]
    if count > limits.images_per_class:
        raise Refusal(
            422, "unusable_classes", f"class {most!r} has {count} images; expected at most {limits.images_per_class}"
        )


def check_alike(names: Sequence[str]) -> None:
    """Refuse names of classes that differ in capital and small letters alone."""
    alike = Counter(name.casefold() for name in names)
    twice = next((name for name in names if alike[name.casefold()] > 1), None)
    if twice is not None:
        raise Refusal(
            422, "unusable_classes", f"class {twice!r} is there in capital and in small letters; expected one"
        )


def checked_settings(
    given: Mapping[str, Any], labels: Sequence[str], model: str, limits: Limits, methods: Sequence[str]
) -> dict[str, Any]:
    """Settings of a recipe that a job may have, tried out on a recipe.

    Args:
        given: What the client sent.
        labels: Of all images; the classes have as many shots as the largest has images.
        model: The backbone: its preset has what is not given.
        limits: How long a job may train.
        methods: Those that are taught here.

    Raises:
        Refusal: One is unknown, out of range, or would take too long.
    """
    unknown = sorted(set(given) - set(TEACHABLE))
    if unknown:
        raise _unusable(f"setting {reprlib.repr(unknown[0])} cannot be set here; expected {', '.join(TEACHABLE)}")
    settings = {"method": methods[0], **given}
    if settings["method"] not in methods:
        raise _unusable(f"method is {reprlib.repr(settings['method'])}; expected one of {', '.join(methods)}")
    steps, method = settings.pop("steps", None), settings["method"]
    if steps is not None:
        if not _takes_steps(method):
            raise _unusable(f"steps is {reprlib.repr(steps)}, but method {method} takes none; leave it out")
        if type(steps) is not int or steps < 1:
            raise _unusable(f"steps is {reprlib.repr(steps)}; expected a whole number of 1 or more")
        settings |= {"base_steps": steps, "steps_per_shot": 0}  # of the whole training
    try:
        recipe = preset_recipe(default_preset(model), settings["method"]).replace(**settings)
        recipe.refuse_idle_training()
    except (InputError, TypeError, ValueError, OverflowError) as error:
        raise _unusable(" ".join(str(error).split())[:400]) from None
    _check_cost(recipe, max(Counter(labels).values()), limits)
    return settings


def _takes_steps(method: str) -> bool:
    return method_spec(method).training is None  # it obeys all that decides how many


def _check_cost(recipe: Recipe, shots: int, limits: Limits) -> None:
    """Refuse what would take too long or too much memory."""
    values = recipe.settings()
    for setting, most in _MOST.items():
        if values[setting] > most:
            excess = f"{setting.replace('_', '-')} is {reprlib.repr(values[setting])}"
            raise _unusable(f"{excess}; expected at most {most}")
    templates = len(recipe.data.template)
    if templates > _MOST_TEMPLATES:
        raise _unusable(f"template has {templates} texts; expected at most {_MOST_TEMPLATES}")
    trainings = 1 + recipe.training.calibration_folds if _takes_steps(recipe.method.method) else 0
    steps = trainings * recipe.steps(shots)
    if steps > limits.teaching_steps:
        raise _unusable(f"training would take {steps:,} steps; expected at most {limits.teaching_steps:,}: set steps")


def _unusable(message: str) -> Refusal:
    return Refusal(422, "unusable_setting", message)


def checked_label(label: object) -> str:
    """The name of a class without spaces around it; refused if it is empty, long or not to be seen."""
    name = unicodedata.normalize("NFC", label).strip() if isinstance(label, str) else ""
    if not 1 <= len(name) <= _MOST_CLASS_CHARACTERS or not name.isprintable():
        raise Refusal(
            422,
            "unusable_classes",
            f"a label is {str(label)[:40]!r}; expected the name of a class, 1 to {_MOST_CLASS_CHARACTERS} printable "
            "characters",
        )
    return name
