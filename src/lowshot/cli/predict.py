"""The command ``lowshot predict``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from ..errors import InputError
from .arguments import parse, print_json

_TOP = 3


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Labels and probabilities of images, from a saved adapter."""

    adapter: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="ADAPTER")]
    """Folder written by `lowshot fit`."""
    images: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IMAGE...")] = ()
    """Image files."""
    top: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Classes to print for each image, 3 if not given; `--json` has them all."""
    coverage: Annotated[float | None, tyro.conf.arg(metavar="SHARE")] = None
    """Print a set of classes for each image instead, which is to hold the true one for this share of images, such as
    0.9. Needs an adapter that was fitted with `--calibration-folds`."""
    model: Annotated[str | None, tyro.conf.arg(metavar="MODEL")] = None
    """Where the adapter's backbone is now, if not where it was: a folder or a Hub id."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda` or `cuda:N`."""
    json: bool = False
    """Print a list of `{image, label, probabilities}`; with `--coverage` each has a `set` too."""


def run(arguments: Sequence[str]) -> int:
    """Predict and print."""
    parsed = parse(Arguments, "predict", arguments)
    if not parsed.images:
        raise InputError("predict needs at least one image: lowshot predict ADAPTER IMAGE...")
    if parsed.top is not None and parsed.top < 1:
        raise InputError(f"top is {parsed.top}; expected 1 or more")
    if parsed.top is not None and parsed.coverage is not None:
        raise InputError("top and coverage both say which classes to print; leave one out")
    for image in parsed.images:  # said before the model is loaded; files that are no images are found on the way
        if not image.is_file():
            raise InputError(f"image {image} {'is not a file' if image.exists() else 'does not exist'}")
    from ..classifier import saved_adapter

    classifier = saved_adapter(parsed.adapter, model=parsed.model, device=parsed.device)
    threshold = None if parsed.coverage is None else classifier.calibration.threshold(parsed.coverage)
    table = classifier.predict_proba(parsed.images)
    rows = [dict(zip(classifier.classes_.tolist(), map(float, row), strict=True)) for row in table]
    sets = [()] * len(rows) if threshold is None else classifier.sets_of(table, threshold)
    answers = list(zip(parsed.images, rows, sets, strict=True))
    if parsed.json:
        print_json(
            [
                {"image": str(image), "label": max(row, key=row.__getitem__), "probabilities": row}
                | ({"set": list(members)} if members else {})  # no set is empty
                for image, row, members in answers
            ]
        )
        return 0
    for image, row, members in answers:
        names = members or sorted(row, key=lambda name: -row[name])[: parsed.top or _TOP]
        print(f"{image}  " + "  ".join(f"{name} {row[name]:.1%}" for name in names))
    return 0
