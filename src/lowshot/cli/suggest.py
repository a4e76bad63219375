"""The command ``lowshot suggest``."""

from __future__ import annotations

import csv
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from ..errors import InputError
from ..settings import Recipe
from .arguments import PresetName, names_model, parse_with_recipe, print_json, warn


@dataclasses.dataclass(frozen=True)
class Arguments:
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
    preset: PresetName = None
    recipe: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """TOML file with settings; they win over the preset, flags win over them."""
    csv: bool = False
    """Print CSV: image, why, looks_like, probability."""
    json: bool = False
    """Print a JSON list of objects with the same, and the `index` of the image."""
    settings: Annotated[Recipe, tyro.conf.arg(name="")] = dataclasses.field(default_factory=Recipe)


def _parsed(arguments: Sequence[str]) -> Arguments:
    return parse_with_recipe(Arguments, "suggest", arguments, defaults={"method": "gda", "views": None})


def run(arguments: Sequence[str]) -> int:
    """Choose images and print them."""
    parsed = _parsed(arguments)
    if parsed.csv and parsed.json:
        raise InputError("--csv and --json are both given; expected one of them")
    data, folder = (parsed.data, parsed.unlabelled) if parsed.unlabelled else (None, parsed.data)
    from ..labelling import suggested_images, suits_photos
    from ..progress import shown

    if not names_model(arguments) and not parsed.classes and suits_photos(folder):
        sys.stderr.write("lowshot: photographs, and no --model: took photos, as fit does\n")
        parsed = _parsed([*arguments, "--model", "photos"])
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
