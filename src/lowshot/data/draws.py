"""The images to learn from: drawn by a rule, or those of a list or of an adapter, so that anyone can have the same."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from ..errors import DataError, UnknownNameError
from ..files import read_json_object, refuse_existing, write_text
from ..records import RECORD_FILE, RunRecord
from ..settings import DRAWS
from .shots import Draw, as_draw, draw_like_clip_lora, draw_like_coop, draw_shots, draw_shots_of_several
from .tables import FILE, LABEL, jsonl_rows
from .task import Task

_LIST = ".jsonl"
_HASHED = "sha256:"
_NAMES, _CLASSES = (FILE, "_impath"), (LABEL, "_label")  # ours, and 2SFS's: the attributes of a Datum of Dassl
_NAMED = 3


def draw_from(task: Task, shots: int | None, seed: int, draw: str = "lowshot", whole: Task | None = None) -> Draw:
    """Draw the images of a task's training split to learn from; every class has at least one.

    ==================== =====================================================================================
    ``lowshot``          by the hash of seed and image (``draw_shots``, ``draw_shots_of_several``)
    ``coop``             as CoOp and code built on Dassl draw (``draw_like_coop``)
    ``clip-lora``        as CLIP-LoRA draws (``draw_like_clip_lora``)
    a file ``.jsonl``    the images that it lists, in its order
    an adapter's folder  the images that its record lists, in its order
    ==================== =====================================================================================

    A list has one JSON object per line: ``{"file_name": ..., "label": ...}``, as ``write_draw`` writes it, or 2SFS's
    ``{"_impath": ..., "_label": ..., "_classname": ..., "_domain": ...}`` (FarinaMatteo/rethinking_fewshot_vlms,
    ``shot_K-seed_S_train.jsonl``). A name is that of the image whose identity it is or ends with, so a list holds on
    every machine. Labels may be left out, and may be other words for the same classes.

    Args:
        task: What is learnt.
        shots: Images per class, or None for all, or for as many as are listed.
        seed: Which of a rule's draws.
        draw: One of the above.
        whole: The task that ``task`` is some classes of. What is drawn from one stream of random numbers is then drawn
            from all of its classes, as CoOp does before it leaves classes out; a list may have them too.

    Raises:
        UnknownNameError: ``draw`` is neither a rule nor anything that exists.
        DataError: A class has no training image, or a list cannot be read, names other images, joins or divides
            classes, has none of some class, or other shots than asked for.
    """
    missing = np.flatnonzero(task.train.counts(len(task.class_names)) == 0).tolist()
    if missing:
        raise DataError(f"{task.name}: no training images for {_named_classes(task, missing)}")
    everything = whole or task
    if draw not in DRAWS:
        return _replayed(task, everything, shots, draw)
    if draw == "lowshot":  # each class by itself
        if task.has_several:
            return draw_shots_of_several(task.train.identities, task.train.labels, shots, seed)
        return draw_shots(task.train.identities, task.train.labels, shots, seed)
    if task.has_several:
        raise DataError(
            f"draw {draw} draws images of one label, and those of {task.name} have several; expected lowshot, a list, "
            "or the folder of an adapter"
        )
    if draw == "coop":
        drawn = draw_like_coop(everything.train.labels, shots, seed)
    else:
        held_out = None if everything.validation is None else everything.validation.labels
        drawn = draw_like_clip_lora(everything.train.labels, held_out, shots, seed)
    if everything is task:
        return drawn
    return as_draw(task.train.labels, _rows_in(task, everything, drawn.indices.tolist()), shots, drawn.rule)


def draw_of_record(task: Task, identities: Sequence[str]) -> list[int]:
    """Return the rows of a task's training images that an adapter's record names, in its order.

    Args:
        task: The images, among others or not.
        identities: The record's ``draw``.

    Raises:
        DataError: It names none, or others than these.
    """
    if not identities:
        raise DataError(
            "the adapter's record does not name the images that it was taught with; fit it anew: lowshot fit DATA"
        )
    return _matched(task, [_Listed(f"image {n}", each, None) for n, each in enumerate(identities, 1)], "of the adapter")


def draw_sha256(identities: Sequence[str]) -> str:
    """Return the hash of a draw: of its images' identities in order, as a JSON list."""
    listed = json.dumps(list(identities), ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(listed.encode("ascii")).hexdigest()


def write_draw(path: Path, task: Task, draw: Draw) -> None:
    """Write a draw as a list that ``draw_from`` reads, one line per image.

    Raises:
        OutputError: The file exists, or cannot be written.
    """
    refuse_existing(path)
    lines = []
    for index in draw.indices.tolist():
        names = task.names_at("train", index)
        row = {FILE: task.train.identities[index], LABEL: names if task.has_several else names[0]}
        lines.append(json.dumps(row, ensure_ascii=False) + "\n")
    write_text(path, "".join(lines))


def _rows_in(task: Task, whole: Task, rows: Sequence[int]) -> list[int]:
    """Return a task's rows of the whole task's images at these rows; those it has not are passed over."""
    if whole is task:
        return list(rows)
    positions = _positions(task)
    return [positions[name] for name in (whole.train.identities[row] for row in rows) if name in positions]


def _positions(task: Task) -> dict[str, int]:
    return {identity: row for row, identity in enumerate(task.train.identities)}


# -- lists -------------------------------------------------------------------------------------------------------------


class _Listed(NamedTuple):
    where: str
    """``line 3`` of a file, or ``image 3`` of a record."""
    name: str
    label: str | int | tuple[str, ...] | None
    """All of them where images have several labels."""

    @classmethod
    def of(cls, row: Mapping[str, Any], where: str, source: str) -> _Listed:
        """Return the image that a row of a list names."""
        name = next((row[key] for key in _NAMES if key in row), None)
        label = next((row[key] for key in _CLASSES if key in row), None)
        if not isinstance(name, str) or not name:
            raise DataError(
                f"draw {source}, {where}, is {json.dumps(row)[:80]}; expected an object with {' or '.join(_NAMES)}, "
                "the name of an image"
            )
        if isinstance(label, list) and all(isinstance(each, str) for each in label):
            label = tuple(label)
        if not isinstance(label, str | int | tuple | None) or isinstance(label, bool):
            raise DataError(f"draw {source}, {where}: the label is {str(label)[:80]!r}; expected a name or a number")
        return cls(where, name, label)


def _replayed(task: Task, whole: Task, shots: int | None, source: str) -> Draw:
    """Return the draw that a list or an adapter has of a task."""
    listed = _listed_by(source)
    rows = _matched(whole, listed, source)
    _refuse_other_labels(whole, listed, rows, source)
    indices = np.asarray(_rows_in(task, whole, rows), dtype=np.int64)
    numbers = task.train.subset(indices).counts(len(task.class_names)).tolist()
    counts = dict(enumerate(numbers))
    lacking = [label for label, count in counts.items() if not count]
    if lacking:
        raise DataError(f"draw {source} has no image of {_named_classes(task, lacking)}; expected some of each class")
    rule = _HASHED + draw_sha256([task.train.identities[index] for index in indices])
    most = max(numbers)
    if task.has_several:  # of which a draw may have more than was asked for
        return Draw(indices, shots or most, {}, rule)
    if shots not in (None, most):
        raise DataError(
            f"draw {source} has {most} images of a class, but shots is {shots}; leave shots out, or ask for {most}"
        )
    short = {} if shots is None else {label: count for label, count in counts.items() if count < most}
    return Draw(indices, most, short, rule)


def _refuse_other_labels(whole: Task, listed: Sequence[_Listed], rows: Sequence[int], source: str) -> None:
    """Refuse labels of a list that are not those of the data.

    Where images have one label it may be a number or another word, but must neither join nor divide classes.
    """
    by_label: dict[Any, tuple[_Listed, str]] = {}
    by_class: dict[str, tuple[_Listed, str]] = {}
    for entry, row in zip(listed, rows, strict=True):
        names = whole.names_at("train", row)
        if entry.label is None:
            continue
        if whole.has_several or isinstance(entry.label, tuple):
            if not isinstance(entry.label, tuple) or set(entry.label) != set(names):
                raise DataError(
                    f"draw {source}: {_named([entry])} has the labels {entry.label!r}, but {whole.name} has it as "
                    f"{tuple(names)!r}; is it a draw from other data?"
                )
            continue
        this = entry, names[0]
        for other, name in (by_label.setdefault(entry.label, this), by_class.setdefault(names[0], this)):
            if (other.label == entry.label) != (name == names[0]):
                raise DataError(
                    f"draw {source}: {_named([other, entry])} have the labels {other.label!r} and {entry.label!r}, but "
                    f"{whole.name} has them as {name!r} and {names[0]!r}; is it a draw from other data?"
                )


def _listed_by(source: str) -> list[_Listed]:
    """Return the images that a file or an adapter lists.

    Raises:
        UnknownNameError: There is no such thing.
        DataError: It cannot be read, or lists nothing.
    """
    if source.startswith(_HASHED):
        raise DataError(
            f"draw {source[:20]}... is known by its hash alone; give the folder of the adapter that learnt from it, "
            "whose record names the images, or the list that it came from"
        )
    if os.path.isdir(source):  # noqa: PTH112 - a name too long is no folder
        try:
            record = RunRecord.from_dict(read_json_object(Path(source) / RECORD_FILE))
        except FileNotFoundError:
            message = f"draw {Path(source)} is a folder without {RECORD_FILE}; expected an adapter, or a file"
            raise DataError(message) from None
        except (ValueError, TypeError) as error:
            raise DataError(f"draw {Path(source)}: {RECORD_FILE} is damaged: {error}") from None
        listed = [_Listed(f"image {number}", identity, None) for number, identity in enumerate(record.draw, 1)]
    elif os.path.isfile(source):  # noqa: PTH113 - a name too long is no file
        listed = [_Listed.of(row, f"line {number}", source) for number, row in jsonl_rows(Path(source))]
    elif "/" in source or os.sep in source or source.endswith(_LIST):
        raise DataError(f"draw {source} is neither a file nor a folder; expected a list of images, or an adapter")
    else:
        raise UnknownNameError("draw, file or folder", source, DRAWS)
    if not listed:
        raise DataError(f"draw {source} lists no images; expected one or more of each class")
    return listed


def _matched(task: Task, listed: Sequence[_Listed], source: str) -> list[int]:
    """Return the row of each listed image: that of its name, or else the one whose identity its name ends with.

    Raises:
        DataError: Of some there is none, or there are several.
    """
    positions = _positions(task)
    rows = {entry: _candidates(entry.name, positions) for entry in listed}
    unknown = [entry for entry in listed if not rows[entry]]
    if unknown:
        hint = f"expected names that end as {task.train.identities[0]!r} does"
        for split, examples in task.splits().items():
            if split != "train" and _candidates(unknown[0].name, dict.fromkeys(examples.identities, 0)):
                hint = f"the first is of its {split} split; expected the list of what was trained on"
                break
        raise DataError(
            f"draw {source}: {len(unknown):,} of {len(listed):,} are no training images of {task.name}: "
            f"{_named(unknown)}; {hint}"
        )
    several = [entry for entry in listed if len(rows[entry]) > 1]
    if several:
        raise DataError(
            f"draw {source}: {len(several):,} of {len(listed):,} may be more than one training image of {task.name}: "
            f"{_named(several)}; expected the name of one, such as {task.train.identities[rows[several[0]][0]]!r}"
        )
    return [rows[entry][0] for entry in listed]


def _candidates(name: str, positions: Mapping[str, int]) -> list[int]:
    if name in positions:
        return [positions[name]]
    parts = PurePosixPath(name).parts
    ends = ("/".join(parts[start:]) for start in range(1, len(parts)))
    return [positions[end] for end in ends if end in positions]


def _named(entries: Sequence[_Listed]) -> str:
    names = ", ".join(f"{entry.where} {entry.name!r}" for entry in entries[:_NAMED])
    return names + (", ..." if len(entries) > _NAMED else "")


def _named_classes(task: Task, labels: Sequence[int]) -> str:
    return f"{len(labels)} class(es): {', '.join(task.class_names[label] for label in labels[:5])}"
