"""The folders that are splits and those that are classes, by their names and contents."""

import pytest

from lowshot.data import load_task
from lowshot.data.assembling import Reading
from lowshot.data.folder import read_folder
from lowshot.errors import DataError
from refusing import refused


def read(root, **options):
    """The task and what was warned of."""
    warned = []
    return read_folder(root, Reading(warn=warned, **options)), warned


def test_folders_are_classes_and_files_are_their_images(two_classes):
    task, warned = read(two_classes)

    assert (task.name, task.class_names, warned) == ("data", ("cat", "dog"), [])
    assert task.train.identities == ("cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png")
    assert task.train.labels.tolist() == [0, 0, 1, 1]
    assert (task.validation, task.test) == (None, None)
    assert [task.train.images[i][0, 0].tolist() for i in range(4)] == [[i, 0, 255] for i in range(4)]


def test_split_folders_are_splits(make):
    root = make("train/cat/1.png", "train/dog/2.png", "val/dog/3.png", "test/cat/4.png", "test/dog/5.png")

    task, warned = read(root)

    assert warned == []
    assert (task.train.identities, task.train.labels.tolist()) == (("cat/1.png", "dog/2.png"), [0, 1])
    assert (task.validation.identities, task.validation.labels.tolist()) == (("dog/3.png",), [1])
    assert (task.test.identities, task.test.labels.tolist()) == (("cat/4.png", "dog/5.png"), [0, 1])


@pytest.mark.parametrize("name", ["val", "valid", "validation", "Val", "VALIDATION"])
def test_validation_has_several_names(make, name):
    task, _ = read(make("Train/cat/1.png", "Train/dog/2.png", f"{name}/cat/3.png"))

    assert len(task.validation) == 1


def test_a_class_may_be_called_train(make):
    task, warned = read(make("bus/1.png", "train/2.png", "test/3.png"))

    assert (task.class_names, len(task.train), warned) == (("bus", "test", "train"), 3, [])


def test_a_test_split_without_train_is_refused(make):
    with refused(DataError, "data", "a test split", "--train DIR"):
        read(make("test/cat/1.png", "test/dog/1.png"))


def test_a_folder_around_a_data_set_is_told_from_it(make):
    """As where an archive was unpacked into a folder of its own."""
    root = make("pets/train/cat/1.png", "pets/train/dog/2.png", "pets/test/cat/3.png")
    with refused(DataError, "one folder, pets", "test, train", f"expected {root}/pets"):
        read(root)


def test_two_folders_for_one_split_are_refused(make):
    with refused(DataError, "val and valid", "--validation DIR"):
        read(make("train/cat/1.png", "train/dog/1.png", "val/cat/2.png", "valid/cat/3.png"))


def test_folders_beside_the_splits_are_said_to_be_left_out(make):
    root = make("train/cat/1.png", "train/dog/1.png", "unlabelled/a/1.png", "extra/1.png")

    task, warned = read(root)

    assert len(task.train) == 2
    assert warned == [f"{root}: left out 2 folder(s) that are no split: extra, unlabelled"]


SPLIT_NAMES = [
    ("Training", "Testing"),
    ("train_images", "test_images"),
    ("TrainImages", "TestImages"),
    ("asl_train", "asl_test"),
    ("training_set", "test_set"),
    ("train2017", "eval2017"),
    ("train", "evaluation"),
]


@pytest.mark.parametrize(("train", "test"), SPLIT_NAMES)
def test_splits_are_known_by_other_words_and_by_parts_of_names(make, train, test):
    """They became two classes."""
    task, warned = read(make(f"{train}/cat/1.png", f"{train}/dog/2.png", f"{test}/cat/3.png"))

    assert (task.class_names, len(task.train), len(task.test)) == (("cat", "dog"), 2, 1)
    assert all(f"{train} as train" in line for line in warned)


def test_an_archives_own_folder_of_the_same_name_is_gone_into(make):
    root = make("seg_train/seg_train/a/1.png", "seg_train/seg_train/b/2.png", "seg_test/seg_test/a/3.png")
    make("seg_pred/seg_pred/4.png")

    task, warned = read(root)

    assert (task.train.identities, task.test.identities) == (("a/1.png", "b/2.png"), ("a/3.png",))
    assert warned[:2] == [
        f"{root}: left out 1 folder(s) that are no split: seg_pred",
        f"{root}: read seg_test/seg_test as test, seg_train/seg_train as train",
    ]


