"""Images that are there twice, in two classes or two splits."""

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image

from lowshot.cli import main
from lowshot.data import load_task
from lowshot.labelling import copied_images
from lowshot.settings import preset_recipe


@pytest.fixture
def folder(tmp_path):
    """Six pictures of each class and split, of which one is in both classes, and one lighter in another split."""

    def write(name, seed, lighter=0):
        blocks = np.random.default_rng(seed).integers(0, 200, (4, 4, 3), dtype=np.uint8)
        pixels = np.kron(blocks, np.ones((8, 8, 1), dtype=np.uint8)) + np.uint8(lighter)
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)

    for number in range(6):
        for place, label in enumerate(("cat", "dog")):
            write(f"train/{label}/{number}.png", 10 * number + place)
            write(f"test/{label}/{number}.png", 10 * number + 5 + place)
    write("train/dog/twin.png", 30)  # train/cat/3
    write("test/cat/light.png", 40, lighter=12)  # train/cat/4
    write("train/cat/again.png", 50)  # train/cat/5: of one class and split
    return tmp_path / "data"


@pytest.fixture
def recipe(tiny_clip):
    return preset_recipe("paper", "gda").replace(model=str(tiny_clip), views=None)


def test_exact_and_near_copies_in_two_classes_or_splits_are_found_and_no_others(folder, recipe):
    exact, near = copied_images(load_task(str(folder), warn=[]), recipe)
    assert {exact.first, exact.second} == {str(folder / "train/cat/3.png"), str(folder / "train/dog/twin.png")}
    assert (exact.is_exact, set(exact.classes), exact.splits) == (True, {"cat", "dog"}, ("train", "train"))
    assert {near.first, near.second} == {str(folder / "train/cat/4.png"), str(folder / "test/cat/light.png")}
    assert (near.is_exact, near.classes, near.splits) == (False, ("cat", "cat"), ("train", "test"))
    assert near.correlation > 0.99


def test_the_command_prints_them_as_lines_csv_and_json(folder, tiny_clip, capsys):
    def out(*more):
        assert main(["doubt", str(folder), "--copies", "--model", str(tiny_clip), *more]) == 0
        return capsys.readouterr().out

    assert out().splitlines()[-1] == "1 images are in two classes or splits, and 1 nearly so"
    assert [row["exact"] for row in csv.DictReader(io.StringIO(out("--csv")))] == ["True", "False"]
    assert [each["is_exact"] for each in json.loads(out("--json"))] == [True, False]
