"""Data sets of the Hugging Face Hub, or folders in a format of the ``datasets`` package: ``hf:ID`` or ``hf:FOLDER``.

Behind them may stand ``#CONFIGURATION``, and then the columns to read: ``hf:cifar100,label=fine_label``.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import DataError, ImageError, MissingExtraError
from ..files import from_home
from ..repositories import why_unreachable
from .assembling import Names, Reading, labels_in, task_of_named_images
from .callers import each_of
from .images import EncodedImages
from .listing import SPLITS, class_name, kind_of
from .task import Task

PREFIX = "hf:"
"""The beginning of the name of such a data set."""
_FOLDER_OF_IMAGES = "imagefolder"  # what datasets calls its reader of image files in folders
_COLUMN = re.compile(r"(?P<name>.*),(?P<role>label|image)=(?P<column>[^,]+)", re.DOTALL)
_LABELS = ("label", "labels", "class")  # columns that are taken for the label if no column is a ClassLabel


def read_hub(name: str, reading: Reading) -> Task:
    """Read a data set through the ``datasets`` package as a task.

    Images are decoded here and not there, so that the same rules hold for all images. An image's identity is its
    position, which a given revision of a data set fixes. No code of the data set is run, and no file on this machine is
    read because a data set names it: rows have their images in them, or ``datasets`` itself found the files in the
    folder or in what it fetched.

    Args:
        name: ``hf:ID``, ``hf:ID#CONFIGURATION``, or ``hf:`` and a folder that ``load_dataset`` or ``load_from_disk``
            can read; then ``,label=COLUMN`` and ``,image=COLUMN`` where it has several that may be meant.
        reading: How it is read; a column of lists of labels is read as it is, one of texts is parted.

    Raises:
        MissingExtraError: ``datasets`` is not installed.
        DataError: It cannot be loaded, or has no images with labels to learn from.
    """
    source, columns = _columns_of(name)
    loaded, folders = _load(source)
    splits: dict[str, _Split] = {}
    for key in loaded:
        if SPLITS.get(str(key)) in (None, *splits):
            reading.warn.append(f"{name}: left out split {key!r}; expected train, validation and test")
        else:
            splits[SPLITS[str(key)]] = _Split(source, str(key), loaded[key], folders, columns, reading.several)
    unlabelled = [split for split, rows in splits.items() if rows.has_no_labels()]
    for split in unlabelled:
        reading.warn.append(f"{name}: left out split {splits.pop(split).key!r}, which has no labels")
    if not splits:
        raise DataError(f"{name} has no labelled split; expected train, validation or test")
    known = next((rows.known_names for rows in splits.values() if rows.known_names is not None), None)
    named = {
        split: (rows.images, rows.names(), [f"{rows.key}/{index}" for index in range(len(rows.images))])
        for split, rows in splits.items()
    }
    title = Path(source.removeprefix(PREFIX).partition("#")[0]).name
    return task_of_named_images(name, title, named, reading, known and [class_name(text) for text in known])


@dataclasses.dataclass(frozen=True)
class _HubImages(EncodedImages):
    """Encoded images in a column."""

    title: str
    rows: Any
    column: str
    folders: tuple[Path, ...]
    """Folders in which files that a row names may lie."""

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, index: int) -> str:
        return f"{self.title}[{index}]"

    def source(self, index: int) -> Path | bytes:
        value = self.rows[index][self.column]
        if value is None or (value["bytes"] is None and not value["path"]):
            raise ImageError(f"{self.name(index)}: image is empty")
        if value["bytes"] is not None:
            content: bytes = value["bytes"]
            return content
        try:
            path = Path(value["path"]).resolve()
        except (OSError, ValueError, RuntimeError) as error:  # the last for links that lead to themselves
            raise ImageError(f"{self.name(index)}: image file {value['path']!r} cannot be found: {error}") from error
        if not any(path.is_relative_to(folder) for folder in self.folders):
            raise ImageError(
                f"{self.name(index)}: image is not in its row, which names {value['path']!r}; expected the image itself"
            )
        return path


class _Split:
    """One split of a data set, and which of its columns is which."""

    def __init__(
        self,
        name: str,
        key: str,
        rows: Any,
        folders: tuple[Path, ...],
        columns: Mapping[str, str],
        several: str | None,
    ) -> None:
        from datasets import ClassLabel, Image

        self.key, self._several = key, several
        self._title = f"{name} {key}"
        images = [column for column, kind in rows.features.items() if isinstance(kind, Image)]
        labels = [column for column, kind in rows.features.items() if isinstance(each_of(kind), ClassLabel)]
        usual = [column for column in _LABELS if column in (labels or rows.features)]
        for role, column in columns.items():
            if column not in (images if role == "image" else rows.features):
                kind = "column of images" if role == "image" else "column"
                raise DataError(f"{name} has no {kind} {column!r}; it has {', '.join(rows.features)}")
        image = columns.get("image") or _only(name, images, rows, "image")
        self._label = columns.get("label") or (usual[0] if usual else _only(name, labels, rows, "label"))
        column = rows.select_columns([image]).cast_column(image, Image(decode=False))
        folders = folders if rows.info.builder_name == _FOLDER_OF_IMAGES else ()
        self.images = _HubImages(self._title, column, image, folders)
        feature = rows.features[self._label]
        if several is None and each_of(feature) is not feature:
            raise DataError(
                f"{name}: column {self._label} has lists of labels; --labels-per-image several reads them, "
                "labels_per_image='several' from Python"
            )
        self.known_names: list[str] | None = getattr(each_of(feature), "names", None)
        self._labels = list(rows.select_columns([self._label])[self._label])

    def has_no_labels(self) -> bool:
        """Tell whether it is one of those test splits whose labels are kept secret."""
        return all(label is None or label == -1 for label in self._labels)

    def names(self) -> list[Names]:
        """Return the class name of each image, or those of the classes that it shows."""
        if self._several is None:
            return [self._name(index, label) for index, label in enumerate(self._labels)]
        cells = (labels_in(label, self._several) for label in self._labels)
        return [tuple(self._name(index, label) for label in cell) for index, cell in enumerate(cells)]

    def _name(self, index: int, label: Any) -> str:
        name, known = "", self.known_names
        if known is not None and isinstance(label, int) and 0 <= label < len(known):
            name = class_name(known[label])
        elif known is None and isinstance(label, str | int) and not isinstance(label, bool):
            name = class_name(str(label))
        if not name:
            raise DataError(f"{self._title}[{index}]: {self._label} is {label!r}; expected a class")
        return name


def _columns_of(name: str) -> tuple[str, dict[str, str]]:
    """Return a data set's name without the columns that stand behind it, and these."""
    columns: dict[str, str] = {}
    while column := _COLUMN.fullmatch(name):
        name, role = column["name"], column["role"]
        if role in columns:
            raise DataError(f"{name} is given two columns for the {role}; expected one")
        columns[role] = column["column"]
    return name, columns


