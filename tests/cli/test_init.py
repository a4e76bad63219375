"""``lowshot init``: what it sees in a folder, what it proposes, and that ``fit`` takes it."""

import json

import numpy as np
import pytest
from PIL import Image

from lowshot.cli.fit import Arguments
from lowshot.cli.parsing import parse_with_recipe
from lowshot.data import builtin_task
from lowshot.fitting import proposal


@pytest.fixture
def folder(tmp_path):
    """Six letters each of two classes, one of them damaged, and a file that is no image."""
    task = builtin_task("letters")
    for label in (0, 1):
        rows = np.flatnonzero(task.train.labels == label)[:6]
        (tmp_path / "letters" / task.class_names[label]).mkdir(parents=True)
        for row in rows:
            Image.fromarray(task.train.images[row]).save(tmp_path / "letters" / task.class_names[label] / f"{row}.png")
    first = next((tmp_path / "letters" / task.class_names[0]).iterdir())
    first.write_bytes(b"no image")
    (first.parent / "notes.txt").touch()
    return tmp_path / "letters"


@pytest.fixture
def photographs(monkeypatch):
    """The built-in model recognises nothing."""
    monkeypatch.setattr(proposal, "foreign_notes", lambda lesson: ["it knows characters alone"])


def test_it_says_what_is_there_and_proposes_what_fit_takes(run, folder, tmp_path):
    out = tmp_path / "mine.toml"
    status, printed, _ = run("init", folder, "--out", out)
    assert status == 0
    text = out.read_text(encoding="utf-8")
    assert text in printed
    for line in (
        "# 11 images of 2 classes, 11 in train",
        "# shorter side 32 pixels in the middle, 32 to 32",
        "# 1 that cannot be read: lowshot data check ",
    ):
        assert line in text
    assert "notes.txt" in text or "1 file(s)" in text
    command = ["--recipe", str(out), "--out", "x", str(folder)]
    recipe = parse_with_recipe(Arguments, "fit", command, chooses=True).settings
    assert (recipe.model.model, recipe.method.method) == ("builtin", "auto")
    assert (recipe.data.shots, recipe.data.on_bad_image) == (4, "skip")  # of five: one is left to judge by
    assert f"lowshot fit {folder} --recipe {out} --out adapter" in printed


def test_photographs_have_another_model_and_the_reason_beside_it(run, folder, tmp_path, photographs):
    status, printed, _ = run("init", folder, "--out", tmp_path / "mine.toml", "--json")
    told = json.loads(printed)
    assert status == 0
    assert (told["model"], told["shots"], told["unreadable"]) == ("openai/clip-vit-base-patch16", 4, 1)
    assert sorted(told["classes"].values()) == [5, 6]
    assert "# it knows characters alone\nmodel = " in (tmp_path / "mine.toml").read_text(encoding="utf-8")


def test_a_recipe_that_is_there_is_never_written_over(run, folder, tmp_path):
    out = tmp_path / "mine.toml"
    out.write_text("[data]\n")
    status, _, err = run("init", folder, "--out", out)
    assert (status, out.read_text()) == (2, "[data]\n")
    assert "already exists" in err


def test_what_is_no_data_is_refused(run, tmp_path):
    assert run("init", tmp_path / "nothing", "--out", tmp_path / "mine.toml")[0] == 2
    assert not (tmp_path / "mine.toml").exists()
