"""The command ``lowshot doubt``."""

from __future__ import annotations

import csv
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from ..errors import InputError
from ..settings import Recipe
from .arguments import PresetName, names_model, parse_with_recipe, print_json, warn

if TYPE_CHECKING:
    from ..labelling import Copy


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Training images whose label is more likely wrong than right, with the class that they look like.

    Each image is held out in turn and judged by a classifier that has not seen its label, `gda` on central crops if no
    method is named. Nothing is changed.
    """

    data: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
    """A built-in task, a data set of the catalogue, a folder, a table, tar shards, or `hf:ID`."""
    folds: int = 8
    """Parts that the images are held out in."""
    copies: bool = False
    """Look for images that are in two classes or two splits instead, and for near copies: smaller, cut a little,
    lighter or saved anew."""
    preset: PresetName = None
    recipe: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """TOML file with settings; they win over the preset, flags win over them."""
    csv: bool = False
    """Print the doubted labels as CSV: image, label, looks_like, probability; or the copies."""
    json: bool = False
    """Print one JSON object with `images`, `rate`, `agreement` and `doubts`; or a list of the copies."""
    settings: Annotated[Recipe, tyro.conf.arg(name="")] = dataclasses.field(default_factory=Recipe)


def _parsed(arguments: Sequence[str]) -> Arguments:
    # Random views help a head a little, and would be encoded anew for each fold.
    return parse_with_recipe(Arguments, "doubt", arguments, defaults={"method": "gda", "views": None})


def run(arguments: Sequence[str]) -> int:
    """Look for wrong labels and print them."""
    parsed = _parsed(arguments)
    if parsed.csv and parsed.json:
        raise InputError("--csv and --json are both given; expected one of them")
    from ..classifier import FewShotClassifier
    from ..labelling import copied_images, doubted_labels
    from ..progress import shown

    classifier = FewShotClassifier.from_recipe(parsed.settings)
    warnings = classifier.warnings_
    try:
        task = classifier.task(parsed.data)
        if not names_model(arguments) and (model := classifier.default_model(task)) != parsed.settings.model.model:
            sys.stderr.write(f"lowshot: photographs, and no --model: took {model}, as fit does\n")
            parsed = _parsed([*arguments, "--model", model])
        if parsed.copies:
            return _print_copies(copied_images(task, parsed.settings, track=shown), parsed)
        found = doubted_labels(task, parsed.settings, folds=parsed.folds, track=shown, warn=warnings)
    finally:
        warn(warnings)
    if parsed.json:
        print_json(dataclasses.asdict(found))
    elif parsed.csv:
        table = csv.writer(sys.stdout, lineterminator="\n")
        table.writerow(["image", "label", "looks_like", "probability"])
        table.writerows([each.image, each.label, each.looks_like, f"{each.probability:.3f}"] for each in found.doubts)
    else:
        for each in found.doubts:
            print(f"{each.probability:4.0%}  {each.image}  is said to be {each.label}, looks like {each.looks_like}")
        print(
            f"{len(found.doubts):,} of {found.images:,} labels are doubted, {found.rate:.1%} estimated to be wrong; "
            f"held out, {found.agreement:.1%} of the images are recognised as what they are said to be"
        )
    return 0


def _print_copies(copies: Sequence[Copy], parsed: Arguments) -> int:
    if parsed.json:
        print_json([dataclasses.asdict(each) for each in copies])
    elif parsed.csv:
        table = csv.writer(sys.stdout, lineterminator="\n")
        table.writerow(["first", "second", "first_class", "second_class", "first_split", "second_split", "exact"])
        table.writerows([each.first, each.second, *each.classes, *each.splits, each.is_exact] for each in copies)
    else:
        for each in copies:
            how = "the same" if each.is_exact else f"{each.correlation:.0%} alike"
            (one, other), (here, there) = each.classes, each.splits
            print(f"{how}  {each.first} ({here}, {one})  {each.second} ({there}, {other})")
        exact = sum(each.is_exact for each in copies)
        print(f"{exact:,} images are in two classes or splits, and {len(copies) - exact:,} nearly so")
    return 0
