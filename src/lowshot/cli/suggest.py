"""The command ``lowshot suggest``."""

from __future__ import annotations

import csv
import dataclasses
import sys
from collections.abc import Sequence
from typing import Annotated

import tyro

from .arguments import print_json, warn
from .for_labels import ForLabels, parse_for_labels, with_usual_model


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments(ForLabels):
    """Images whose labels will teach most, of those that nobody has labelled: label them, and ask again.

    While there are fewer labels than classes they are typical images; then those that stand for many of which a
    classifier is unsure, `gda` on central crops. Nothing is changed.
    """

    data: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="[DATA]")]
    """The labelled images so far: a folder of a folder for each class, or what `fit` takes. Left out where there are
    none."""
    unlabelled: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="UNLABELLED")] = ""
    """The folder of images to choose from, also in folders in it, to any depth."""
    count: int = 20
    """Images to choose."""
    classes: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME...")] = ()
    """Names of classes that have no labelled image yet."""
    csv: bool = False
    """Print CSV: image, why, looks_like, probability."""
    json: bool = False
    """Print a JSON list of objects with the same, and the `index` of the image."""


def run(arguments: Sequence[str]) -> int:
    """Choose images and print them."""
    parsed = parse_for_labels(Arguments, "suggest", arguments)
    data, folder = (parsed.data, parsed.unlabelled) if parsed.unlabelled else (None, parsed.data)
    from ..labelling import suggested_images, suits_photos
    from ..models import PHOTOS
    from ..progress import shown

    if not parsed.classes:
        own = parsed.settings.model.model
        parsed = with_usual_model(parsed, "suggest", arguments, lambda: PHOTOS if suits_photos(folder) else own)
    warnings: list[str] = []
    try:
        chosen = suggested_images(
            folder,
            parsed.settings,
            data,
            classes=parsed.classes,
            count=parsed.count,
            track=shown,
            warn=warnings,
        )
    finally:
        warn(warnings)
    if parsed.json:
        print_json([dataclasses.asdict(each) for each in chosen])
    elif parsed.csv:
        table = csv.writer(sys.stdout, lineterminator="\n")
        table.writerow(["image", "why", "looks_like", "probability"])
        for each in chosen:
            probability = "" if each.probability is None else f"{each.probability:.3f}"
            table.writerow([each.image, each.why, each.looks_like or "", probability])
    else:
        for each in chosen:
            guess = "" if each.probability is None else f"  looks like {each.looks_like} ({each.probability:.0%})"
            print(f"{each.why:<7}  {each.image}{guess}")
    return 0
