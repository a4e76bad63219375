import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data import layouts
from lowshot.data import Examples, Task, builtin_task, load_task
from lowshot.data.protocols import base_and_new, default_targets, learnt_part, other_tasks
from lowshot.errors import DataError, InputError
from lowshot.settings import DataConfig
from refusing import refused

BASE_TO_NEW = DataConfig(protocol="base-to-new")


class Numbers:
    """Images that show their own number."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return np.full((1, 1, 3), index, np.uint8)


def examples(labels, split=""):
    names = tuple(f"{split}{number}" for number in range(len(labels)))
    return Examples(Numbers(len(labels)), np.asarray(labels, dtype=np.int64), names)


def task_of(classes, train, test=None, validation=None):
    """Class names in an order that is not the alphabet's."""
    names = tuple(f"class {number * 7 % 30:02}" for number in range(classes))
    splits = {"train": train, "validation": validation, "test": test}
    return Task("things", names, **{s: None if labels is None else examples(labels, s) for s, labels in splits.items()})


@st.composite
def tasks(draw):
    classes = draw(st.integers(4, 23))
    labels = st.lists(st.integers(0, classes - 1), max_size=40)
    return task_of(classes, draw(labels), draw(st.none() | labels), draw(st.none() | labels))


def content(task, split, first):
    """The facts of each image of a split: the label in the whole task, the identity, what it shows."""
    examples = getattr(task, split)
    shown = [int(examples.images[i][0, 0, 0]) for i in range(len(examples))]
    return list(zip((examples.labels + first).tolist(), examples.identities, shown, strict=True))


@given(tasks())
def test_base_and_new_classes_part_the_classes_in_label_order_the_first_half_rounded_up(task):
    base, new = base_and_new(task)
    assert base.class_names + new.class_names == task.class_names
    assert len(base.class_names) == math.ceil(len(task.class_names) / 2)


@given(tasks())
def test_every_image_is_in_one_half_with_its_class_its_identity_and_its_order(task):
    base, new = base_and_new(task)
    first_new = len(base.class_names)
    for split in ("train", "validation", "test"):
        if getattr(task, split) is None:
            assert getattr(base, split) is None
            assert getattr(new, split) is None
            continue
        whole = content(task, split, 0)
        assert content(base, split, 0) == [image for image in whole if image[0] < first_new]
        assert content(new, split, first_new) == [image for image in whole if image[0] >= first_new]


def test_the_halves_are_named_and_keep_what_else_is_known_of_the_task():
    base, new = base_and_new(builtin_task("letters"))
    assert (base.name, new.name) == ("letters (base)", "letters (new)")
    assert base.summary == new.summary == builtin_task("letters").summary


def test_no_image_is_decoded_to_part_the_classes():
    class Closed(Numbers):
        def __getitem__(self, index):
            raise AssertionError("decoded")

    everything = Examples(Closed(4), np.arange(4), tuple("abcd"))
    base_and_new(Task("things", ("a", "b", "c", "d"), everything, test=everything))


def test_three_classes_have_no_two_halves():
    with refused(DataError, "things", "3 classes", "base-to-new", 4):
        base_and_new(task_of(3, [0, 1, 2]))


def test_only_base_to_new_learns_a_part():
    task = task_of(5, [0, 1, 2, 3, 4])
    assert learnt_part(task, BASE_TO_NEW).class_names == task.class_names[:3]
    for config in (DataConfig(), DataConfig(protocol="cross-dataset", targets=("letters",))):
        assert learnt_part(task, config) is task


def test_few_shot_judges_nothing_else():
    assert other_tasks(task_of(3, [0, 1, 2]), DataConfig(), []) == {}


def test_base_to_new_judges_the_new_classes():
    others = other_tasks(task_of(5, [0, 1, 2], test=[0, 3, 4]), BASE_TO_NEW, [])
    assert {name: other.test.labels.tolist() for name, other in others.items()} == {"new": [0, 1]}


