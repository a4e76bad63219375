import os
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lowshot.data import BUILTIN_TASKS, builtin_task, draw_from, load_task, task_of_arrays
from lowshot.errors import DataError, ImageError, UnknownNameError
from refusing import refused


@pytest.fixture
def folder(tmp_path):
    """A folder of two classes that is called as a built-in task is."""
    for name, colour in (("cat", "red"), ("dog", "blue")):
        (tmp_path / "digits" / name).mkdir(parents=True)
        Image.new("RGB", (2, 2), colour).save(tmp_path / "digits" / name / "1.png")
    return tmp_path / "digits"


def pictures(*levels):
    return [np.full((2, 3, 3), level, np.uint8) for level in levels]


# -- names and paths ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BUILTIN_TASKS)
def test_a_name_is_the_builtin_task(name):
    assert load_task(name) is builtin_task(name)


def test_a_path_is_a_folder(folder):
    for path in (folder, str(folder)):
        assert load_task(path).class_names == ("cat", "dog")


def test_a_name_that_is_both_is_the_builtin_task_and_a_path_is_the_folder(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)

    assert len(load_task("digits").class_names) == 10
    for path in ("./digits", Path("./digits"), Path("digits"), "digits/"):
        assert load_task(path).class_names == ("cat", "dog")


def test_a_folder_may_be_named_without_a_slash(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    folder.rename("pets")

    assert load_task("pets").name == "pets"


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("digit", ("did you mean digits",)),
        ("Greek", ("did you mean greek",)),
        ("zzzz", ("accents, caltech101, cyrillic", "digits, digits-wild, dtd")),
        ("", ("known: accents",)),
    ],
)
def test_a_name_of_neither_offers_the_nearest(name, facts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with refused(UnknownNameError, "task, data set", f"'{name}'", *facts):
        load_task(name)


@pytest.mark.parametrize("path", ["./digit", "some/where", "/no/such/place", Path("digit")])
def test_a_path_to_nothing_does_not_exist(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="does not exist") as caught:
        load_task(path)
    assert not isinstance(caught.value, UnknownNameError)


def test_a_file_beside_is_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("pets").touch()
    with pytest.raises(DataError, match="data pets is a file"):
        load_task("pets")


@pytest.mark.parametrize("name", ["pets.tsv", "pets.xlsx", "pets.tar.gz", "pets.zip", "cat.jpg"])
def test_a_file_of_no_known_kind_says_which_are_known(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    with refused(DataError, tmp_path / name, ".csv, .jsonl, .parquet", ".tar"):
        load_task(tmp_path / name)


@pytest.mark.parametrize("suffix", ["", ".csv", ".tar"])
def test_a_name_that_no_file_can_have_is_no_traceback(tmp_path, suffix):
    long, ring = "x" * 300 + suffix, tmp_path / f"ring{suffix}"
    ring.symlink_to(ring)
    with refused(UnknownNameError, "task, data set", f"'{long}'"):
        load_task(long)
    for path in (tmp_path / long, ring, f"./{long}", f"nul\0{suffix}/", f"hf:{long}", f"hf:{ring}", "hf:~nobody/x"):
        with refused(DataError, Path(path)):
            load_task(path)


@pytest.mark.parametrize("name", ["\udcff", "\ud800"])
def test_a_name_that_is_not_utf8_is_refused_before_it_gets_into_a_record(tmp_path, name):
    for label in ("cat", "dog"):
        (tmp_path / "\udcff" / label).mkdir(parents=True)
        Image.new("RGB", (2, 2)).save(tmp_path / "\udcff" / label / "1.png")
    for path in (tmp_path / name, tmp_path / name / "cat" / "..", tmp_path / f"{name}.csv"):
        with refused(DataError, "UTF-8", "rename it") as caught:
            load_task(path)
        str(caught.value).encode()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.timeout(20)
@pytest.mark.parametrize("suffix", ["", ".csv", ".jsonl", ".parquet", ".tar"])
def test_a_named_pipe_or_socket_is_not_waited_for(tmp_path, suffix):
    os.mkfifo(tmp_path / f"pipe{suffix}")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / f"socket{suffix}"))
    for name in ("pipe", "socket"):
        with refused(DataError, tmp_path / f"{name}{suffix}", "file"):
            load_task(tmp_path / f"{name}{suffix}")


