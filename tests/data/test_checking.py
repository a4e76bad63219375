import json

import numpy as np
import pytest
from PIL import Image

from data import layouts
from lowshot.data import builtin_task, check_images, load_task, task_of_arrays
from lowshot.data import checking as module
from lowshot.data.catalogue import CATALOGUE


@pytest.fixture
def dtd(tmp_path, monkeypatch):
    layouts.install("dtd", tmp_path, monkeypatch)
    return tmp_path / "dtd"


def checked(folder):
    return check_images(load_task("dtd", root=folder.parent))


def test_a_data_set_that_is_well_has_nothing_to_say(dtd):
    assert checked(dtd) == module.Checked(images=27, missing=(), corrupt=(), copies=())


def test_missing_and_corrupt_images_are_told_apart_and_listed_with_their_split(dtd):
    split = json.loads((dtd / CATALOGUE["dtd"].split_file).read_text())
    gone, text, cut = split["train"][0][0], split["val"][0][0], split["test"][0][0]
    (dtd / "images" / gone).unlink()
    (dtd / "images" / text).write_text("not an image")
    (dtd / "images" / cut).write_bytes((dtd / "images" / cut).read_bytes()[:200])

    result = checked(dtd)

    assert result.images == 27
    assert result.missing == (f"train: {gone}",)
    assert len(result.corrupt) == 2
    assert result.corrupt[0].startswith(f"validation: {dtd / 'images' / text} is not an image")
    assert result.corrupt[1].startswith(f"test: {dtd / 'images' / cut} cannot be decoded")


def test_a_link_to_nothing_is_missing(dtd):
    split = json.loads((dtd / CATALOGUE["dtd"].split_file).read_text())
    path = dtd / "images" / split["train"][0][0]
    path.unlink()
    path.symlink_to(dtd / "nowhere.jpg")

    assert checked(dtd).missing == (f"train: {split['train'][0][0]}",)


def test_copies_are_told_by_what_they_show_in_whatever_format(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    for split, name, number, suffix in (
        ("train", "cat", 0, "png"),
        ("train", "dog", 1, "png"),
        ("train", "dog", 2, "png"),
        ("test", "cat", 0, "bmp"),  # the same picture in another format
        ("test", "dog", 2, "png"),
    ):
        (tmp_path / split / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[number]).save(tmp_path / split / name / f"{number}.{suffix}")

    assert check_images(load_task(tmp_path)).copies == (
        "cat/0.png (train, cat) and cat/0.bmp (test, cat) show the same",
        "dog/2.png (train, dog) and dog/2.png (test, dog) show the same",
    )


def test_one_image_under_two_labels_is_a_copy_and_twice_under_one_is_none():
    one, other = np.zeros((2, 2, 3), np.uint8), np.ones((2, 2, 3), np.uint8)

    assert check_images(task_of_arrays([one, other, other], list("abb"))).copies == ()
    (copy,) = check_images(task_of_arrays([one, other, one], list("abb"))).copies
    assert "(train, a) and" in copy
    assert "(train, b) show the same" in copy


def test_every_split_and_every_image_is_looked_at_once(monkeypatch):
    """Also where there are more than may be under way."""
    monkeypatch.setattr(module, "_AHEAD", 7)
    task, counted = builtin_task("digits"), []

    def track(items, *, what, total):
        counted.append((what, total))
        for item in items:
            counted.append(item[0].identity)
            yield item

    result = check_images(task, track)

    assert result.images == 1797
    assert counted[0] == ("checking digits", 1797)
    assert counted[1:] == [*task.train.identities, *task.validation.identities, *task.test.identities]


def test_of_three_copies_the_first_two_that_differ_are_named():
    one = np.zeros((2, 2, 3), np.uint8)

    (copy,) = check_images(task_of_arrays([one, one, one], list("abc"))).copies
    assert "(train, a) and" in copy
    assert "(train, b) show the same" in copy
