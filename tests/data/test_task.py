import unicodedata

import numpy as np
import pytest

from lowshot.data import Examples, MemoryImages, Task
from lowshot.errors import DataError
from refusing import refused


def examples(*labels):
    pictures = np.arange(len(labels), dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    names = tuple(f"{i}.png" for i in range(len(labels)))
    return Examples(MemoryImages(pictures), np.asarray(labels, dtype=np.int64), names)


class Counted:
    """Images that count how often each is asked for."""

    def __init__(self, count):
        self.asked = [0] * count

    def __len__(self):
        return len(self.asked)

    def __getitem__(self, index):
        self.asked[index] += 1
        return np.full((2, 2, 3), index, np.uint8)


def test_a_subset_keeps_the_order_it_is_asked_in():
    subset = examples(0, 1, 2, 0).subset([3, 1])

    assert subset.labels.tolist() == [0, 1]
    assert subset.identities == ("3.png", "1.png")
    assert [image[0, 0, 0] for image in subset.images] == [3, 1]
    assert len(subset) == len(subset.images) == 2


def test_a_subset_of_a_subset_is_a_subset():
    subset = examples(0, 1, 2, 0).subset(np.array([3, 2, 1])).subset([2, 0])

    assert subset.identities == ("1.png", "3.png")
    assert [image[0, 0, 0] for image in subset.images] == [1, 3]


def test_an_empty_subset_has_nothing_in_it():
    assert len(examples(0, 1).subset([])) == 0


def test_a_subset_decodes_only_what_is_asked_for():
    images = Counted(5)
    whole = Examples(images, np.zeros(5, np.int64), tuple("abcde"))

    subset = whole.subset([4, 2])
    assert images.asked == [0] * 5

    subset.images[1]
    assert images.asked == [0, 0, 1, 0, 0]


def test_images_labels_and_identities_must_match():
    with refused(DataError, "2 images", "1 labels", "3 identities"):
        Examples(MemoryImages(np.zeros((2, 2, 2, 3), np.uint8)), np.zeros(1, np.int64), ("a", "b", "c"))


@pytest.mark.parametrize(
    ("names", "facts"),
    [
        ((), ("0 class(es)", 2)),
        (("cat",), ("1 class(es)", 2)),
        (("cat", "dog", "cat"), ("twice", "cat")),
        (("cat", ""), ("without a name", "''")),
        (("cat", " _"), ("without a name", "' _'")),
        (("Cat", "dog", "cat"), ("'Cat' and 'cat'", "only in case")),
        (("polar bear", "polar__bear"), ("only in case",)),
        (("straße", "STRASSE"), ("only in case",)),
        (("café", unicodedata.normalize("NFD", "café")), ("only in case",)),
    ],
)
def test_class_names_that_cannot_be_told_apart_are_refused(names, facts):
    with refused(DataError, "t", *facts):
        Task("t", names, examples())


def test_names_that_differ_in_accents_or_signs_are_different():
    assert Task("t", ("cafe", "café", "caf-e", "caf.e", "caf e"), examples()).validation is None


@pytest.mark.parametrize("split", ["train", "validation", "test"])
@pytest.mark.parametrize("label", [-1, 2])
def test_labels_must_be_classes(split, label):
    splits = {"train": examples(0, 1), split: examples(0, label)}

    with refused(DataError, "t", "labels", "0 to 1"):
        Task("t", ("cat", "dog"), **splits)


@pytest.mark.parametrize(("name", "classes"), [("\udcff", ("cat", "dog")), ("t", ("cat", "\ud800"))])
def test_names_that_no_file_can_keep_are_refused(name, classes):
    """The record of a fit would fail to be written, after the work."""
    with refused(DataError, "UTF-8", "rename it"):
        Task(name, classes, examples())


def test_the_splits_are_those_that_there_are():
    train, test = examples(0, 1), examples(1)

    assert list(Task("t", ("cat", "dog"), train, test=test).splits().items()) == [("train", train), ("test", test)]
    assert list(Task("t", ("cat", "dog"), train).splits()) == ["train"]
    assert list(Task("t", ("cat", "dog"), train, train, test).splits()) == ["train", "validation", "test"]
