"""Answers of a classifier about any number of images, as rows of JSON or CSV; nothing of an image is kept."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..classifier import FewShotClassifier
from ..errors import ImageError, InputError
from ..evaluation import Judgement, transduced
from ..files import canonical_json, claimed, file_written_aside, refuse_existing
from ..progress import Track, silent
from ..several_labels import members_named
from .journal import Journal, json_line

_Row = TypeVar("_Row")
_BATCH = 256


class Answers:
    """The answers of a classifier about images, one row for each.

    A row has the ``image``, the ``label``, and the ``probabilities`` by class name; with a coverage also the ``set`` of
    classes. Where the classifier tells images of none of its classes, the row says whether this is one,
    ``none_of_these``, and the ``p_value`` of belonging; the label is that of the nearest class then. That of an image
    that cannot be read has ``image`` and ``error`` alone, with a ``code`` and a ``message``.

    Where images have several labels there is no ``label``, but all ``labels`` that the image has, the most probable
    first, or none; the ``probabilities`` are of each class by itself.

    Args:
        classifier: A fitted classifier.
        coverage: Share of images whose set is to hold their true class; no sets if not given.
        guaranteed: Make the sets by full conformal prediction; see ``FewShotClassifier.predict_sets``.
        transductive: Judge the images together (``evaluation.transduced``): what is said of an image depends on the
            others, and their embeddings and probabilities are in memory until the last is read.
        track: Shows progress where images are judged together.

    Raises:
        NotFittedError: ``fit`` has not been called.
        InputError: Sets are asked for that this classifier cannot make, or of images that are judged together.
    """

    def __init__(
        self,
        classifier: FewShotClassifier,
        coverage: float | None = None,
        *,
        guaranteed: bool = False,
        transductive: bool = False,
        track: Track = silent,
    ) -> None:
        if transductive and coverage is not None:
            raise InputError(
                "transductive judges images together, and sets of a coverage are of images that are judged alone; "
                "leave one out"
            )
        if transductive and classifier.presence is not None:
            raise InputError(
                "transductive judges images of one label each together, and images have several labels here"
            )
        self.transductive = transductive
        self._track = track
        self._classifier = classifier
        self._coverage, self._guaranteed = coverage, guaranteed
        self._sets = None if coverage is None else classifier.sets(coverage, guaranteed=guaranteed)
        self._presence = classifier.presence
        self._held_out = classifier.belonging.held_out if classifier.tells_none else None
        self.classes: tuple[str, ...] = tuple(classifier.record_.classes)

    def of(self, images: Sequence[Path], begin: int = 0) -> Iterator[dict[str, Any]]:
        """The row of each image from a place on, in order, as soon as it is known.

        Args:
            images: The images.
            begin: Those before it are judged only where all are judged together.
        """
        judgements: Iterator[Judgement | ImageError]
        if self.transductive:
            judgements = itertools.islice(self._together(images), begin, None)
        else:
            judgements = self._classifier.stream_judgements(images[begin:], self._sets)
        for image, judgement in zip(images[begin:], judgements, strict=True):
            if isinstance(judgement, ImageError):
                yield {"image": str(image), "error": {"code": judgement.code, "message": str(judgement)}}
                continue
            row = dict(zip(self.classes, map(float, judgement.probabilities), strict=True))
            if self._presence is not None:
                present = self._presence.present(judgement.probabilities)
                labels = list(members_named(self.classes, judgement.probabilities, present))
                yield {"image": str(image), "labels": labels, "probabilities": row}
                continue
            answer: dict[str, Any] = {"image": str(image), "label": max(row, key=row.__getitem__)}
            if self._held_out is not None and judgement.p_value is not None:
                is_none = self._held_out.none_of_these(judgement.p_value)
                answer |= {"none_of_these": is_none, "p_value": judgement.p_value}
            answer["probabilities"] = row
            if judgement.members is not None:
                answer["set"] = list(members_named(self.classes, judgement.probabilities, judgement.members))
            yield answer

    def _together(self, images: Sequence[Path]) -> Iterator[Judgement | ImageError]:
        """The judgements of images that are judged together; what is wrong with one that cannot be read."""
        p_values: list[float | ImageError | None] = []
        probabilities = np.empty((len(images), len(self.classes)), dtype=np.float32)
        embeddings, count = np.empty((0, 0), dtype=np.float32), 0
        judgements = self._classifier.stream_judgements(images)
        for judgement in self._track(judgements, what="reading", total=len(images)):
            if isinstance(judgement, ImageError):
                p_values.append(judgement)
                continue
            if not count:
                embeddings = np.empty((len(images), len(judgement.embedding)), dtype=np.float32)
            probabilities[count], embeddings[count] = judgement.probabilities, judgement.embedding
            p_values.append(judgement.p_value)
            count += 1
        rows = zip(transduced(probabilities[:count], embeddings[:count], track=self._track), embeddings, strict=False)
        for each in p_values:
            if isinstance(each, ImageError):
                yield each
            else:
                row, embedding = next(rows)
                yield Judgement(row, each, embedding)

    @property
    def has_several(self) -> bool:
        """Whether images have several labels, so that rows have ``labels`` and no ``label``."""
        return self._presence is not None

    def csv_lines(self, top: int) -> CsvLines:
        """The form of the rows as lines of CSV.

        Args:
            top: Classes of each image.
        """
        sets = self._coverage is not None
        return CsvLines(top, sets=sets, tells_none=self._held_out is not None, several=self.has_several)

    def about(self) -> dict[str, Any]:
        """The things that the rows depend on, but for the images."""
        record = dataclasses.replace(self._classifier.record_, metrics={}, evaluation_seconds=0.0)
        adapter = hashlib.sha256(canonical_json(record.to_dict()).encode()).hexdigest()[:16]
        about = {"lowshot": "answers", "adapter": adapter, "coverage": self._coverage}
        about |= {"guaranteed": True} if self._guaranteed else {}
        return about | ({"transductive": True} if self.transductive else {})


def most_probable(probabilities: Mapping[str, float], count: int) -> list[str]:
    """So many of the classes of a row, the most probable one first."""
    return sorted(probabilities, key=lambda name: -probabilities[name])[:count]


@dataclasses.dataclass(frozen=True)
class CsvLines:
    """Rows as lines of CSV: image, the most probable classes with their probabilities, none_of_these, set, error.

    Where images have several labels: image, labels, their probabilities, error, with ``|`` between labels.

    Args:
        top: Classes of each image.
        sets: Whether the rows have sets of classes, which are written with ``|`` between their names.
        tells_none: Whether the rows say which images are of none of the classes: ``true`` or ``false``.
        several: Whether images have several labels.
    """

    top: int = 1
    sets: bool = False
    tells_none: bool = False
    several: bool = False

    def header(self) -> str:
        """The line with the names of the columns."""
        if self.several:
            return _csv_line(["image", "labels", "probabilities", "error"])
        further = [f"{column}_{place}" for place in range(2, self.top + 1) for column in ("label", "probability")]
        asked = [*(["none_of_these"] if self.tells_none else []), *(["set"] if self.sets else [])]
        return _csv_line(["image", "label", "probability", *further, *asked, "error"])

    def __call__(self, row: dict[str, Any]) -> str:
        """The line of a row."""
        error = row["error"]["message"] if "error" in row else ""
        probabilities = row.get("probabilities", {})
        if self.several:
            labels = row.get("labels", [])
            numbers = (format(probabilities[name], ".6g") for name in labels)
            return _csv_line([row["image"], "|".join(labels), "|".join(numbers), error])
        best = most_probable(probabilities, self.top)
        cells = [cell for name in best for cell in (name, format(probabilities[name], ".6g"))]
        cells += [""] * (2 * self.top - len(cells))
        if self.tells_none:
            cells.append(str(row["none_of_these"]).lower() if "none_of_these" in row else "")
        if self.sets:
            cells.append("|".join(row.get("set", ())))
        return _csv_line([row["image"], *cells, error])


def _csv_line(cells: Sequence[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()


def batches(rows: Iterator[_Row]) -> Iterator[list[_Row]]:
    """The same in lists of as many as are written to the disk at once."""
    while batch := list(itertools.islice(rows, _BATCH)):
        yield batch


def refuse_file(out: Path) -> None:
    """Say early that answers cannot be written to a file.

    Raises:
        InputError: The file's suffix is neither ``.jsonl`` nor ``.csv``.
        OutputError: It exists, or cannot be written.
    """
    if out.suffix.lower() not in (".jsonl", ".csv"):
        raise InputError(f"output is {out}; expected a file that ends in .jsonl or .csv")
    refuse_existing(out)


def write_answers(
    answers: Answers, images: Sequence[Path], out: Path, *, top: int = 1, track: Track = silent
) -> list[dict[str, Any]]:
    """Write the rows of images to a file; return those that have an error.

    The file appears when all rows are there. Until then they are in a journal beside it, ``.NAME.journal``: the same
    call goes on after the last row that is on the disk.

    Args:
        answers: Answers of a classifier.
        images: The images, each once.
        out: A file that ends in ``.jsonl`` or ``.csv``.
        top: Classes of an image in CSV; JSON has them all.
        track: Shows progress.

    Raises:
        InputError: The file's suffix is another.
        OutputError: The file exists, cannot be written, or was begun with other images or another adapter.
    """
    refuse_file(out)
    listed = hashlib.sha256("\0".join(map(str, images)).encode("utf-8", "backslashreplace")).hexdigest()[:16]
    about = {**answers.about(), "images": listed}
    with claimed(out):
        path = out.with_name(f".{out.name}.journal")
        with Journal(path, about) as journal:
            done = sum(1 for _ in journal.rows())
            rows = track(answers.of(images, done), what="predicting", total=len(images) - done)
            for batch in batches(rows):
                journal.append(batch)
            csv_lines = answers.csv_lines(top)
            lines = csv_lines if out.suffix.lower() == ".csv" else None
            line: Callable[[dict[str, Any]], str] = lines or json_line
            errors = []
            with file_written_aside(out) as file:
                file.write((lines.header() if lines else "").encode())
                for row in journal.rows():
                    file.write(line(row).encode("utf-8", "backslashreplace"))
                    errors += [row] if "error" in row else []
        path.unlink()
        return errors
