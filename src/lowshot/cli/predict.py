"""The command ``lowshot predict``."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from ..errors import ImageError, InputError
from .arguments import AdapterFolder, OpenedAs, images_in, refuse_below, refuse_no_image, refuse_two_formats
from .parsing import parse
from .printing import note, print_json

if TYPE_CHECKING:
    from ..folders import Answers

_TOP = 3


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Labels and probabilities of images, from a saved adapter.

    They are printed as they come, and no more images than a batch are in memory.
    """

    adapter: AdapterFolder
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

    def check(self) -> None:
        """See ``Checked``."""
        if not self.images:
            raise InputError("predict needs at least one image: lowshot predict ADAPTER IMAGE...")
        refuse_below(1, top=self.top)
        if self.top is not None and self.coverage is not None:
            raise InputError("top and coverage both say which classes to print; leave one out")
        if self.guaranteed and self.coverage is None:
            raise InputError("guaranteed is said of sets of classes; say which share they are to cover: --coverage 0.9")
        if self.out is not None and (self.json or self.format != "text"):
            raise InputError(f"out is {self.out}, whose suffix says the format; leave --format and --json out")
        refuse_two_formats(self.format, json=self.json)


def run(arguments: Sequence[str]) -> int:
    """Predict and print."""
    parsed = parse(Arguments, "predict", arguments)
    images = list[Path]()  # whether each file is an image is seen on the way
    for path in parsed.images:
        if path.is_dir():
            images += images_in(path)
        else:
            refuse_no_image(path)
            images.append(path)
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
        return _print(answers, images, "json" if parsed.json else parsed.format, parsed.top)
    errors = write_answers(answers, images, parsed.out, top=parsed.top or 1, track=shown)
    for row in errors:
        note(f"error: {row['error']['message']}")
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


def _print(answers: Answers, images: Sequence[Path], kind: str, top: int | None) -> int:
    """Print answers as they come, but for a list of JSON; return the exit status."""
    from ..folders import json_line

    rows, errors = list[dict[str, Any]](), 0
    csv = answers.csv_lines(top or 1)
    if kind == "csv":
        sys.stdout.write(csv.header())
    for row in answers.of(images):
        if "error" in row:
            errors += 1
            note(f"error: {row['error']['message']}")
        if kind == "json":
            rows.append(row)
        elif kind == "jsonl":
            sys.stdout.write(json_line(row))
        elif kind == "csv":
            sys.stdout.write(csv(row))
        elif "error" not in row:
            print(_line(row, top or _TOP))
    if kind == "json":
        print_json(rows)
    return ImageError.exit_status if errors else 0
