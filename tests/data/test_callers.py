"""Whatever callers hand over, its images and labels are taken in its own order, or it is refused in a line."""

import collections
import io

import numpy as np
import pytest
import torch
from PIL import Image

from lowshot.data import (
    ImagesOnDemand,
    as_pixels,
    columns_of,
    images_in_order,
    is_tables,
    labels_in_order,
    positions,
    task_from,
    task_of_arrays,
    task_of_names,
)
from lowshot.errors import DataError
from refusing import refused

NAMES = ["b.png", "a.png", "c.png"]


class Shuffled:
    """A shuffled column of pandas as it is: iterated in its order, indexed by labels that are others."""

    def __init__(self, values):
        self._values = values

    def __len__(self):
        return len(self._values)

    def __iter__(self):
        return iter(self._values)

    def __getitem__(self, label):
        return self._values[::-1][label]


class Lazy:
    """Images that are asked for by their number alone."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return np.full((2, 2, 3), index, np.uint8)


def in_order(images):
    return [images[index] for index in range(len(images))]


@pytest.mark.parametrize(
    "container",
    [
        NAMES,
        tuple(NAMES),
        Shuffled(NAMES),
        (name for name in NAMES),
        dict.fromkeys(NAMES).keys(),
        {1: "b.png", 2: "a.png", 3: "c.png"}.values(),
        collections.deque(NAMES),
        np.array(NAMES),
        np.array(NAMES, dtype=object)[:, None],
    ],
    ids=lambda container: type(container).__name__,
)
def test_the_order_is_that_in_which_a_container_is_iterated(container):
    assert in_order(images_in_order(container)) == NAMES


@pytest.mark.parametrize("pick", [lambda frame: frame["path"], lambda frame: frame[["path"]]], ids=["column", "frame"])
def test_rows_of_pandas_keep_the_order_of_the_frame_whatever_their_numbers(pick):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"path": [*"xyz", *NAMES], "label": [9, 9, 9, 2, 1, 3]}, index=[5, 4, 3, 2, 0, 1]).iloc[3:]
    assert in_order(images_in_order(pick(frame))) == NAMES
    assert labels_in_order(frame["label"])[0] == labels_in_order(frame[["label"]])[0] == [2, 1, 3]
    assert labels_in_order(frame["label"].astype("category"))[0] == [2, 1, 3]


def test_columns_of_pyarrow_hold_plain_values():
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.table({"path": NAMES, "label": [2, 1, 3]})
    assert in_order(images_in_order(table["path"])) == NAMES
    assert labels_in_order(table["label"])[0] == [2, 1, 3]


def test_what_is_indexed_alone_is_asked_for_an_image_when_it_is_needed():
    lazy = Lazy()
    assert images_in_order(lazy) is lazy


def test_an_array_is_its_images():
    rgb, grey = np.zeros((5, 4, 6, 3), np.uint8), np.zeros((5, 4, 6), np.uint8)
    assert [image.shape for image in in_order(ImagesOnDemand(images_in_order(rgb)))] == [(4, 6, 3)] * 5
    assert [image.shape for image in in_order(ImagesOnDemand(images_in_order(grey)))] == [(4, 6, 3)] * 5


@pytest.mark.parametrize("count", range(1, 6))
def test_grey_images_in_an_array_are_as_many_as_it_has(count):
    """A last batch of three or four was taken for one image with its channels first."""
    grey = np.arange(count * 24, dtype=np.uint8).reshape(count, 4, 6)
    images = in_order(ImagesOnDemand(images_in_order(grey)))
    assert [image[..., 0].tolist() for image in images] == grey.tolist()


@pytest.mark.parametrize("channels", [3, 1])
def test_tensors_of_torch_have_their_channels_first(channels):
    tensors = torch.rand(2, channels, 4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    [first, _] = in_order(ImagesOnDemand(images_in_order(tensors.requires_grad_())))
    expected = tensors[0].detach().permute(1, 2, 0).expand(-1, -1, 3).numpy()
    assert np.array_equal(first, as_pixels(np.ascontiguousarray(expected, np.float32)))
    assert as_pixels(torch.zeros(4, 6, 3, dtype=torch.uint8)).shape == (4, 6, 3)
    assert as_pixels(torch.zeros(3, 4, 6, dtype=torch.bfloat16)).shape == (4, 6, 3)


def test_bytes_of_a_file_are_an_image():
    file = io.BytesIO()
    Image.new("RGB", (3, 2), (1, 2, 3)).save(file, "PNG")
    for content in (file.getvalue(), bytearray(file.getvalue()), file.getbuffer()):
        assert as_pixels(content).tolist() == [[[1, 2, 3]] * 3] * 2


def frame_of_two_columns():
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame({"path": NAMES, "label": [1, 2, 3]})


def frame_of_unnamed_columns():
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame({"this": NAMES, "that": [1, 2, 3]})


ROWS = [{"image": name, "label": label, "size": 3} for name, label in zip(NAMES, (1, 2, 3), strict=True)]


def dataset():
    datasets = pytest.importorskip("datasets")
    names = datasets.ClassLabel(names=["x", "cat", "cow", "dog"])
    features = datasets.Features({"shot": datasets.Image(), "animal": names, "label": datasets.Value("string")})
    file = io.BytesIO()
    Image.new("RGB", (3, 2), (1, 2, 3)).save(file, "PNG")
    rows = [{"shot": {"bytes": file.getvalue(), "path": None}, "animal": label, "label": "no"} for label in (1, 2, 3)]
    return datasets.Dataset.from_list(rows, features=features)


@pytest.mark.parametrize(
    "table",
    [
        frame_of_two_columns,
        lambda: pytest.importorskip("polars").DataFrame({"Image": NAMES, "class": [1, 2, 3], "size": [1, 1, 1]}),
        lambda: pytest.importorskip("pyarrow").table({"image": NAMES, "label": [1, 2, 3]}),
        lambda: ROWS,
        lambda: {"file": NAMES, "label": [1, 2, 3]},
    ],
    ids=["pandas", "polars", "pyarrow", "rows", "columns"],
)
def test_images_and_labels_are_taken_from_a_table_by_the_names_of_its_columns(table):
    images, labels = columns_of(table())
    assert in_order(images_in_order(images)) == NAMES == in_order(images_in_order(table()))
    assert labels_in_order(labels)[0] == [1, 2, 3]


def test_a_table_of_datasets_says_by_itself_which_columns_are_images_and_classes():
    images, labels = columns_of(dataset())
    assert as_pixels(images_in_order(images)[0]).shape == (2, 3, 3)
    assert labels_in_order(labels) == ([1, 2, 3], {1: "cat", 2: "cow", 3: "dog"})


def test_a_table_for_each_split_is_a_task_with_the_classes_of_train():
    def rows(*labels):
        return [{"image": np.full((2, 2, 3), row, np.uint8), "label": label} for row, label in enumerate(labels)]

    tables = {"train": rows("b", "a", "c"), "test": rows("c", "b")}
    assert is_tables(tables) and not is_tables({"train": "photos"}) and not is_tables({"image": NAMES})
    task = task_from(tables)
    assert task.class_names == ("a", "b", "c")
    assert task.test.labels.tolist() == [2, 1] and task.validation is None
    with refused(DataError, "test", "'d'", "train"):
        task_from({**tables, "test": rows("a", "d")})
    with refused(DataError, "'tset'", "validation"):
        task_from({"train": tables["train"], "tset": tables["test"]})
    with refused(DataError, "the splits test", "expected train"):
        task_from({"test": tables["test"]})


@pytest.mark.parametrize(
    ("table", "facts"),
    [
        ([{"image": "a", "file": "b", "label": 1}], ("image, file, label", "several", "images")),
        ([{"image": "a", "kind": 1}], ("image, kind", "none", "labels", "label, labels")),
        (["a.png"], ("a list", "a table")),
    ],
)
def test_a_table_whose_columns_cannot_be_told_apart_is_refused(table, facts):
    with refused(DataError, *facts):
        columns_of(table)


def test_classes_may_be_names_alone():
    assert task_of_names(("dog", "cat")).class_names == ("dog", "cat")
    unfit = [("dog", ("one text", "'dog'")), ([1, 2], (1, "names of classes")), (["a", "a"], ("twice", "a"))]
    for names, facts in unfit:
        with refused(DataError, *facts):
            task_of_names(names)


@pytest.mark.parametrize(
    ("images", "facts"),
    [
        ("a.png", ("one path", "'a.png'", "[image]")),
        (b"\x89PNG", ("the bytes", "[image]")),
        (Image.new("L", (2, 2)), ("one PIL image", "[image]")),
        (io.BytesIO(), ("one open file", "[image]")),
        (np.zeros((48, 48, 3)), ("(48, 48, 3)", "[image]", "(N, height, width, 3)")),
        (torch.zeros(3, 48, 48), ("(3, 48, 48)", "[image]", "(N, channels, height, width)")),
        (np.zeros((48, 48)), ("(48, 48)", "[image]")),
        (np.array(1.0), ("()", "[image]")),
        ({"a.png"}, ("images", "a set", "no order")),
        ({"a.png": 1}, ("a dict", "a.png", "list(images.values())")),
        (frame_of_unnamed_columns, ("this, that", "none", "images", "image, images")),
        ([{"image": "a.png"}, {"other": "b.png"}], ("row 1", "image", "other")),
        (None, ("None", "list of images")),
        (5, (5, "list of images")),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_is_one_image_or_has_no_order_is_refused(images, facts):
    with refused(DataError, *facts):
        images_in_order(images() if callable(images) else images)


@pytest.mark.parametrize(
    ("labels", "facts"),
    [
        ("ab", ("one text", "'ab'")),
        ({"a", "b"}, ("labels", "a set", "no order")),
        ({"a": 1}, ("labels", "a dict")),
        (5, (5, "list of labels")),
        (np.array(5), ("array(5)", "list of labels")),
        (np.eye(2), ("labels[0]", "array([1., 0.])")),
        ([0.5, float("inf")], ("labels[1]", "inf")),
        ([1, 1 << 64], ("labels[1]", 1 << 64)),
        (frame_of_two_columns, ("a DataFrame", "path, label")),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_are_no_labels_is_refused(labels, facts):
    with refused(DataError, *facts):
        labels_in_order(labels() if callable(labels) else labels)


def test_missing_labels_of_pandas_are_named():
    pandas = pytest.importorskip("pandas")
    with pytest.raises(DataError, match=r"labels\[1\] is <NA>"):
        labels_in_order(pandas.Series([1, None], dtype="Int64"))


def test_an_object_that_is_no_more_than_an_array_is_one():
    class NoMore:
        def __array__(self, dtype=None, copy=None):
            return np.array([3, 1], dtype)

    assert labels_in_order(NoMore())[0] == [3, 1]


def test_a_column_of_class_labels_names_its_classes_in_its_own_order():
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"label": datasets.ClassLabel(names=["zebra", "maine_coon", "ape", "unused"])})
    column = datasets.Dataset.from_dict({"label": [2, 0, 1]}, features=features)["label"]
    task = task_of_arrays([Lazy()[i] for i in range(3)], column)
    assert (task.class_names, task.class_labels) == (("zebra", "maine coon", "ape"), (0, 1, 2))
    assert task.train.labels.tolist() == [2, 0, 1]
    table = datasets.Dataset.from_dict({"label": [2, 0, 1]}, features=features)
    assert labels_in_order(table) == labels_in_order(table["label"])
    unknown = datasets.Dataset.from_dict({"label": [2, -1, 1]}, features=features)["label"]
    with pytest.raises(DataError, match=r"labels\[1\] is -1; expected 0 to 3"):
        labels_in_order(unknown)


@pytest.mark.parametrize(
    ("labels", "known_by", "names"),
    [
        ([10, 2], [2, 10], ["2", "10"]),
        ([10.0, 2.0], [2, 10], ["2", "10"]),
        (["10", "2"], [2, 10], ["2", "10"]),
        ([10, 2], ["2", "10"], ["2", "10"]),  # an adapter of before, which knew texts alone
        (["ape", "cat"], [7, 3], ["cat", "ape"]),
        ([3, 7], [7, 3], ["cat", "ape"]),
        ([True, False], [False, True], ["False", "True"]),
    ],
)
def test_a_class_is_known_by_its_label_or_its_name(labels, known_by, names):
    assert positions(labels, known_by, names).tolist() == [1, 0]


def test_a_label_of_no_class_is_named():
    with refused(DataError, "label 5", 2, "one of 2, 10"):
        positions([2, 5], [2, 10], ["2", "10"])