def test_what_may_not_be_looked_at_is_no_traceback(tmp_path, monkeypatch):
    stat = Path.stat

    def refusing(self, **options):
        if self.is_relative_to(tmp_path / "closed"):
            raise PermissionError(13, "Permission denied", str(self))
        return stat(self, **options)

    def not_listing(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", refusing)
    monkeypatch.setattr(os, "scandir", not_listing)
    for suffix, fact in (("", "Permission denied"), (".csv", "no file")):
        with refused(DataError, tmp_path / "closed" / f"pets{suffix}", fact):
            load_task(tmp_path / "closed" / f"pets{suffix}")


def test_bad_images_and_warnings_reach_the_folder(folder):
    (folder / "cat" / "bad.png").touch()
    warned = []

    load_task(folder, "skip", warned)

    assert len(warned) == 1
    assert "bad.png" in warned[0]


# -- images in memory --------------------------------------------------------------------------------------------------


def test_images_of_any_kind_and_size_make_a_task(tmp_path):
    path = tmp_path / "image.png"
    Image.new("RGB", (4, 5), (1, 2, 3)).save(path)

    task = task_of_arrays([path, str(path), Image.open(path), np.zeros((2, 2)), *pictures(7)], list("babac"))

    assert (task.name, task.class_names) == ("images", ("a", "b", "c"))
    assert task.train.labels.tolist() == [1, 0, 1, 0, 2]
    assert [task.train.images[i].shape for i in range(5)] == [(5, 4, 3)] * 3 + [(2, 2, 3), (2, 3, 3)]
    assert (task.train.images[1] == [1, 2, 3]).all()


def test_one_array_holds_many_images():
    task = task_of_arrays(np.zeros((4, 2, 2, 3), np.uint8), np.array([3, 10, 3, 10]))

    assert (task.class_names, task.class_labels) == (("3", "10"), (3, 10))
    assert task.train.labels.tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize(
    "label", [None, float("nan"), np.float64("nan"), np.array([0, 1]), [1], b"cat", {"a": 1}, np.datetime64("NaT")]
)
def test_a_label_that_is_neither_text_nor_number_is_refused(label):
    """``None`` and ``nan`` became the names of classes."""
    with refused(DataError, "labels[1]", "a class"):
        task_of_arrays(pictures(1, 2), ["a", label])


@pytest.mark.parametrize(
    ("labels", "facts"),
    [
        ([1, "1", 2], ("labels[0] is 1", "labels[1] is '1'")),
        ([True, False, 2], ("labels[0] is True", "labels[2] is 2")),
    ],
)
def test_labels_are_of_one_kind(labels, facts):
    with refused(DataError, *facts):
        task_of_arrays(pictures(1, 2, 3), labels)


def test_scalars_of_torch_are_what_they_hold():
    assert task_of_arrays(pictures(1, 2), torch.tensor([3, 7])).class_names == ("3", "7")


@pytest.mark.parametrize(
    ("labels", "names", "known_by"),
    [
        ([np.str_("x"), "w"], ("w", "x"), ()),
        ([True, np.bool_(False)], ("False", "True"), (False, True)),
        ([10, np.uint8(9)], ("9", "10"), (9, 10)),
        ([-1, 1], ("-1", "1"), (-1, 1)),
        ([2.5, np.float32(0.5)], ("0.5", "2.5"), (0.5, 2.5)),
        (torch.tensor([3, 1]), ("1", "3"), (1, 3)),
        (np.array([["b"], ["a"]], dtype=object), ("a", "b"), ()),
    ],
    ids=str,
)
def test_classes_are_in_the_natural_order_of_their_labels(labels, names, known_by):
    task = task_of_arrays(pictures(1, 2), labels)
    assert (task.class_names, task.class_labels) == (names, known_by)
    assert [type(label) for label in task.class_labels] == [type(label) for label in known_by]


def test_a_whole_number_and_the_same_fraction_are_one_class():
    task = task_of_arrays(pictures(1, 2, 3), [1, 1.0, 2.5])
    assert (task.class_labels, task.train.labels.tolist()) == ((1.0, 2.5), [0, 0, 1])


PIXELS_AND_LABELS = st.lists(st.tuples(st.integers(0, 3), st.sampled_from("abc")), min_size=2, max_size=16).filter(
    lambda items: len({label for _, label in items}) > 1
)


@given(PIXELS_AND_LABELS, st.integers(1, 3), st.randoms(use_true_random=False))
def test_the_order_of_the_list_changes_no_draw(items, shots, random):
    """Even where images are the same, under one label or under several."""

    def drawn(items):
        task = task_of_arrays(pictures(*(level for level, _ in items)), [label for _, label in items])
        draw = draw_from(task, shots, seed=1)
        return [(task.train.identities[i], items[i]) for i in draw.indices]

    assert drawn(random.sample(items, len(items))) == drawn(items)


def test_an_identity_is_the_content_and_its_shape():
    images = [np.zeros((2, 3, 3), np.uint8), np.zeros((3, 2, 3), np.uint8), np.zeros((2, 3, 3), np.uint8)]

    first, turned, again = task_of_arrays(images, ["a", "b", "a"]).train.identities

    assert first.split("/")[0] == again.split("/")[0] != turned.split("/")[0]
    assert first != again


def test_how_an_array_lies_in_memory_changes_no_identity():
    picture = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    for other in (np.asfortranarray(picture), np.repeat(picture, 2, axis=1)[:, ::2]):
        assert task_of_arrays([picture, picture], list("ab")).train.identities == (
            task_of_arrays([other, other], list("ab")).train.identities
        )


@pytest.mark.parametrize(
    ("images", "labels", "kind", "facts"),
    [
        (pictures(1, 2), ["a"], DataError, ("2 images", "1 labels")),
        ([], [], DataError, ("no images", "FewShotClassifier.zero_shot")),
        (pictures(1, 2), ["a", "a"], DataError, ("images", "1 class(es)", 2)),
        (pictures(1, 2), ["a", "A"], DataError, ("images", "'A' and 'a'")),
        (pictures(1, 2), ["a", ""], DataError, ("images", "without a name")),
        ([None, None], ["a", "b"], ImageError, ("images[0]", "a NoneType")),
        ([np.zeros((2, 2, 4), np.uint8)] * 2, ["a", "b"], ImageError, ("images[0]", "(2, 2, 4)")),
        (["none.png", "none.png"], ["a", "b"], ImageError, ("none.png", "does not exist")),
    ],
)
def test_what_makes_no_task_is_refused(images, labels, kind, facts):
    with refused(kind, *facts):
        task_of_arrays(images, labels)
