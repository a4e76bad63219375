"""Calibration and sets of classes on the command line."""

import json

import numpy as np
import pytest
from PIL import Image

from refusing import assert_states

from .conftest import write_discs


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """``photos/{train,test}/<class>/*.png``: light and dark discs."""
    root = tmp_path_factory.mktemp("data") / "photos"
    generator = np.random.default_rng(0)
    for split, count in (("train", 4), ("test", 5)):
        write_discs(root / split, count, generator)
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
    lines = out.splitlines()
    assert lines[1].startswith("accuracy ")
    assert lines[1].endswith(") on 10 images: the test split")
    assert lines[2].startswith("calibrated on 8 images held out, in 2 folds: temperature ")
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]  # the states of training are gone

    status, out, err = run("evaluate", adapter, photos, "--coverage", "0.8")
    assert status == 0, err
    assert out.splitlines()[0] == lines[1]
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


def test_sets_with_a_guarantee_are_asked_for_by_a_flag(run, photos, tiny_clip, tmp_path):
    adapter, image = tmp_path / "adapter", photos / "test" / "dark_disc" / "0.png"
    run("fit", photos, "--model", tiny_clip, "--method", "nearest-mean", "--out", adapter)
    status, out, _ = run("predict", adapter, image, "--coverage", "0.6", "--guaranteed", "--json")
    assert status == 0
    [row] = json.loads(out)
    assert row["set"][0] == row["label"]
    status, out, _ = run("evaluate", adapter, photos, "--coverage", "0.6", "--guaranteed", "--json")
    assert json.loads(out)["sets"]["guaranteed"] is True
    for command in (("predict", adapter, image), ("evaluate", adapter, photos)):
        status, out, err = run(*command, "--guaranteed")
        assert (status, out) == (2, "")
        assert_states(err, "guaranteed", "coverage")


def test_without_coverage_there_is_no_set(fit, run, photos, tmp_path):
    fit("--calibration-folds", "2")
    _, out, _ = run("predict", tmp_path / "adapter", photos / "test" / "dark_disc" / "0.png", "--json")
    assert set(json.loads(out)[0]) == {"image", "label", "probabilities"}


@pytest.mark.parametrize(
    ("calibration", "arguments", "facts"),
    [
        ((), ("--coverage", "0.9"), ("not calibrated", "held-out scores")),
        (("--calibration-folds", "2"), ("--coverage", "0.9"), ("8 held-out images", "at most 0.888")),
        (("--calibration-folds", "2"), ("--coverage", "90"), ("coverage is 90.0", "between 0 and 1")),
        (("--calibration-folds", "2"), ("--coverage", "0.5", "--top", "2"), ("top and coverage",)),
    ],
    ids=str,
)
def test_sets_that_cannot_be_made_are_one_clear_line(fit, run, photos, tmp_path, calibration, arguments, facts):
    fit(*calibration)
    status, out, err = run("predict", tmp_path / "adapter", photos / "test" / "dark_disc" / "0.png", *arguments)
    assert (status, out) == (2, "")
    assert_states(err, *facts)
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        (("--calibration-folds", "1"), ("calibration-folds is 1", "2 or more")),
        (("--calibration-folds", "-2"), ("calibration-folds is -2", "2 or more")),
        (("--calibration-folds", "2", "--shots", "1"), ("no class", "2 shots")),
        (("--calibration-folds", "9"), ("calibration-folds is 9", "at most 8")),
    ],
    ids=str,
)
def test_folds_that_cannot_be_are_one_clear_line(fit, tmp_path, arguments, facts):
    status, out, err = fit(*arguments)
    assert (status, out) == (2, "")
    assert_states(err, *facts)
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.fixture
def unknown(tmp_path):
    """``others/*.png``: pictures of noise."""
    generator = np.random.default_rng(1)
    (tmp_path / "others" / "deeper").mkdir(parents=True)
    for number in range(3):
        noise = generator.integers(0, 256, (24, 24, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / "others" / "deeper" / f"{number}.png")
    return tmp_path / "others"


def test_images_of_none_of_the_classes_are_told_in_every_format(run, tiny_clip, photos, unknown, tmp_path):
    adapter = tmp_path / "adapter"
    told = ("--method", "gda", "--reject", "0.2")
    status, out, err = run("fit", photos, "--out", adapter, "--model", tiny_clip, *told)
    assert status == 0, err
    assert "tells images of none of these: 20.0% of known ones may be turned away, by 8 images held out\n" in out

    image, stranger = photos / "train" / "dark_disc" / "0.png", unknown / "deeper" / "0.png"
    [known, other] = json.loads(run("predict", adapter, image, stranger, "--json")[1])
    assert (known["none_of_these"], other["none_of_these"]) == (False, True)
    assert known["p_value"] > 0.2 >= other["p_value"]
    assert other["label"] in other["probabilities"]  # the nearest class is said all the same
    lines = run("predict", adapter, image, stranger)[1].splitlines()
    assert lines[0].startswith(f"{image}  {known['label']} ")
    assert lines[1].startswith(f"{stranger}  none of these; nearest: {other['label']} ")
    csv = run("predict", adapter, image, stranger, "--format", "csv", "--coverage", "0.8")[1].splitlines()
    assert "this classifier is not calibrated" in run("predict", adapter, image, "--coverage", "0.8")[2]
    assert csv == []
    csv = run("predict", adapter, image, stranger, "--format", "csv")[1].splitlines()
    assert csv[0] == "image,label,probability,none_of_these,error"
    assert [line.split(",")[3] for line in csv[1:]] == ["false", "true"]
    status, out, _ = run("predict", adapter, image, stranger, "--out", tmp_path / "answers.jsonl")
    assert status == 0, out
    rows = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert rows == [known, other]

    told = json.loads(run("evaluate", adapter, photos, "--unknown", unknown, "--json")[1])["unknown"]
    assert (told["images"], told["reject"]) == (3, 0.2)
    assert told["turned_away"] > 0.5
    status, out, err = run("evaluate", adapter, photos, "--unknown", unknown)
    assert status == 0, err
    assert f"3 images of none of these: {100 * told['turned_away']:.1f} % are turned away, and " in out
    assert "unknown is nowhere, which does not exist" in run("evaluate", adapter, photos, "--unknown", "nowhere")[2]


def test_an_adapter_that_has_not_learnt_it_says_nothing_of_none(fit, run, photos, unknown, tmp_path):
    fit()
    status, _, err = run("evaluate", tmp_path / "adapter", photos, "--unknown", unknown)
    assert (status, err.count("\n")) == (2, 1)
    assert "fit it with --reject 0.05" in err