def _load(name: str) -> tuple[Any, tuple[Path, ...]]:
    """Return the splits, and the folders in which ``datasets`` may have found image files by itself."""
    try:
        import datasets
        from huggingface_hub.constants import HF_HUB_CACHE
    except ImportError:
        raise MissingExtraError("datasets", "datasets", f"the data set {name}") from None
    source, _, configuration = name.removeprefix(PREFIX).partition("#")
    if not source:  # datasets would search the current folder and all below it
        raise DataError(f"{name!r} names no data set; expected {PREFIX}ID or {PREFIX}FOLDER")
    # A bar in a log is a line for every step of it.
    is_silent = not sys.stderr.isatty() and datasets.utils.is_progress_bar_enabled()
    try:
        folder = from_home(source)
        saved = any(kind_of(folder / file) == "file" for file in ("dataset_dict.json", "state.json"))
        if is_silent:
            datasets.utils.disable_progress_bars()
        if saved:
            loaded = datasets.load_from_disk(str(folder))
        else:
            prepared = Path(datasets.config.HF_DATASETS_CACHE) / source.replace("/", "___")
            cached = Path(HF_HUB_CACHE) / f"datasets--{source.replace('/', '--')}"
            is_here = kind_of(folder) == "folder"
            is_known = is_here or prepared.is_dir() or cached.is_dir()  # something of it is enough to let datasets try
            if not is_known and (reason := why_unreachable(source)):
                raise DataError(f"it is not on this machine, and the Hub cannot be asked: {reason}")
            loaded = datasets.load_dataset(str(folder) if is_here else source, configuration or None)
    except Exception as error:  # whatever datasets, the Hub's client, pyarrow and fsspec raise
        raise DataError(f"{name} cannot be loaded: {' '.join(str(error).split()) or type(error).__name__}") from error
    finally:
        if is_silent:
            datasets.utils.enable_progress_bars()
    fetched = (datasets.config.HF_DATASETS_CACHE, datasets.config.DOWNLOADED_DATASETS_PATH, HF_HUB_CACHE)
    folders = () if saved else tuple(Path(place).resolve() for place in (folder, *fetched))
    return loaded if isinstance(loaded, dict) else {"train": loaded}, folders


def _only(name: str, columns: list[str], rows: Any, role: str) -> str:
    """Return the one column that may have a role, if there is one alone."""
    if len(columns) != 1:
        raise DataError(
            f"{name} has {len(columns)} columns that may be the {role} (of {', '.join(rows.features)}); say which: "
            f"{name},{role}={columns[0] if columns else 'COLUMN'}"
        )
    return columns[0]
