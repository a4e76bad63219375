"""Images and labels as Python callers hand them over, in their own order, read once.

A container is iterated, as its owner would: by position only where that is the same. A shuffled column of pandas gives
another row for ``column[0]`` than the one it begins with.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import DataError
from .assembling import labels_in
from .listing import class_name, first_names
from .task import Images, Label

_ONE_IMAGE: Mapping[str, Any] = {
    "one path": (str, os.PathLike),
    "the bytes of one image": (bytes, bytearray, memoryview),
    "one PIL image": Image.Image,
    "one open file": io.IOBase,
}
IMAGE_COLUMNS = ("image", "images", "img", "picture", "photo", "file_name", "filename", "file", "path", "image_path")
"""Names of a table's column with images, of which it has one; what ``datasets`` has as images goes before names."""
LABEL_COLUMNS = ("label", "labels", "class", "class_name", "category", "target")
"""The same of labels."""
_LARGEST = 1 << 63  # neither NaN nor infinity is below it
_CHANNELS = (1, 3, 4)
_KINDS = {str: "texts", bool: "truth values", int: "numbers", float: "numbers"}


def images_in_order(images: Any) -> Sequence[Any] | Images:
    """Return the single images of what a caller handed over, each as the caller has it, none decoded.

    Lists, tuples, sequences of one's own and arrays are asked for an image when it is needed. Anything else that can be
    iterated is, here and once: columns of pandas, polars and pyarrow, generators, the keys of a dictionary.

    Args:
        images: Paths, encoded bytes, PIL images, arrays or tensors, in a container that has an order; or an array
            ``(N, height, width, 3)``, ``(N, height, width)``, or a tensor ``(N, 3, height, width)``. Only tensors have
            their channels first: an array ``(3, height, width)`` is three grey images.

    Raises:
        DataError: It is one image, has no order, or is a table with several columns.
    """
    one = "expected a list of images, such as [image]"
    for description, kinds in _ONE_IMAGE.items():
        if isinstance(images, kinds):
            name = f", {os.fspath(images)!r}" if isinstance(images, str | os.PathLike) else ""
            raise DataError(f"images is {description}{name}; {one}")
    if is_table(images):
        images = _column("images", images, IMAGE_COLUMNS) if len(_names_of(images)) > 1 else _only_column(images)
    if hasattr(images, "ndim") and hasattr(images, "shape"):
        shape = tuple(images.shape)
        if len(shape) == 2 and shape[1] == 1 and getattr(images.dtype, "kind", "") in "OUST":  # a column of paths
            return [row[0] for row in images]
        is_tensor = hasattr(images, "detach")
        is_image = len(shape) == 3 and (shape[-1] in _CHANNELS or (is_tensor and shape[0] in _CHANNELS[1:]))
        if len(shape) in (0, 2) or is_image:
            many = "a tensor (N, channels, height, width)" if is_tensor else "an array (N, height, width, 3)"
            raise DataError(f"images is one array of shape {shape}; {one}, or {many}")
        rows: Sequence[Any] = list(images) if len(shape) == 1 else images  # a column of pandas has one axis
        return rows
    if isinstance(images, list | tuple):
        return list(images)
    by_position = isinstance(images, Sequence) or not hasattr(images, "__iter__")
    if by_position and hasattr(images, "__len__") and hasattr(images, "__getitem__"):
        by_index: Sequence[Any] | Images = images
        return by_index
    return _iterated("images", images)


def labels_in_order(labels: Any) -> tuple[list[Label], Mapping[Label, str]]:
    """Return the labels as plain values, and the names that they have if their column knows such.

    Args:
        labels: Texts, whole numbers, fractions or truth values, all of one kind, in a container that has an order. A
            column of the ``datasets`` package that is a ``ClassLabel`` names its classes.

    Returns:
        The label of each image, and the name of each label; labels without a name are named as they are written.

    Raises:
        DataError: One is something else or missing, they are of several kinds, or the container has no order.
    """
    if isinstance(labels, str | bytes):
        raise DataError(f"labels is one text, {labels!r}; expected a list with the label of each image")
    if is_table(labels):
        names_of_columns = _names_of(labels)
        if len(names_of_columns) > 1:
            raise DataError(
                f"labels is a {type(labels).__name__} with the columns {', '.join(names_of_columns)}; expected one of "
                f"them, such as table[{names_of_columns[0]!r}]"
            )
        labels = _only_column(labels)
    names = getattr(getattr(labels, "features", None), "names", None)
    rows = _iterated("labels", labels)
    values = [_label(row, index) for index, row in enumerate(rows)]
    first: dict[str, int] = {}
    for index, value in enumerate(values):
        first.setdefault(_KINDS[type(value)], index)
    if len(first) > 1:
        (one, i), (other, j), *_ = first.items()
        raise DataError(
            f"labels are both {one} (labels[{i}] is {values[i]!r}) and {other} (labels[{j}] is {values[j]!r}); "
            "expected one of the two"
        )
    if any(isinstance(value, float) for value in values):  # 1 and 1.0 are one class
        values = [float(value) + 0.0 for value in values]
    return values, _class_label_names(values, names) if isinstance(names, Sequence) else {}


