"""Calibration and sets of classes on the command line."""

import json

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """``photos/{train,test}/<class>/*.png``: light and dark discs."""
    root = tmp_path_factory.mktemp("data") / "photos"
    generator, (rows, columns) = np.random.default_rng(0), np.mgrid[:24, :24]
    for split, count in (("train", 4), ("test", 5)):
        for label, level in (("dark disc", 60), ("light disc", 230)):
            for number in range(count):
                disc = (rows - 12) ** 2 + (columns - 12) ** 2 < generator.integers(6, 11) ** 2
                path = root / split / label.replace(" ", "_") / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                picture = np.where(disc, level, 128) + generator.integers(0, 20, disc.shape)
                Image.fromarray(picture.astype(np.uint8)).save(path)
    return root


@pytest.fixture
def fit(run, tiny_clip, photos, tmp_path):
    def fit(*arguments):
        fast = ("--method", "lora", "--base-steps", "8", "--steps-per-shot", "0", "--learning-rate", "1e-2")
        return run("fit", photos, "--out", tmp_path / "adapter", "--model", tiny_clip, *fast, *arguments)

    return fit


def test_fit_evaluate_and_predict_with_calibration(fit, run, photos, tmp_path):
    adapter = tmp_path / "adapter"
    status, out, err = fit("--calibration-folds", "2")
    assert status == 0, err
    said = out.splitlines()
    assert said[1].startswith("accuracy ")
    assert said[1].endswith(") on 10 images: the test split")
    assert said[2].startswith("calibrated on 8 images held out, in 2 folds: temperature ")
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]  # the states of training are gone

    status, out, err = run("evaluate", adapter, photos, "--coverage", "0.8")
    assert status == 0, err
    assert out.splitlines()[0] == said[1]
    assert out.splitlines()[2].startswith("sets at 80 % hold the true class of ")
    status, out, _ = run("evaluate", adapter, photos, "--coverage", "0.8", "--json")
    values = json.loads(out)
    assert {"acc1", "acc1_interval", "mean_class_recall", "ece", "nll", "brier", "images", "split"} <= set(values)
    assert values["sets"]["coverage"] == 0.8

    image = photos / "test" / "dark_disc" / "0.png"
    status, out, _ = run("predict", adapter, image, "--coverage", "0.8", "--json")
    [row] = json.loads(out)
    assert row["set"][0] == row["label"]
    assert set(row["set"]) <= set(row["probabilities"])
    status, out, _ = run("predict", adapter, image, "--coverage", "0.8")
    expected = "  ".join(f"{name} {row['probabilities'][name]:.1%}" for name in row["set"])
    assert out == f"{image}  {expected}\n"


def test_without_coverage_there_is_no_set(fit, run, photos, tmp_path):
    fit("--calibration-folds", "2")
    _, out, _ = run("predict", tmp_path / "adapter", photos / "test" / "dark_disc" / "0.png", "--json")
    assert set(json.loads(out)[0]) == {"image", "label", "probabilities"}


@pytest.mark.parametrize(
    ("calibration", "arguments", "said"),
    [
        ((), ("--coverage", "0.9"), "this classifier is not calibrated: it has no held-out scores"),
        (("--calibration-folds", "2"), ("--coverage", "0.9"), "8 held-out images allow at most 0.888; ask for less"),
        (("--calibration-folds", "2"), ("--coverage", "90"), "coverage is 90.0; expected a fraction between 0 and 1"),
        (("--calibration-folds", "2"), ("--coverage", "0.5", "--top", "2"), "leave one out"),
    ],
    ids=str,
)
def test_sets_that_cannot_be_made_are_one_clear_line(fit, run, photos, tmp_path, calibration, arguments, said):
    fit(*calibration)
    status, out, err = run("predict", tmp_path / "adapter", photos / "test" / "dark_disc" / "0.png", *arguments)
    assert (status, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--calibration-folds", "1"), "calibration-folds is 1; expected 0 for none, or 2 or more"),
        (("--calibration-folds", "-2"), "calibration-folds is -2; expected 0 for none, or 2 or more"),
        (("--calibration-folds", "2", "--shots", "1"), "no class has more than one; learn from 2 shots or more"),
        (("--calibration-folds", "9"), "calibration-folds is 9; expected at most 8, the images to be held out"),
    ],
    ids=str,
)
def test_folds_that_cannot_be_are_one_clear_line(fit, tmp_path, arguments, said):
    status, out, err = fit(*arguments)
    assert (status, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())