def test_a_folder_called_by_the_word_alone_goes_before_one_that_only_has_it_in_its_name(make):
    root = make("train/cat/1.png", "train/dog/2.png", "train_masks/cat/1.png", "test/dog/3.png", "eval/dog/4.png")

    task, warned = read(root)

    assert (len(task.train), task.test.identities) == (2, ("dog/3.png",))
    assert warned == [f"{root}: left out 2 folder(s) that are no split: eval, train_masks"]


@pytest.mark.parametrize(
    "names", [("freight_train", "bus"), ("freight_train", "passenger_train"), ("test_tube", "cup")]
)
def test_a_class_may_have_a_splits_word_in_its_name(make, names):
    task, _ = read(make(*(f"{name}/{number}.png" for number, name in enumerate(names)), f"{names[0]}/front/9.png"))

    assert task.class_names == tuple(sorted(name.replace("_", " ") for name in names))


@pytest.mark.parametrize(
    "files",
    [
        ("train/1.png", "test/2.png"),
        ("train/1.png",),
        ("train_images/1.png", "test_images/2.png"),
        ("images/1.png", "masks/1.png"),
        ("images/1.png", "labels/1.png", "train/2.png"),
        ("fold1/cat/1.png", "fold1/dog/2.png", "fold2/cat/3.png", "fold2/dog/4.png"),
        ("Split_1/1.png", "Split_2/2.png"),
        ("images/cat/1.png", "images/dog/1.png"),
    ],
)
def test_folders_called_as_parts_of_a_data_set_are_no_classes(make, files):
    with refused(DataError, "parts", "not as classes", "--train DIR", "--test DIR"):
        read(make(*files))


@pytest.mark.parametrize(
    "files",
    [
        ("animals/cat/1.png", "animals/dog/2.png", "plants/rose/3.png", "plants/fern/4.png"),
        ("train/animals/cat/1.png", "train/plants/rose/3.png", "train/plants/fern/4.png"),
        ("photos/cat/1.png", "photos/dog/1.png"),
    ],
)
def test_classes_without_images_but_in_folders_within_them_are_asked_about(make, files):
    with refused(DataError, "no images", "folders within", "--train DIR"):
        read(make(*files))


def test_what_is_meant_can_be_said(make):
    root = make("a/cat/1.png", "a/dog/2.png", "b/cat/3.png", "b/dog/4.png")

    outer, inner = load_task({"train": str(root)}), load_task({"train": root / "a", "test": root / "b"})

    assert (outer.name, outer.class_names, outer.train.identities[0]) == ("data", ("a", "b"), "a/cat/1.png")
    assert (inner.name, inner.class_names) == ("data", ("cat", "dog"))
    assert (inner.train.identities, inner.test.identities) == (("cat/1.png", "dog/2.png"), ("cat/3.png", "dog/4.png"))


@pytest.mark.parametrize("splits", [("test",), ("train", "tset"), ()])
def test_a_split_of_another_name_is_refused(two_classes, splits):
    with refused(DataError, "'train'", "'validation' and 'test'"):
        load_task(dict.fromkeys(splits, two_classes))


def test_images_may_lie_in_folders_within_their_class_and_that_is_said(make):
    root = make("cat/black/1.png", "cat/white/deep/2.png", "cat/3.png", "dog/1.png")
    task, warned = read(root)

    assert task.train.identities == ("cat/3.png", "cat/black/1.png", "cat/white/deep/2.png", "dog/1.png")
    assert len(warned) == 1
    assert "2 image(s) of 1 of its 2 classes lie in folders within the class, such as cat/black/1.png" in warned[0]
    assert "the classes are cat, dog. --train DIR" in warned[0]


def test_one_folder_of_the_same_name_within_every_class_is_no_question(make):
    task, warned = read(make("n01/images/1.png", "n02/images/2.png"))

    assert (task.class_names, warned) == (("n01", "n02"), [])


def test_files_of_one_name_in_two_classes_have_two_identities(two_classes):
    task, _ = read(two_classes)

    assert len(set(task.train.identities)) == 4


def test_every_suffix_counts_in_any_case(make):
    task, warned = read(make("cat/1.PNG", "cat/2.JpEg", "cat/3.tif", "cat/4.webp", "dog/1.gif", "dog/2.bmp"))

    assert (len(task.train), warned) == (6, [])
