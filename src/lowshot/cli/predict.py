"""The command ``lowshot predict``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from ..errors import InputError
from .arguments import parse, print_json


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Labels and probabilities of images, from a saved adapter."""

    adapter: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="ADAPTER")]
    """Folder written by `lowshot fit`."""
    images: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IMAGE...")] = ()
    """Image files."""
    top: int = 3
    """Classes to print for each image; `--json` has them all."""
    model: Annotated[str | None, tyro.conf.arg(metavar="MODEL")] = None
    """Where the adapter's backbone is now, if not where it was: a folder or a Hub id."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda` or `cuda:N`."""
    json: bool = False
    """Print a list of `{image, label, probabilities}`."""


def run(arguments: Sequence[str]) -> int:
    """Predict and print."""
    parsed = parse(Arguments, "predict", arguments)
    if not parsed.images:
        raise InputError("predict needs at least one image: lowshot predict ADAPTER IMAGE...")
    if parsed.top < 1:
        raise InputError(f"top is {parsed.top}; expected 1 or more")
    for image in parsed.images:  # said before the model is loaded; files that are no images are found on the way
        if not image.is_file():
            raise InputError(f"image {image} {'is not a file' if image.exists() else 'does not exist'}")
    from ..classifier import saved_adapter

    classifier = saved_adapter(parsed.adapter, model=parsed.model, device=parsed.device)
    table = classifier.predict_proba(parsed.images)
    classes = classifier.classes_.tolist()
    rows = [dict(zip(classes, map(float, row), strict=True)) for row in table]
    if parsed.json:
        pairs = zip(parsed.images, rows, strict=True)
        print_json([{"image": str(i), "label": max(p, key=p.__getitem__), "probabilities": p} for i, p in pairs])
        return 0
    for image, row in zip(parsed.images, rows, strict=True):
        best = sorted(row.items(), key=lambda item: -item[1])[: parsed.top]
        print(f"{image}  " + "  ".join(f"{name} {probability:.1%}" for name, probability in best))
    return 0
