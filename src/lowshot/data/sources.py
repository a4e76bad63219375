"""From what a user names or passes to a task."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError, UnknownNameError
from .assembling import Reading, good_images, table_of_labels
from .builtin import EVERY_TASK, builtin_task
from .callers import columns_of, images_in_order, is_table, is_tables, label_sets_in_order, labels_in_order
from .folder import read_folder, read_splits
from .hub import PREFIX, read_hub
from .images import ImagesOnDemand, MemoryImages
from .listing import SPLITS, kind_of
from .shards import SUFFIX as SHARD
from .shards import holds_shards, read_shards
from .tables import READERS as TABLES
from .tables import read_table
from .task import Examples, Label, Task, is_text, numbered


def load_task(
    data: str | os.PathLike[str] | Mapping[str, str | os.PathLike[str]],
    on_bad_image: str = "error",
    warn: list[str] | None = None,
    root: str | os.PathLike[str] | None = None,
    several: str | None = None,
) -> Task:
    """Read images to learn from and to test on, by a name or a path.

    ============================ =======================================================================
    a built-in task              ``digits``
    a data set of the catalogue  ``caltech101``, below ``root``
    the Hugging Face Hub         ``hf:ID``, ``hf:ID#CONFIGURATION`` or ``hf:FOLDER``, then maybe ``,label=COLUMN``
    a table                      a file ``.csv``, ``.jsonl`` or ``.parquet``
    shards                       a file ``.tar``, or a folder of them
    a folder                     ``<class>/*`` or ``{train,val,test}/<class>/*``
    one for each split           ``{"train": FOLDER, "test": TABLE}``: folders ``<class>/*``, or tables
    ============================ =======================================================================

    A string that is both a name and a path is the name; write ``./digits`` or pass a ``Path`` for the path.

    Args:
        data: What to read.
        on_bad_image: ``skip`` decodes every image now and leaves out those that cannot be. ``error`` decodes none, and
            such an image stops whoever asks for it; but files that a table names must be there. ``later`` is ``error``
            without that, for who wants to look at each image. ``skip-damaged`` and ``error-damaged`` look for damage
            in every file now, and leave out or raise at one that is damaged or cannot be decoded.
        warn: Receives a line for everything that a person should know.
        root: Where the catalogue's data sets are; else the folder that ``LOWSHOT_DATA`` names.
        several: What stands between two labels in a cell of a table, such as ``;``, where images may have several
            labels or none; None where each has one.

    Raises:
        UnknownNameError: Neither a name nor an existing path.
        DataError: It cannot be used.
        MissingExtraError: It needs a package that is not installed.
    """
    return _as_labelled(_read(data, Reading(on_bad_image, [] if warn is None else warn, root, several)), several)


def task_from(
    data: Any,
    labels: Any = None,
    on_bad_image: str = "error",
    warn: list[str] | None = None,
    root: str | os.PathLike[str] | None = None,
    several: str | None = None,
) -> Task:
    """Make a task of whatever a caller of ``FewShotClassifier.fit`` has.

    ``data`` is a task, which stays as it is; what ``load_task`` reads; a table in memory, or one for each split; or
    images, and ``labels`` the class of each, or the classes of each (see ``label_sets_in_order``). The rest is as for
    ``load_task``. Where several labels are asked for, a task of one label an image is one of which each image has one.

    Raises:
        DataError: It cannot be used, has labels of its own and is given others, or is images without labels.
    """
    reading = Reading(on_bad_image, [] if warn is None else warn, root, several)
    if labels is not None and isinstance(data, str | os.PathLike | Mapping | Task):
        raise DataError(f"{data} has labels of its own; expected a list of images with labels=")
    if isinstance(data, Task):
        return _as_labelled(data, several)
    if labels is None and is_tables(data):
        return _task_of_tables(data, reading)
    if labels is None and is_table(data):
        data, labels = columns_of(data)
    if isinstance(data, str | os.PathLike | Mapping):
        return _as_labelled(_read(data, reading), several)
    if labels is None:
        raise DataError("a list of images needs labels, one for each, as in fit(images, labels)")
    return task_of_arrays(data, labels, reading)


def _as_labelled(task: Task, several: str | None) -> Task:
    """Return the task with labels of the kind that is asked for.

    Raises:
        DataError: Its images have several labels, and one was expected.
    """
    if several is not None:
        return task.of_several()
    if task.has_several:
        raise DataError(
            f"{task.name}: images have several labels; lowshot fit --labels-per-image several learns them, "
            "labels_per_image='several' from Python"
        )
    return task


def _read(data: str | os.PathLike[str] | Mapping[str, str | os.PathLike[str]], reading: Reading) -> Task:
    """Return the task that ``load_task`` reads, whatever its labels are."""
    if isinstance(data, Mapping):
        return read_splits(data, reading)
    if isinstance(data, str):
        if data in EVERY_TASK:
            return builtin_task(data)
        if data.startswith(PREFIX):
            return read_hub(data, reading)
        if not data or Path(data).name == data:  # "" would be the current folder
            from .catalogue import CATALOGUE, read_data_set

            if data in CATALOGUE:
                return read_data_set(data, reading)
            if not data or kind_of(Path(data)) == "nothing":
                raise UnknownNameError("task, data set or folder", data, [*EVERY_TASK, *CATALOGUE])
    return _read_path(Path(data), reading)


def _read_path(path: Path, reading: Reading) -> Task:
    """Return the task of a file or a folder."""
    if not is_text(str(path)):
        raise DataError(f"the name {str(path)!r} is not UTF-8; rename it")
    kind, suffix = kind_of(path), path.suffix.lower()
    if (kind == "folder" and holds_shards(path)) or (kind == "file" and suffix == SHARD):
        return read_shards(path, reading)
    if kind != "folder" and suffix in TABLES:
        return read_table(path, reading)
    if kind == "file":
        raise DataError(
            f"data {path} is a file of no known kind; expected a table ({', '.join(TABLES)}), a shard ({SHARD}) or a "
            "folder of images"
        )
    return read_folder(path, reading)  # which says what is wrong if it is none


def why_not_there(data: str, root: str | os.PathLike[str] | None = None) -> str:
    """Return the reason why data cannot be read, as far as that is known without reading it; empty if none is known.

    Args:
        data: As for ``load_task``.
        root: As for ``load_task``.
    """
    if data in EVERY_TASK or data.startswith(PREFIX):
        return ""
    try:
        if Path(data).name == data:
            from .catalogue import CATALOGUE, data_root, place_of

            if data in CATALOGUE:
                place_of(CATALOGUE[data], data_root(root))
                return ""
        return f"{data} does not exist" if kind_of(Path(data)) == "nothing" else ""
    except DataError as error:
        return str(error)


def task_of_names(names: Any) -> Task:
    """Make a task of class names alone, without images.

    Args:
        names: Two names or more, in a container that has an order.

    Raises:
        DataError: One is no text, or two are alike.
    """
    if isinstance(names, str | bytes):
        raise DataError(f"classes is one text, {names!r}; expected a list of names, such as ['cat', 'dog']")
    classes, _ = labels_in_order(names)
    numbers = [name for name in classes if not isinstance(name, str)]
    if numbers:
        raise DataError(f"classes has {numbers[0]!r}; expected the names of classes, which are texts")
    nothing = Examples(MemoryImages([]), np.empty(0, dtype=np.int64), ())
    return Task(name="names", class_names=tuple(map(str, classes)), train=nothing)


def _task_of_tables(tables: Mapping[str, Any], reading: Reading) -> Task:
    """Make a task of a table in memory for each split; the classes are those of ``train``.

    Raises:
        DataError: A split has no known name, there is no ``train``, or a table cannot be used.
    """
    splits: dict[str, Task] = {}
    for name, table in tables.items():
        split = SPLITS.get(str(name).lower())
        if split is None or split in splits:
            raise DataError(f"data has a split {name!r}; expected each of train, validation and test once at most")
        splits[split] = task_of_arrays(*columns_of(table), reading)
    if "train" not in splits:
        raise DataError(f"data has the splits {', '.join(map(str, tables))}; expected train among them")
    train = splits.pop("train")
    places = {name: index for index, name in enumerate(train.class_names)}
    others = {}
    for split, task in splits.items():
        unknown = [name for name in task.class_names if name not in places]
        if unknown:
            raise DataError(f"the table {split} has a class {unknown[0]!r}, of which the table train has no image")
        place = np.asarray([places[name] for name in task.class_names], dtype=np.int64)
        others[split] = task.train.relabelled(place, len(places))
    return dataclasses.replace(train, validation=others.get("validation"), test=others.get("test"))


def examples_of_arrays(images: Any, labels: Any, reading: Reading) -> tuple[list[Label], tuple[str, ...], Examples]:
    """Return the examples of images and labels as ``task_of_arrays`` takes them, of one class or more.

    Returns:
        The labels' distinct values in their natural order, the names of the classes, and the images.

    Raises:
        DataError: As for ``task_of_arrays``.
    """
    given = images_in_order(images)
    sources = ImagesOnDemand(given)
    if reading.several is None:
        values, names = labels_in_order(labels)
        sets: list[tuple[Label, ...]] = [(value,) for value in values]
    else:
        sets, names = label_sets_in_order(labels, reading.several)
    if len(sources) != len(sets):
        raise DataError(f"{len(sources)} images have {len(sets)} labels; expected one for each")
    if not sets:
        raise DataError(
            "there are no images to learn from; a classifier of names alone is FewShotClassifier.zero_shot(['cat', "
            "'dog'])"
        )
    classes = sorted(set(itertools.chain(*sets)))
    class_names = [names.get(label, str(label)) for label in classes]
    label_of = {label: index for index, label in enumerate(classes)}
    numbers = [[label_of[value] for value in values] for values in sets]
    one = reading.several is None
    indices = np.asarray(numbers, dtype=np.int64)[:, 0] if one else table_of_labels(numbers, len(classes))
    all_of_them = Examples(sources, indices, tuple(f"images[{index}]" for index in range(len(sources))))
    rows = good_images(all_of_them, class_names, reading.on_bad_image, reading.warn)
    decoded = [sources.decoded(row) for row in rows]
    shown = ("|".join(class_names[k] for k in numbers[row]) for row in rows)
    contents = [f"{names}\0{seen.content}" for names, (_, seen) in zip(shown, decoded, strict=True)]
    examples = Examples(
        images=MemoryImages(
            [pixels for pixels, _ in decoded],
            sources=given if len(rows) == len(sources) else [given[row] for row in rows],
            examined=[seen for _, seen in decoded],
        ),
        labels=indices[list(rows)],
        identities=numbered(hashlib.sha256(content.encode()).hexdigest()[:20] for content in contents),
    )
    return classes, tuple(class_names), examples


def task_of_arrays(images: Any, labels: Any, reading: Reading | None = None) -> Task:
    """Make a task of images and labels in memory; classes are the labels' distinct values in their natural order.

    An image's identity is a hash of its class name and pixels, so the draw does not depend on the order of the list.

    Args:
        images: N images in a container that has an order; see ``images_in_order``.
        labels: The label of each; see ``labels_in_order``, or ``label_sets_in_order`` where they have several.
        reading: How they are read; as ``load_task`` does by itself if not given.

    Raises:
        DataError: Lengths differ, an image is of no known kind or bad, a label is neither a text nor a number, or of
            some class no image is left.
    """
    classes, names, examples = examples_of_arrays(images, labels, reading or Reading())
    return Task("images", names, train=examples, class_labels=() if list(names) == classes else tuple(classes))
