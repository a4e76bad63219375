"""Which image to label next, from embeddings to the command."""

import csv
import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from lowshot.cli import main
from lowshot.data import addition_from
from lowshot.errors import DataError, ImageError, InputError
from lowshot.heads import Text
from lowshot.labelling import Unlabelled, suggested_images, suggestions
from lowshot.labelling.guesses import class_probabilities
from lowshot.labelling.next_images import next_images, standing_for_many, typical
from lowshot.settings import preset_recipe
from refusing import refused


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def groups(sizes, width=8, seed=0):
    """Embeddings around centres that are far from each other, and the group of each."""
    generator = np.random.default_rng(seed)
    group = np.repeat(np.arange(len(sizes)), sizes)
    return unit(np.eye(width)[group] + 0.1 * generator.normal(size=(len(group), width))).astype(np.float32), group


def test_of_each_large_group_one_is_typical_before_any_is_twice():
    images, group = groups([30, 20, 10])
    chosen = typical(images, images[:0], 3, seed=1)
    assert group[chosen].tolist() == [0, 1, 2]
    centre = unit(images[group == 0].mean(0, keepdims=True))[0]
    assert images[chosen[0]] @ centre > np.median(images[group == 0] @ centre)


def test_groups_with_labels_wait():
    images, group = groups([30, 20, 10])
    labelled = images[[0]]
    assert group[typical(images[1:], labelled, 2, seed=1)[0] + 1] == 1


def test_the_unsure_are_chosen_where_many_are_like_them_and_none_is_labelled():
    images, group = groups([30, 20, 10])
    unsure = np.where(group == 0, 0.0, 1.0)
    assert group[standing_for_many(images, images[:0], unsure, 2)].tolist() == [1, 2]
    assert group[standing_for_many(images, images[group == 1][:3], unsure, 1)].tolist() == [2]


@pytest.mark.parametrize(("labels", "is_typical"), [(0, True), (2, True), (3, False)])
def test_typical_ones_come_while_there_are_fewer_labels_than_classes(labels, is_typical):
    images, _ = groups([10, 10, 10])
    chosen = next_images(images[labels:], images[:labels], np.ones(30 - labels), 3, 5, seed=1)
    assert [each.is_typical for each in chosen] == [is_typical] * 5
    assert len({each.row for each in chosen}) == 5


@pytest.mark.parametrize("count", [1, 4, 9])
def test_no_more_are_chosen_than_there_are_and_none_twice(count):
    images, _ = groups([4])
    for classes in (1, 9):
        chosen = next_images(images, images[:2], np.zeros(4), classes, count, seed=1)
        assert len({each.row for each in chosen}) == len(chosen) == min(4, count)
    assert next_images(images[:0], images, np.zeros(0), 2, 3, seed=1) == []


def test_a_class_without_labels_is_known_by_its_prompts_and_without_words_not_at_all():
    images, group = groups([10, 10, 10])
    words = Text(torch.eye(8)[:3], 30.0, torch.ones(3))
    known = torch.from_numpy(images[group < 2]), torch.from_numpy(group[group < 2])
    table = class_probabilities(torch.from_numpy(images), *known, words)
    assert (table.argmax(1) == group).all()
    wordless = Text(torch.zeros(3, 8), 30.0, torch.zeros(3), has_words=False)
    table = class_probabilities(torch.from_numpy(images), *known, wordless)
    assert (table[:, 2] == 0).all()
    assert (table.argmax(1) == group)[group < 2].all()
    one = torch.from_numpy(images[:1]), torch.tensor([0])
    assert class_probabilities(torch.from_numpy(images), *one, wordless) is None


@pytest.fixture
def recipe(tiny_clip):
    return preset_recipe("paper", "gda").replace(model=str(tiny_clip), views=None)


@pytest.fixture
def folders(tmp_path):
    """Thirty images that nobody has labelled, and three of each class."""
    for number in range(36):
        light = number % 2
        pixels = np.random.default_rng(number).integers(200, 250, (24, 24)).astype(np.uint8) - (0 if light else 190)
        place = f"labelled/{('dark', 'light')[light]}" if number >= 30 else "new/deep"
        path = tmp_path / place / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return tmp_path / "labelled", tmp_path / "new"


