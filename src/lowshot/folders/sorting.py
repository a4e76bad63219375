"""A folder's images put into folders of the classes that they are of."""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..classifier import FewShotClassifier
from ..errors import InputError, UnknownNameError
from ..files import claimed, refuse_existing
from ..progress import Track, silent
from .answers import Answers, batches, most_probable
from .journal import Journal
from .page import write_page
from .placing import PUT, Placing

JOURNAL_FILE = "answers.jsonl"
PAGE_FILE = "index.html"
UNSURE = "unsure"
"""The folder of images whose most probable class is not probable enough."""
NONE_OF_THESE = "none-of-these"
"""The folder of images that are of none of the classes, as far as the classifier tells."""
NO_LABEL = "no-label"
"""The folder of images that have none of the labels, where an image may have several."""
_BEST = 3
_NOT_IN_NAMES = re.compile(r'[<>:"/\\|?*\x00-\x1f]')  # on some system or other
_NAMES_OF_WINDOWS = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
_LONGEST_NAME = 200  # bytes of UTF-8; file systems have room for 255


@dataclasses.dataclass(frozen=True)
class Sorted:
    """The outcome of sorting a folder."""

    images: dict[str, int]
    """How many images are in each folder, by its name; ``unsure``, ``none-of-these`` and ``no-label`` first."""
    errors: tuple[str, ...]
    """What is wrong with each image that was left where it is."""
    page: Path
    """Where they can be looked over."""
    total: int
    """How many images have a place; one that has several labels is in several folders."""


def sort_folder(
    classifier: FewShotClassifier,
    folder: Path,
    out: Path,
    *,
    put: str = "copy",
    sure: float | None = None,
    transductive: bool = False,
    track: Track = silent,
    warn: list[str] | None = None,
) -> Sorted:
    """Put each image below a folder into ``out/CLASS/``, under the path that it has there.

    An image that is of none of the classes, as far as a classifier that was fitted with ``reject`` tells, goes to
    ``out/none-of-these/``. Its place is written to ``out/answers.jsonl`` before it is put there. So the same call goes
    on where one was ended, by whatever: no image is asked about twice, and none is lost, also where they are moved.
    Images that came to the folder later are sorted by the same call too. Those that a person has put elsewhere since
    stay there.

    Where images have several labels, each goes to the folder of each of its labels, and to ``out/no-label/`` where it
    has none. One that is moved is one file with several names (hard links), or a copy in each folder on another disk.

    Args:
        classifier: A fitted classifier.
        folder: The images, at any depth. One that cannot be read is left where it is.
        out: Where to; it is made, and gets the page ``index.html`` too.
        put: ``copy``, ``link`` (hard links: no space, the same disk) or ``move``.
        sure: Images whose most probable class has a lower probability go to ``out/unsure/``, in [0, 1]; 0.5 if not
            given. Where images have several labels, labels with a lower probability are passed over, and images of
            such labels alone go there; if not given the thresholds of the labels decide alone.
        transductive: Judge the images together, with those that were put in place before; none is put anywhere before
            all are judged.
        track: Shows progress.
        warn: Receives a line for each thing that a person should know.

    Raises:
        DataError: The folder cannot be listed, or holds no images.
        InputError: A value is out of range, or one of the two folders is inside the other.
        OutputError: ``out`` holds something else, was begun otherwise, or cannot be written.
    """
    if put not in PUT:
        raise UnknownNameError("way to put images", put, PUT)
    if sure is None:
        sure = 0.5 if classifier.presence is None else 0.0
    if not 0 <= sure <= 1:
        raise InputError(f"sure is {sure}; expected a probability from 0 to 1")
    folder, out = folder.resolve(), out.resolve()
    if folder.is_relative_to(out) or out.is_relative_to(folder):
        raise InputError(f"output {out} and {folder} are one in the other; expected an output outside of the images")
    if not (out / JOURNAL_FILE).is_file():
        refuse_existing(out)
    answers, warn = Answers(classifier, transductive=transductive, track=track), [] if warn is None else warn
    folders = folder_names(answers.classes, has_several=answers.has_several)
    about = {**answers.about(), "folder": str(folder), "put": put, "sure": sure}
    with claimed(out), Journal(out / JOURNAL_FILE, about) as journal:
        placing = Placing(folder, out, put, journal, warn)
        places = placing.resume()
        names = placing.remaining(places)
        errors: list[str] = []
        before: list[Path] = []
        for name, of_image in places.items() if transductive else ():
            files = (*(out / to for to in of_image), folder / name)
            before += [path for path in files if path.is_file()][:1]
        images = [*before, *(folder / name for name in names)]
        rows = track(answers.of(images, len(before)), what="sorting", total=len(names))
        for batch in batches(zip(names, rows, strict=True)):
            errors += [row["error"]["message"] for _, row in batch if "error" in row]
            placing.place([_placed(name, row, folders, sure) for name, row in batch if "error" not in row])
        total, counts = write_page(out, PAGE_FILE, placing.rows(), (UNSURE, NONE_OF_THESE, NO_LABEL))
        return Sorted(counts, tuple(errors), out / PAGE_FILE, total)


def folder_names(classes: Sequence[str], *, has_several: bool = False) -> dict[str, str]:
    """Return the name of each class's folder: its own, in the characters that every system has in names.

    No two are the same, also where upper and lower case are, and none is that of something else in the output.

    Args:
        classes: Names of the classes.
        has_several: Whether images have several labels, so that there is a folder of images without one.
    """
    names: dict[str, str] = {}
    used = {UNSURE, NONE_OF_THESE, JOURNAL_FILE, PAGE_FILE, *([NO_LABEL] if has_several else [])}
    for each in classes:
        plain = _NOT_IN_NAMES.sub("_", unicodedata.normalize("NFC", each)).strip(". ") or "_"
        plain = plain.encode("utf-8", "replace")[:_LONGEST_NAME].decode("utf-8", "ignore").rstrip(". ")
        if _NAMES_OF_WINDOWS.fullmatch(plain):
            plain = f"_{plain}"
        name, count = plain, 1
        while name.casefold() in used:
            count += 1
            name = f"{plain}_{count}"
        used.add(name.casefold())
        names[each] = name
    return names


def _placed(name: str, row: dict[str, Any], folders: dict[str, str], sure: float) -> dict[str, Any]:
    """The journal's row of an image: its place, and the most probable classes with their probabilities.

    Where images have several labels these are places, and the classes begin with those of the places.
    """
    probabilities = row["probabilities"]
    best = most_probable(probabilities, _BEST)
    if "labels" in row:
        labels = [label for label in row["labels"] if probabilities[label] >= sure]
        places = [folders[label] for label in labels] or [UNSURE if row["labels"] else NO_LABEL]
        named = [*labels, *(each for each in best if each not in labels)][: max(_BEST, len(labels))]
        to = [f"{place}/{name}" for place in places]
        return {"image": name, "to": to, "best": {each: round(probabilities[each], 6) for each in named}}
    place = folders[best[0]] if probabilities[best[0]] >= sure else UNSURE
    if row.get("none_of_these"):
        place = NONE_OF_THESE
    return {"image": name, "to": f"{place}/{name}", "best": {each: round(probabilities[each], 6) for each in best}}
