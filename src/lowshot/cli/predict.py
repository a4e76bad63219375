"""The command ``lowshot predict``."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from ..errors import ImageError, InputError
from .arguments import OpenedAs, parse, print_json, warn

if TYPE_CHECKING:
    from ..folders import CsvLines

_TOP = 3


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Labels and probabilities of images, from a saved adapter.

    They are printed as they come, and no more images than a batch are in memory.
    """

    adapter: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="ADAPTER")]
    """Folder written by `lowshot fit`."""
    images: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IMAGE...")] = ()
    """Image files, or folders: of a folder all images in it and in the folders in it, in the order of their names."""
    top: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Classes to print for each image: 3 if not given, 1 in CSV; JSON has them all."""
    coverage: Annotated[float | None, tyro.conf.arg(metavar="SHARE")] = None
    """Print a set of classes for each image instead, which is to hold the true one for this share of images, such as
    0.9. Needs an adapter that was fitted with `--calibration-folds`."""
    guaranteed: bool = False
    """Make the sets so that the share is guaranteed for the images of every class, as far as they are drawn as its
    shots were. Of heads on frozen features, such as gda and proker."""
    format: Annotated[Literal["text", "csv", "jsonl", "json"], tyro.conf.arg(metavar="FORMAT")] = "text"
    """`text`; `csv`: a line for each image below a line with the names of the columns; `jsonl`: a line of JSON for
    each; `json`: a list of the same, when all are there."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Write to this file, .csv or .jsonl, instead. It appears when it is whole; the same command goes on where one was
    ended."""
    transductive: bool = False
    """Judge the images together: what is said of one depends on those that are like it. It helps where there were no
    shots, or one of each class; all images are read before the first answer."""
    opened: OpenedAs = dataclasses.field(default_factory=OpenedAs)
    json: bool = False
    """The same as `--format json`: a list of `{image, label, probabilities}`; with `--coverage` each has a `set` too;
    of an adapter fitted with `--reject` also `none_of_these` and a `p_value`. Where images have several labels each has
    its `labels` instead of a `label`. An image that cannot be read has `{image, error}` instead."""


def run(arguments: Sequence[str]) -> int:
    """Predict and print."""
    parsed = parse(Arguments, "predict", arguments)
    _refuse(parsed)
    images = _files(parsed.images)  # said before the model is loaded; files that are no images are found on the way
    from ..classifier import saved_adapter
    from ..folders import Answers, refuse_file, write_answers
    from ..progress import shown

    if parsed.out is not None:
        refuse_file(parsed.out)
    answers = Answers(
        saved_adapter(parsed.adapter, **vars(parsed.opened)),
        parsed.coverage,
        guaranteed=parsed.guaranteed,
        transductive=parsed.transductive,
        track=shown,
    )
    if parsed.top is not None and answers.has_several:
        raise InputError(
            f"top is {parsed.top}, but images have several labels here: each gets all that are probable enough; leave "
            "it out (--json has the probabilities of all classes)"
        )
    if parsed.out is None:
        lines = answers.csv_lines(parsed.top or 1)
        return _print(answers.of(images), "json" if parsed.json else parsed.format, parsed.top, lines)
    errors = write_answers(answers, images, parsed.out, top=parsed.top or 1, track=shown)
    for row in errors:
        sys.stderr.write(f"lowshot: error: {row['error']['message']}\n")
    print(f"{len(images) - len(errors):,} images, {len(errors):,} that cannot be read: {parsed.out}")
    return ImageError.exit_status if errors else 0


def _line(row: dict[str, Any], top: int) -> str:
    """The line of an image for people: its classes; before them that it is of none, if so."""
    from ..folders import most_probable

    probabilities = row["probabilities"]
    if "labels" in row:
        shown = row["labels"] or most_probable(probabilities, 1)
        named = "  ".join(f"{name} {probabilities[name]:.1%}" for name in shown)
        return f"{row['image']}  {'' if row['labels'] else 'no label; nearest: '}{named}"
    names = row.get("set") or most_probable(probabilities, top)
    classes = "  ".join(f"{name} {probabilities[name]:.1%}" for name in names)
    return f"{row['image']}  {'none of these; nearest: ' if row.get('none_of_these') else ''}{classes}"


def _refuse(parsed: Arguments) -> None:
    """Refuse arguments that do not go together."""
    if not parsed.images:
        raise InputError("predict needs at least one image: lowshot predict ADAPTER IMAGE...")
    if parsed.top is not None and parsed.top < 1:
        raise InputError(f"top is {parsed.top}; expected 1 or more")
    if parsed.top is not None and parsed.coverage is not None:
        raise InputError("top and coverage both say which classes to print; leave one out")
    if parsed.guaranteed and parsed.coverage is None:
        raise InputError("guaranteed is said of sets of classes; say which share they are to cover: --coverage 0.9")
    if parsed.out is not None and (parsed.json or parsed.format != "text"):
        raise InputError(f"out is {parsed.out}, whose suffix says the format; leave --format and --json out")
    if parsed.json and parsed.format not in ("text", "json"):
        raise InputError(f"format is {parsed.format}, and --json is given too; leave one out")


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


def _print(rows: Iterable[dict[str, Any]], kind: str, top: int | None, csv: CsvLines) -> int:
    """Print rows as they come, but for a list of JSON; return the exit status."""
    from ..folders import json_line

    together, errors = list[dict[str, Any]](), 0
    if kind == "csv":
        sys.stdout.write(csv.header())
    for row in rows:
        if "error" in row:
            errors += 1
            sys.stderr.write(f"lowshot: error: {row['error']['message']}\n")
        if kind == "json":
            together.append(row)
        elif kind == "jsonl":
            sys.stdout.write(json_line(row))
        elif kind == "csv":
            sys.stdout.write(csv(row))
        elif "error" not in row:
            print(_line(row, top or _TOP))
    if kind == "json":
        print_json(together)
    return ImageError.exit_status if errors else 0
