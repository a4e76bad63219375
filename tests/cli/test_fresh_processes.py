"""The main job in processes of their own, as a user runs it."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from lowshot.cli import main
from lowshot.data import builtin_task

pytestmark = pytest.mark.long


def lowshot(python, *arguments):
    done = subprocess.run([*python, "-m", "lowshot", *map(str, arguments)], capture_output=True, text=True, timeout=120)
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


def test_fit_evaluate_and_predict_agree_between_processes(photos, tmp_path, forked):
    adapter = tmp_path / "adapter"
    settings = ("--out", adapter, "--method", "lora-xs", "--base-steps", "20", "--steps-per-shot", "0", "--json")
    fitted = json.loads(lowshot([sys.executable], "fit", photos, *settings))
    assert fitted["shots"] == 4
    assert (fitted["metrics"]["images"], fitted["metrics"]["split"]) == (18, "test")
    assert fitted["metrics"]["acc1"] >= 0.8

    evaluated = json.loads(lowshot(forked, "evaluate", adapter, photos, "--json"))
    assert evaluated["acc1"] == fitted["metrics"]["acc1"]

    images = sorted((photos / "test").rglob("*.png"))
    first, second = (json.loads(lowshot(forked, "predict", adapter, *images, "--json")) for _ in range(2))
    assert first == second
    right = [row["label"] == path.parent.name.replace("_", " ") for row, path in zip(first, images, strict=True)]
    assert np.mean(right) == evaluated["acc1"]


def until(condition):
    """Wait for another process."""
    for _ in range(1200):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("nothing happened within a minute")


def test_a_run_that_is_terminated_and_then_killed_ends_in_the_very_same_adapter(photos, tmp_path, forked):
    settings = ("--method", "lora", "--steps-per-shot", "0", "--base-steps", "150")
    settings += ("--checkpoint-seconds", "0", "--device", "cpu")
    whole, other = tmp_path / "whole", tmp_path / "other"
    state = tmp_path / "other.training.safetensors"

    def start():
        command = [*forked, "-m", "lowshot", "fit", photos, "--out", other, *settings]
        return subprocess.Popen([str(x) for x in command], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    with start() as running:
        until(state.exists)
        running.send_signal(signal.SIGTERM)
        assert running.wait(60) == 128 + signal.SIGTERM
        printed = running.stderr.read()
    assert printed.endswith(
        f"lowshot: the state of training is in {state}: the same command goes on from it\nlowshot: terminated\n"
    )
    assert not other.exists()
    written = state.stat().st_mtime_ns
    with start() as running:
        until(lambda: state.stat().st_mtime_ns > written)
        running.kill()
    assert not other.exists()

    done = subprocess.run(
        [*forked, "-m", "lowshot", "fit", photos, "--out", other, *settings],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0
    assert f"going on from {state}" in done.stderr
    assert not state.exists()
    assert main(["fit", str(photos), "--out", str(whole), *settings]) == 0
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (whole / name).read_bytes() == (other / name).read_bytes()
    ours, theirs = (json.loads((folder / "lowshot.json").read_text()) for folder in (whole, other))
    assert (ours["steps"], ours["final_loss"]) == (theirs["steps"], theirs["final_loss"])
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_run_that_diverges_saves_its_last_good_weights_and_fails(photos, tmp_path, capsys):
    out = tmp_path / "adapter"
    assert main(["fit", str(photos), "--out", str(out), "--method", "lora", "--learning-rate", "1e30"]) == 1
    printed = capsys.readouterr().err.splitlines()[-1]
    record = json.loads((out / "lowshot.json").read_text())
    assert record["stopped"].startswith("training diverged at step")
    assert printed == f"lowshot: error: {record['stopped']}; {out} has the weights of step {record['steps']}"
    assert main(["evaluate", str(out), str(photos)]) == 0
    assert f"warning: {out} has the weights of step {record['steps']}: training diverged" in capsys.readouterr().err
    assert not (tmp_path / "adapter.training.safetensors").exists()
