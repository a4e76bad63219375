"""The main job in processes of their own, as a user runs it."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from lowshot.data import builtin_task


def lowshot(*arguments):
    done = subprocess.run(
        [sys.executable, "-m", "lowshot", *map(str, arguments)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Scans of ones, fours and sevens as PNG files, ``{train,test}/<class>/*.png``."""
    root = tmp_path_factory.mktemp("photos")
    task = builtin_task("digits")
    for split, count in (("train", 4), ("test", 6)):
        examples = getattr(task, split)
        for label in (1, 4, 7):
            folder = root / split / task.class_names[label].replace(" ", "_")
            folder.mkdir(parents=True)
            for number in np.flatnonzero(examples.labels == label)[:count]:
                Image.fromarray(examples.images[int(number)]).save(folder / f"{number}.png")
    return root


def test_fit_evaluate_and_predict_agree_between_processes(photos, tmp_path):
    adapter = tmp_path / "adapter"
    fitted = json.loads(lowshot("fit", photos, "--out", adapter, "--method", "lora-xs", "--json"))
    assert fitted["shots"] == 4
    assert (fitted["metrics"]["images"], fitted["metrics"]["split"]) == (18, "test")
    assert fitted["metrics"]["accuracy"] >= 0.8

    evaluated = json.loads(lowshot("evaluate", adapter, photos, "--json"))
    assert evaluated["accuracy"] == fitted["metrics"]["accuracy"]

    images = sorted((photos / "test").rglob("*.png"))
    first, second = (json.loads(lowshot("predict", adapter, *images, "--json")) for _ in range(2))
    assert first == second
    right = [row["label"] == path.parent.name.replace("_", " ") for row, path in zip(first, images, strict=True)]
    assert np.mean(right) == evaluated["accuracy"]
