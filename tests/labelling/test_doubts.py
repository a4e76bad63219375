"""Labels that are doubted, from data to the command."""

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image

from lowshot.cli import main
from lowshot.data import load_task
from lowshot.errors import DataError, ImageError, InputError
from lowshot.labelling import copied_images, doubted_labels
from lowshot.settings import preset_recipe
from refusing import refused


def image(light, number):
    """Noise that is light or dark."""
    return np.random.default_rng(number).integers(200, 250, (24, 24)).astype(np.uint8) - (0 if light else 190)


@pytest.fixture
def recipe(tiny_clip):
    return preset_recipe("paper", "gda").replace(model=str(tiny_clip), views=None)


@pytest.fixture
def folder(tmp_path):
    """Twelve images of each class, of which one of each lies in the other's folder."""
    for label, light in (("dark", False), ("light", True)):
        for number in range(12):
            path = tmp_path / "photos" / label / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image(light != (number == 5), number + 100 * light)).save(path)
    return tmp_path / "photos"


def test_images_in_the_folder_of_another_class_are_doubted(folder, recipe):
    doubted = doubted_labels(folder, recipe)
    assert doubted.images == 24
    assert doubted.rate == pytest.approx(2 / 24, abs=0.06)
    assert doubted.agreement >= 20 / 24
    assert {each.image: (each.label, each.looks_like) for each in doubted.doubts} == {
        str(folder / "dark" / "5.png"): ("dark", "light"),
        str(folder / "light" / "5.png"): ("light", "dark"),
    }
    assert all(0.5 < each.probability <= 1 for each in doubted.doubts)


def test_images_in_memory_are_named_by_their_number(recipe):
    labels = [number % 2 for number in range(24)]
    images = [image(label, number) for number, label in enumerate(labels)]
    labels[7] = 0
    [doubt] = doubted_labels(images, recipe, labels).doubts
    assert (doubt.image, doubt.index, doubt.label, doubt.looks_like) == ("image 7", 7, "0", "1")


def test_a_class_with_one_image_is_passed_over_with_a_word(folder, recipe):
    (folder / "lone").mkdir()
    Image.fromarray(image(True, 1)[:, ::-1]).save(folder / "lone" / "1.png")
    warnings = []
    assert doubted_labels(folder, recipe, warn=warnings).images == 24
    assert "1 class(es) have one image, which is not looked at" in warnings[-1]


def test_zero_shot_needs_no_second_image(folder, recipe):
    for path in sorted(folder.glob("*/*.png")):
        if path.stem not in ("0", "1"):
            path.unlink()
    zero_shot = preset_recipe("paper", "zero-shot").replace(model=recipe.model.model)
    assert doubted_labels(folder, zero_shot).images == 4


def test_every_image_is_encoded_once_to_be_learnt_and_once_to_be_judged(folder, recipe, passes):
    doubted_labels(folder, recipe, folds=6)
    assert sum(passes) == 2 * 24


def test_what_cannot_be_is_refused(folder, recipe):
    with refused(InputError, "folds is 1"):
        doubted_labels(folder, recipe, folds=1)
    with refused(DataError, "labels"):
        doubted_labels([image(True, 1)], recipe)


def test_the_command_prints_text_csv_and_json(folder, recipe, capsys):
    def run(*arguments):
        status = main(["doubt", *map(str, arguments), "--model", recipe.model.model])
        return status, *capsys.readouterr()

    status, out, err = run(folder)
    assert (status, err) == (0, "")
    assert f"{folder / 'dark' / '5.png'}  is said to be dark, looks like light" in out
    assert "2 of 24 labels are doubted" in out
    status, out, _ = run(folder, "--csv")
    assert {row["looks_like"] for row in csv.DictReader(io.StringIO(out))} == {"dark", "light"}
    status, out, _ = run(folder, "--json", "--method", "proker")
    assert (status, json.loads(out)["images"]) == (0, 24)
    for wrong in (["--csv", "--json"], ["--folds", "1"], ["--method", "nonsense"]):
        status, out, err = run(folder, *wrong)
        assert (status, out, err.count("\n")) == (2, "", 1)


@pytest.mark.parametrize("find", [doubted_labels, copied_images])
def test_an_image_that_cannot_be_read_is_named_with_the_next_step(folder, recipe, find):
    (folder / "dark" / "bad.png").write_text("no image")
    with refused(ImageError, "bad.png", "--on-bad-image skip"):
        find(load_task(folder), recipe)
