"""The command ``lowshot suggest``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from ..errors import DataError, InputError
from .arguments import refuse_below, the_given
from .for_labels import ForLabels, is_table, parse_for_labels, print_answers, show_cards, with_usual_model
from .printing import warn, warned

if TYPE_CHECKING:
    from ..labelling import Suggestion


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments(ForLabels):
    """Images whose labels will teach most, of those that nobody has labelled: label them, and ask again.

    While there are fewer labels than classes they are typical images; then those that stand for many of which a
    classifier is unsure, `gda` on central crops. Nothing is changed, unless a page is asked for.
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
    """Print CSV: image, why, looks_like, probability; image, why, labels, probabilities where images have several
    labels."""
    json: bool = False
    """Print a JSON list of objects with `image`, `why`, `looks_like`, `probability` and the `index` of the image; where
    images have several labels also `labels` and the `probabilities` of all classes."""
    page: Annotated[Path | None, tyro.conf.arg(metavar="FILE|DIR")] = None
    """Ask about them on a page in the browser instead, one key each. Labels go to this table (.csv or .jsonl, which
    `fit` reads, the labels of DATA in it too), or into folders of classes in this folder. The same command goes on."""
    copy: bool = False
    """Copy images into the folders of `--page DIR`; what is done if nothing is said."""
    link: bool = False
    """Give them a second name there (hard links), which takes no space; on the same disk alone."""
    move: bool = False
    """Move them there."""


def run(arguments: Sequence[str]) -> int:
    """Choose images and print them, or ask about them on a page."""
    parsed = parse_for_labels(Arguments, "suggest", arguments)
    put = the_given(parsed, "copy", "link", "move")
    if put and (parsed.page is None or is_table(parsed.page)):
        raise InputError(f"{put} is a way to put images into folders; expected --page with a folder")
    data, folder = (parsed.data, parsed.unlabelled) if parsed.unlabelled else (None, parsed.data)
    from ..labelling import suggested_images, suits_photos
    from ..models import PHOTOS
    from ..progress import shown

    if not parsed.classes:
        own = parsed.settings.model.model
        parsed = with_usual_model(parsed, "suggest", arguments, lambda: PHOTOS if suits_photos(folder) else own)
    if parsed.page is not None:
        return _ask_on_page(parsed, parsed.page, data, Path(folder), put or "copy")
    with warned([]) as warnings:
        suggestions = suggested_images(
            folder,
            parsed.settings,
            data,
            classes=parsed.classes,
            count=parsed.count,
            track=shown,
            warn=warnings,
        )
    answers = [dataclasses.asdict(each) for each in suggestions]
    header = ["image", "why", "labels", "probabilities"]
    if not parsed.settings.data.has_several:
        header = ["image", "why", "looks_like", "probability"]
        for answer in answers:
            del answer["labels"], answer["probabilities"]
    rows = ([each.image, each.why, *_cells(each)] for each in suggestions)
    print_answers(parsed, answers, header, rows, [f"{each.why:<7}  {each.image}{_guess(each)}" for each in suggestions])
    return 0


def _cells(each: Suggestion) -> list[str]:
    """The class that an image looks like, or all its labels, and how probable they are; as ``predict`` writes them."""
    if each.labels is None:
        return [each.looks_like or "", "" if each.probability is None else f"{each.probability:.3f}"]
    probabilities = each.probabilities or {}
    return ["|".join(each.labels), "|".join(f"{probabilities[label]:.3f}" for label in each.labels)]


def _guess(each: Suggestion) -> str:
    """The class that an image looks like, in words; nothing where nothing is known."""
    if each.probability is None:
        return ""
    if each.labels:
        probabilities = each.probabilities or {}
        return "  looks like " + ", ".join(f"{label} ({probabilities[label]:.0%})" for label in each.labels)
    nearest = f"{each.looks_like} ({each.probability:.0%})"
    return f"  looks like {nearest}" if each.labels is None else f"  looks like none; nearest: {nearest}"


def _ask_on_page(parsed: Arguments, page: Path, data: str | None, folder: Path, put: str) -> int:
    """Ask about the images on a page."""
    from ..cards import ClassFolders, Place, Row, SuggestedCards, Table, rows_of_images
    from ..data import addition_from
    from ..progress import shown

    refuse_below(1, count=parsed.count)
    if not folder.is_dir():
        raise DataError(f"{folder} {'is no folder' if folder.exists() else 'does not exist'}; expected one of images")
    config = parsed.settings.data
    with warned([]) as warnings:
        known = None if data is None else addition_from(data, None, config.on_bad_image, warnings, config.root)
    place: Place
    if is_table(page):
        rows: list[Row] = [] if known is None else rows_of_images(known.examples, known.class_names, "train")
        place = Table(page, rows)
        place.name_of(str((folder / "image").absolute()))  # refuses a table that can have none of them
    else:
        one, other = folder.resolve(), page.resolve()
        if one.is_relative_to(other) or other.is_relative_to(one):
            raise InputError(
                f"{page} and {folder} are one in the other; expected folders of classes outside of {folder}"
            )
        place = ClassFolders(page, "suggest", put)
    look = SuggestedCards(folder, parsed.settings, known, parsed.count, shown, warn)
    about = {"unlabelled": str(folder.absolute()), "data": data and str(Path(data).absolute()), "put": put}
    classes = [*(known.class_names if known else ()), *map(place.class_called, parsed.classes)]
    return show_cards(parsed, "suggest", place, look, about, classes)