def label_sets_in_order(labels: Any, delimiter: str) -> tuple[list[tuple[Label, ...]], Mapping[Label, str]]:
    """Return the labels of each image where images have several, and the names that labels have.

    Args:
        labels: Of each image a list, a tuple or a set of what ``labels_in_order`` takes, which may be empty, or a text
            with the delimiter between its labels. Or a table ``(N, C)`` of 0 and 1, whose labels are its columns'
            numbers.
        delimiter: What parts a text.

    Raises:
        DataError: As for ``labels_in_order``.
    """
    if getattr(labels, "ndim", 1) == 2 and not is_table(labels):
        table = np.asarray(labels)
        if not np.isin(table, (0, 1)).all():
            raise DataError(f"labels is a table {table.shape} with other numbers than 0 and 1; expected 1 where shown")
        return [tuple(np.flatnonzero(row).tolist()) for row in table], {}
    if isinstance(labels, str | bytes):
        labels_in_order(labels)  # which refuses it
    rows = _iterated("labels", _only_column(labels) if is_table(labels) else labels)
    cells = [labels_in(cell.tolist() if hasattr(cell, "tolist") else cell, delimiter) for cell in rows]
    names = getattr(each_of(getattr(labels, "features", None)), "names", None)
    flat = [label for cell in cells for label in cell]
    values, _ = labels_in_order(flat)
    remaining = iter(values)
    sets = [tuple(dict.fromkeys(next(remaining) for _ in cell)) for cell in cells]
    return sets, _class_label_names(values, names) if isinstance(names, Sequence) else {}


def each_of(feature: Any) -> Any:
    """Return the kind of the items of a column of lists, or that of a column that has none."""
    if isinstance(feature, list):
        return feature[0]
    inner = getattr(feature, "feature", None)  # of datasets' Sequence, which newer ones call List
    return feature if inner is None or isinstance(inner, Mapping) else inner


def _label(value: Any, index: int) -> Label:
    """Return the plain value of a label, which may be a scalar of NumPy or torch, or a row of one."""
    plain = value.item() if getattr(value, "shape", None) in ((), (1,)) else value
    if not isinstance(plain, str) and not (isinstance(plain, int | float) and -_LARGEST < plain < _LARGEST):
        raise DataError(f"labels[{index}] is {value!r}; expected the name of a class, or its number")
    kinds: tuple[type[Label], ...] = (str, bool, int, float)
    kind = next(kind for kind in kinds if isinstance(plain, kind))
    return str.__str__(plain) if isinstance(plain, str) else kind(plain)


def _class_label_names(values: Sequence[Label], names: Sequence[str]) -> dict[Label, str]:
    for index, value in enumerate(values):
        if not isinstance(value, int) or not 0 <= value < len(names):
            raise DataError(f"labels[{index}] is {value!r}; expected 0 to {len(names) - 1}, the classes of its column")
    return {value: class_name(names[int(value)]) for value in values}


def positions(labels: Any, class_labels: Sequence[Label], class_names: Sequence[str]) -> NDArray[np.int64]:
    """Return the index of each label's class, ``(N,)``.

    Args:
        labels: As for ``labels_in_order``: what the classes are known by, or their names.
        class_labels: What callers know the classes by.
        class_names: The names of the classes, in the same order.

    Raises:
        DataError: One is no class.
    """
    by_label = {label: index for index, label in enumerate(class_labels)}
    by_name = {name: index for index, name in enumerate(class_names)}
    values, _ = labels_in_order(labels)
    indices = [by_label.get(value, by_name.get(str(value))) for value in values]
    if None in indices:
        unknown = values[indices.index(None)]
        raise DataError(
            f"label {unknown!r} is none of the {len(class_labels)} classes this adapter was taught; expected one of "
            f"{first_names([repr(label) for label in class_labels])}"
        )
    return np.asarray(indices, dtype=np.int64)


