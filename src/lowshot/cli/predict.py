"""The command ``lowshot predict``."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from ..errors import ImageError, InputError
from .arguments import parse, print_json, warn

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..classifier import FewShotClassifier

_TOP = 3


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Labels and probabilities of images, from a saved adapter."""

    adapter: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="ADAPTER")]
    """Folder written by `lowshot fit`."""
    images: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IMAGE...")] = ()
    """Image files, or folders: of a folder all images in it and in the folders in it, in the order of their names."""
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
    """Print a list of `{image, label, probabilities}`; with `--coverage` each has a `set` too. An image that cannot be
    read has `{image, error}` instead."""


def run(arguments: Sequence[str]) -> int:
    """Predict and print."""
    parsed = parse(Arguments, "predict", arguments)
    if not parsed.images:
        raise InputError("predict needs at least one image: lowshot predict ADAPTER IMAGE...")
    if parsed.top is not None and parsed.top < 1:
        raise InputError(f"top is {parsed.top}; expected 1 or more")
    if parsed.top is not None and parsed.coverage is not None:
        raise InputError("top and coverage both say which classes to print; leave one out")
    images = _files(parsed.images)  # said before the model is loaded; files that are no images are found on the way
    from ..classifier import saved_adapter

    classifier = saved_adapter(parsed.adapter, model=parsed.model, device=parsed.device)
    threshold = None if parsed.coverage is None else classifier.calibration.threshold(parsed.coverage)
    table, errors = _predicted(classifier, images)
    name_of = dict(zip(classifier.classes_.tolist(), classifier.record_.classes, strict=True))
    rows = [dict(zip(name_of.values(), map(float, row), strict=True)) for row in table]
    sets = [()] * len(rows) if threshold is None else classifier.sets_of(table, threshold)
    named = [[name_of[label] for label in members] for members in sets]
    read = [image for image in images if image not in errors]
    answers = list(zip(read, rows, named, strict=True))
    if parsed.json:
        of_images: dict[Path, dict[str, Any]] = {
            image: {"label": max(row, key=row.__getitem__), "probabilities": row}
            | ({"set": members} if members else {})  # no set is empty
            for image, row, members in answers
        }
        of_images |= {image: {"error": {"code": e.code, "message": str(e)}} for image, e in errors.items()}
        print_json([{"image": str(image), **of_images[image]} for image in images])
    else:
        for image, row, members in answers:
            names = members or sorted(row, key=lambda name: -row[name])[: parsed.top or _TOP]
            print(f"{image}  " + "  ".join(f"{name} {row[name]:.1%}" for name in names))
    for error in errors.values():
        sys.stderr.write(f"lowshot: error: {error}\n")
    return ImageError.exit_status if errors else 0


def _files(paths: Sequence[Path]) -> list[Path]:
    """Return these files, and in the place of a folder the image files in it."""
    files: list[Path] = []
    warnings: list[str] = []
    for path in paths:
        if path.is_dir():
            from ..data import images_below

            files += images_below(path, warnings)
        elif path.is_file():
            files.append(path)
        else:
            raise InputError(f"image {path} {'is not a file' if path.exists() else 'does not exist'}")
    warn(warnings)
    return files


def _predicted(
    classifier: FewShotClassifier, images: Sequence[Path]
) -> tuple[NDArray[np.float32], dict[Path, ImageError]]:
    """Return the probabilities of the images that can be read, and what is wrong with the others."""
    from ..data import decode_image

    try:
        return classifier.predict_proba(images), {}
    except ImageError:
        errors = {}
        for image in images:  # all of them once more: an image that cannot be read is rare
            try:
                decode_image(image)
            except ImageError as error:
                errors[image] = error
        if not errors:  # it can be read by now
            raise
        return classifier.predict_proba([image for image in images if image not in errors]), errors