def test_labels_names_and_nothing_at_all_will_do(folders, recipe):
    labelled, new = folders
    unsure = suggested_images(new, recipe, labelled, count=4)
    assert {each.why for each in unsure} == {"unsure"}
    assert {each.looks_like for each in unsure} <= {"dark", "light"}
    assert all(each.image == str(sorted(new.glob("*/*.png"))[each.index]) for each in unsure)
    named = suggested_images(new, recipe, classes=["dark", "light"], count=4)
    assert {each.why for each in named} == {"typical"}
    assert {each.looks_like for each in named} <= {"dark", "light"}
    [nothing] = suggested_images(new, recipe, count=1)
    assert (nothing.why, nothing.looks_like, nothing.probability) == ("typical", None, None)
    one_class = suggested_images(new, recipe, labelled / "dark", count=2)
    assert [each.looks_like for each in one_class] == [None, None]


def test_images_that_have_a_label_are_not_suggested(folders, recipe, tmp_path):
    _, new = folders
    table = tmp_path / "labels.csv"
    rows = [f"new/deep/{number}.png,{('dark', 'light')[number % 2]}" for number in range(20)]
    table.write_text("\n".join(["file_name,label", *rows]))
    suggested = {each.image for each in suggested_images(new, recipe, table, count=99)}
    assert suggested == {str(new / "deep" / f"{number}.png") for number in range(20, 30)}
    rows += [f"new/deep/{number}.png,dark" for number in range(20, 30)]
    table.write_text("\n".join(["file_name,label", *rows]))
    with refused(DataError, "30 images"):
        suggested_images(new, recipe, table)


def test_labels_that_came_since_count_as_those_that_were_there(folders, recipe):
    labelled, new = folders
    images = Unlabelled(new, recipe, addition_from(labelled))
    first = images.suggestions(3)
    given = {first[0].index: "light", first[1].index: "grey"}
    then = images.suggestions(99, given=given, left_out=[first[2].index])
    assert {each.index for each in then} == set(range(30)) - {each.index for each in first}
    assert {each.looks_like for each in then} <= {"dark", "light", "grey"}


def test_an_image_that_cannot_be_read_is_left_out_where_that_is_asked_for(folders, recipe):
    _, new = folders
    (new / "bad.jpg").write_text("no image")
    with refused(ImageError, "bad.jpg", "--on-bad-image skip"):
        suggested_images(new, recipe)
    warnings = []
    skipping = recipe.replace(on_bad_image="skip")
    assert "bad.jpg" not in {each.image for each in suggested_images(new, skipping, count=99, warn=warnings)}
    assert "bad.jpg" in warnings[0]


def test_of_many_images_some_are_looked_at_and_that_is_said(folders, recipe, monkeypatch):
    monkeypatch.setattr(suggestions, "MOST_IMAGES", 10)
    warnings = []
    images = [np.full((24, 24), number, dtype=np.uint8) for number in range(20)]
    chosen = suggested_images(images, recipe, count=10, warn=warnings)
    assert warnings == ["10 of 20 images are looked at, drawn by the seed"]
    assert {each.image for each in chosen} == {f"image {each.index}" for each in chosen}


def test_what_cannot_be_is_refused(folders, recipe, tmp_path):
    with refused(InputError, "count is 0"):
        suggested_images(folders[1], recipe, count=0)
    with refused(DataError, tmp_path / "nowhere"):
        suggested_images(tmp_path / "nowhere", recipe)
    with refused(DataError, "no unlabelled images"):
        suggested_images([], recipe)


def test_the_command_prints_lines_csv_and_json(folders, tiny_clip, capsys):
    def out(*more):
        assert main(["suggest", *map(str, more), "--model", str(tiny_clip), "--count", "3"]) == 0
        return capsys.readouterr().out

    labelled, new = folders
    lines = out(labelled, new).splitlines()
    assert [line.split()[0] for line in lines] == ["unsure"] * 3
    rows = list(csv.DictReader(io.StringIO(out(labelled, new, "--csv"))))
    assert [row["image"] for row in rows] == [line.split()[1] for line in lines]
    rows = json.loads(out(new, "--json"))
    assert [each["why"] for each in rows] == ["typical"] * 3
    assert main(["suggest", str(new), "--csv", "--json"]) == 2
