"""The command ``lowshot doubt``."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from ..errors import InputError
from .for_labels import ForLabels, is_table, parse_for_labels, print_answers, show_cards, with_usual_model
from .printing import warn, warned

if TYPE_CHECKING:
    from ..data import Task
    from ..labelling import Copy


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments(ForLabels):
    """Training images whose label is more likely wrong than right, with the class that they look like.

    Each image is held out in turn and judged by a classifier that has not seen its label, `gda` on central crops if no
    method is named. Nothing is changed, unless a page is asked for.
    """

    data: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
    """A built-in task, a data set of the catalogue, a folder, a table, tar shards, or `hf:ID`."""
    folds: int = 8
    """Parts that the images are held out in."""
    copies: bool = False
    """Look for images that are in two classes or two splits instead, and for near copies: smaller, cut a little,
    lighter or saved anew."""
    csv: bool = False
    """Print the doubted labels as CSV: image, label, looks_like, probability; or the copies."""
    json: bool = False
    """Print one JSON object with `images`, `rate`, `agreement` and `doubts`; or a list of the copies."""
    page: Annotated[Path | None, tyro.conf.arg(metavar="FILE|DIR")] = None
    """Ask about them on a page in the browser instead, one key each. All labels go to this table (.csv or .jsonl, which
    `fit` reads), as they are decided; or, with the folder of DATA itself, images go into the folder of the class that
    they are of, and what is left out into a hidden one, `.left-out`. The same command goes on."""


def run(arguments: Sequence[str]) -> int:
    """Look for wrong labels and print them."""
    parsed = parse_for_labels(Arguments, "doubt", arguments)
    from ..classifier import FewShotClassifier
    from ..labelling import copied_images, doubted_labels
    from ..progress import shown

    parsed.settings.data.refuse_several("doubt")
    classifier = FewShotClassifier.from_recipe(parsed.settings)
    warnings = classifier.warnings_
    with warned(warnings):
        task = classifier.task(parsed.data)
        parsed = with_usual_model(parsed, "doubt", arguments, lambda: classifier.default_model(task))
        if parsed.page is not None:
            warn(warnings)
            warnings.clear()
            return _ask_on_page(parsed, parsed.page, task, lambda: classifier.task(parsed.data))
        if parsed.copies:
            _print_copies(copied_images(task, parsed.settings, track=shown), parsed)
            return 0
        judged = doubted_labels(task, parsed.settings, folds=parsed.folds, track=shown, warn=warnings)
    doubts = judged.doubts
    rows = ([each.image, each.label, each.looks_like, f"{each.probability:.3f}"] for each in doubts)
    lines = [
        f"{each.probability:4.0%}  {each.image}  is said to be {each.label}, looks like {each.looks_like}"
        for each in doubts
    ]
    summary = (
        f"{len(doubts):,} of {judged.images:,} labels are doubted, {judged.rate:.1%} estimated to be wrong; held out, "
        f"{judged.agreement:.1%} of the images are recognised as what they are said to be"
    )
    header = ["image", "label", "looks_like", "probability"]
    print_answers(parsed, dataclasses.asdict(judged), header, rows, [*lines, summary])
    return 0


def _ask_on_page(parsed: Arguments, page: Path, task: Task, read: Callable[[], Task]) -> int:
    """Ask about the labels, or the copies, on a page."""
    from ..cards import ClassFolders, CopiedCards, DoubtedCards, Look, Place, Table, rows_of
    from ..progress import shown

    kind, rows = "copies" if parsed.copies else "doubt", rows_of(task)
    place: Place
    if is_table(page):
        place = Table(page, rows)
    elif page.resolve() == Path(parsed.data).resolve():
        place = ClassFolders(page, kind, "move")
    else:
        raise InputError(f"page is {page}; expected a file that ends in .csv or .jsonl, or DATA itself, a folder")
    look: Look = DoubtedCards(read, parsed.settings, parsed.folds, shown, warn)
    if parsed.copies:
        look = CopiedCards(read, parsed.settings, shown)
    about = {"data": str(Path(parsed.data).absolute())}
    return show_cards(parsed, kind, place, look, about, task.class_names)


def _print_copies(copies: Sequence[Copy], parsed: Arguments) -> None:
    header = ["first", "second", "first_class", "second_class", "first_split", "second_split", "exact"]
    rows = ([each.first, each.second, *each.classes, *each.splits, each.is_exact] for each in copies)
    lines = []
    for each in copies:
        likeness = "the same" if each.is_exact else f"{each.correlation:.0%} alike"
        (one, other), (here, there) = each.classes, each.splits
        lines.append(f"{likeness}  {each.first} ({here}, {one})  {each.second} ({there}, {other})")
    exact = sum(each.is_exact for each in copies)
    lines.append(f"{exact:,} images are in two classes or splits, and {len(copies) - exact:,} nearly so")
    print_answers(parsed, [dataclasses.asdict(each) for each in copies], header, rows, lines)