@pytest.mark.parametrize("splits", [{"train": [0, 1, 3], "test": [0, 1]}, {"train": [0, 1]}], ids=str)
def test_new_classes_without_an_image_to_judge_are_refused(splits):
    with refused(DataError, "things (new)", "no images"):
        other_tasks(task_of(4, **splits), BASE_TO_NEW, [])


# -- targets -----------------------------------------------------------------------------------------------------------


def test_what_imagenet_is_transferred_to_is_that_of_the_papers():
    ten = "caltech101 oxford_pets stanford_cars oxford_flowers food101 fgvc sun397 dtd eurosat ucf101"
    assert " ".join(default_targets("cross-dataset", "imagenet")) == ten
    shifts = ("imagenetv2", "imagenet_sketch", "imagenet_a", "imagenet_r")
    assert default_targets("domain-generalisation", "imagenet") == shifts


@pytest.mark.parametrize("protocol", ["cross-dataset", "domain-generalisation"])
def test_other_data_have_no_usual_targets(protocol):
    with refused(InputError, protocol, "letters", "imagenet", "--targets NAME"):
        other_tasks(builtin_task("letters"), DataConfig(protocol=protocol), [])


def test_targets_are_whatever_can_be_learnt_from_each_under_the_name_it_was_given(tmp_path):
    for label in ("cat", "dog"):
        layouts.picture(tmp_path / "photos" / label / "1.png")
    names = ("digits", str(tmp_path / "photos"))
    others = other_tasks(builtin_task("letters"), DataConfig(protocol="cross-dataset", targets=names), [])
    assert tuple(others) == names
    assert [other.class_names for other in others.values()] == [builtin_task("digits").class_names, ("cat", "dog")]


def test_what_is_to_be_said_of_a_target_is_said(tmp_path):
    for label in ("cat", "dog"):
        layouts.picture(tmp_path / "photos" / label / "1.png")
    (tmp_path / "photos" / "cat" / "notes.txt").write_text("x")
    warned = []
    other_tasks(
        builtin_task("letters"), DataConfig(protocol="cross-dataset", targets=(str(tmp_path / "photos"),)), warned
    )
    assert ["left out 1 file" in line for line in warned] == [True]


@pytest.fixture
def imagenet(tmp_path, monkeypatch):
    """ImageNet and two of its shifts, in miniature."""
    for name in ("imagenet", "imagenetv2", "imagenet_a"):
        layouts.install(name, tmp_path, monkeypatch)
    return load_task("imagenet", root=tmp_path)


def test_of_targets_that_are_not_there_all_are_named_and_the_others_offered(imagenet, tmp_path):
    config = DataConfig(protocol="domain-generalisation", root=str(tmp_path))
    with pytest.raises(DataError) as raised:
        other_tasks(imagenet, config, [])
    message = str(raised.value)
    assert message.startswith("2 of 4 targets cannot be read: imagenet_sketch, imagenet_r; imagenet_sketch: ")
    assert "lowshot data prepare imagenet_sketch" in message
    assert message.endswith("to go on with the others: --targets imagenetv2 imagenet_a")


def test_where_no_target_is_there_none_is_offered(imagenet, tmp_path):
    with refused(DataError, "10 of 10", "caltech101, oxford_pets") as raised:
        other_tasks(imagenet, DataConfig(protocol="cross-dataset", root=str(tmp_path)), [])
    assert "go on with" not in str(raised.value)


def test_a_misspelt_target_offers_the_nearest():
    config = DataConfig(protocol="cross-dataset", targets=("digitz", "greek"))
    with refused(DataError, "1 of 2", "'digitz'", "did you mean digits", "--targets greek"):
        other_tasks(builtin_task("letters"), config, [])


def test_the_shifts_that_are_chosen_are_read_with_classes_of_their_own(imagenet, tmp_path):
    config = DataConfig(protocol="domain-generalisation", targets=("imagenet_a", "imagenetv2"), root=str(tmp_path))
    others = other_tasks(imagenet, config, [])
    assert {name: other.class_names for name, other in others.items()} == {
        name: tuple(layouts.CLASS_NAMES[name]) for name in ("imagenet_a", "imagenetv2")
    }