def is_table(data: Any) -> bool:
    """Tell whether something has named columns.

    That is a table of pandas, polars, pyarrow or ``datasets``, a list of rows that are dictionaries, or a dictionary of
    columns, one of which is called as images are.
    """
    if isinstance(data, Mapping):
        has_images = any(str(name).lower() in IMAGE_COLUMNS for name in data)
        return has_images and not any(isinstance(value, str | os.PathLike | bytes) for value in data.values())
    if isinstance(data, list | tuple):
        return bool(data) and all(isinstance(row, Mapping) for row in data)
    names = getattr(data, "column_names", None) or getattr(data, "columns", None)
    return names is not None and not callable(names) and not isinstance(names, Mapping)


def is_tables(data: Any) -> bool:
    """Tell whether something is a table for each split, such as ``{"train": frame, "test": frame}``."""
    return isinstance(data, Mapping) and bool(data) and all(is_table(value) for value in data.values())


def columns_of(table: Any) -> tuple[Any, Any]:
    """Return the images and the labels of a table, by the names of its columns.

    Args:
        table: As ``is_table`` has it. Its column of images is what ``datasets`` has as images, or called as one of
            ``IMAGE_COLUMNS``; that of labels is a ``ClassLabel``, or called as one of ``LABEL_COLUMNS``.

    Raises:
        DataError: There is no such column, or several may be meant.
    """
    if not is_table(table):
        raise DataError(f"data has a {type(table).__name__}; expected a table with images and labels")
    return _column("images", table, IMAGE_COLUMNS), _column("labels", table, LABEL_COLUMNS)


def _names_of(table: Any) -> list[str]:
    if isinstance(table, Mapping):
        return [str(name) for name in table]
    if isinstance(table, list | tuple):
        return list(dict.fromkeys(str(name) for row in table for name in row))
    return [str(name) for name in (getattr(table, "column_names", None) or table.columns)]


def _only_column(table: Any) -> Any:
    names = _names_of(table)
    return _values_of(table, names[0]) if names else []


def _values_of(table: Any, name: str) -> Any:
    if not isinstance(table, list | tuple):
        return table[name]
    without = next((index for index, row in enumerate(table) if name not in row), None)
    if without is not None:
        raise DataError(f"row {without} has no {name}; it has {', '.join(map(str, table[without]))}")
    return [row[name] for row in table]


def _column(role: str, table: Any, usual: Sequence[str]) -> Any:
    """Return the column of images or labels of a table."""
    names = _names_of(table)
    features = getattr(table, "features", None)
    kinds = {name: type(features[name]).__name__ for name in names} if isinstance(features, Mapping) else {}
    typed = [name for name in names if kinds.get(name) == ("Image" if role == "images" else "ClassLabel")]
    fitting = typed if len(typed) == 1 else [name for name in typed or names if name.lower() in usual]
    if len(fitting) == 1:
        return _values_of(table, fitting[0])
    raise DataError(
        f"the table has the columns {', '.join(names)}, {'several' if fitting else 'none'} of which may be its {role}; "
        f"expected one called {', '.join(usual[:3])} or the like: rename it, or hand over the columns by themselves, "
        f"such as table[{names[0]!r}]"
    )


def _iterated(name: str, container: Any) -> list[Any]:
    """Return the items of a container, in its order."""
    if isinstance(container, set | frozenset):
        raise DataError(f"{name} is a {type(container).__name__}, which has no order; expected a list")
    if isinstance(container, Mapping):
        raise DataError(
            f"{name} is a {type(container).__name__} with the keys {', '.join(map(str, list(container)[:3]))}; "
            f"expected a list, such as list({name}.values())"
        )
    if hasattr(container, "to_pylist"):  # pyarrow's own scalars are no values
        container = container.to_pylist()
    elif not hasattr(container, "__iter__") and hasattr(container, "__array__"):
        container = np.asarray(container)
    if not isinstance(container, Iterable) or getattr(container, "ndim", 1) == 0:
        raise DataError(f"{name} is {container!r:.80}; expected a list of {name}")
    return list(container)
