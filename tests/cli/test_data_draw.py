"""``lowshot data draw``, and a fit from what it wrote."""

import io
import json
import sys

import numpy as np
import pytest
from PIL import Image

from data import layouts
from lowshot.cli import main
from lowshot.data import draw_from, draw_sha256, load_task
from refusing import assert_states


@pytest.fixture
def photos(tmp_path):
    """``photos/<class>/*.png``, five red and three blue ones."""
    for index, label in enumerate(["red"] * 5 + ["blue"] * 3):
        path = tmp_path / "photos" / label / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.full((8, 8, 3), 10 * index, dtype=np.uint8)
        pixels[..., 0 if label == "red" else 2] = 250
        Image.fromarray(pixels).save(path)
    return tmp_path / "photos"


def drawn(data, shots, seed, draw):
    task = load_task(data)
    return [task.train.identities[i] for i in draw_from(task, shots, seed, draw).indices]


def test_it_says_how_many_of_each_class_and_the_hash(run, photos):
    assert run("data", "draw", photos, "--shots", 2, "--seed", 3, "--draw", "coop") == (
        0,
        f"photos: 4 images of 2 classes, 2 of each\nsha256 {draw_sha256(drawn(photos, 2, 3, 'coop'))}\n",
        "",
    )


def test_folders_of_splits_can_be_said_in_place_of_data(run, photos, tmp_path):
    status, out, _ = run("data", "draw", "--train", photos, "--shots", 2, "--out", tmp_path / "draw.jsonl")
    assert (status, out.splitlines()[0]) == (0, "photos: 4 images of 2 classes, 2 of each")
    assert f"lowshot fit --train {photos} --draw" in out

    status, out, _ = run("data", "check", "--train", photos, "--test", photos, "--json")
    assert (status, json.loads(out)["data"]) == (0, {"train": str(photos), "test": str(photos)})


@pytest.mark.parametrize("command", ["fit", "evaluate", "data check", "data draw"])
@pytest.mark.parametrize(
    ("data", "facts"),
    [
        (["digits", "--train", "x"], ["DATA is 'digits'", "--train"]),
        (["--test", "x"], ["needs DATA", "--train"]),
        ([], ["needs DATA", "--train"]),
        (["--train", "/no/such"], ["data /no/such", "does not exist"]),
    ],
)
def test_data_is_said_once_and_where_it_is(run, tmp_path, command, data, facts):
    if command == "evaluate" and data == ["--train", "/no/such"]:
        pytest.skip("the adapter is read first")
    more = {"fit": ["--out", tmp_path / "out"], "evaluate": [tmp_path]}.get(command, [])
    status, _, err = run(*command.split(), *more, *data)
    assert status == 2
    assert_states(err, *facts)


@pytest.fixture
def printing(monkeypatch):
    """Runs a command in this process with standard output in an encoding; returns the status and what was written."""

    def printing(encoding, *arguments):
        out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        with monkeypatch.context() as patched:
            patched.setattr(sys, "stdout", out)
            status = main([*map(str, arguments)])
        out.flush()
        return status, out.buffer.getvalue().decode(encoding)

    return printing


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_names_that_the_terminal_cannot_say_are_escaped(printing, photos, encoding):
    """They were a UnicodeEncodeError."""
    (photos / "red").rename(photos / "猫")
    (photos / "blue").rename(photos / "café 🐈")

    status, out = printing(encoding, "data", "draw", photos, "--shots", 4)
    printed = out.encode("ascii", "backslashreplace").decode()
    assert (status, "4  \\u732b" in printed, "3  caf\\xe9 \\U0001f408" in printed) == (0, True, True)

    status, out = printing(encoding, "data", "draw", photos, "--shots", 4, "--json")
    assert (status, json.loads(out)["classes"]) == (0, {"猫": 4, "café 🐈": 3})
    assert ("猫" in out) == (encoding == "utf-8")


def test_classes_of_several_sizes_have_a_line_each(run, photos):
    status, out, err = run("data", "draw", photos, "--shots", 4)
    sha256 = draw_sha256(drawn(photos, 4, 1, "lowshot"))
    assert (status, out.splitlines()) == (
        0,
        ["photos: 7 images of 2 classes", "        3  blue", "        4  red", f"sha256 {sha256}"],
    )
    assert err == "lowshot: warning: class 'blue' has 3 of the 4 shots asked for; all of it is used\n"


def test_all_of_it_as_json(run, photos):
    status, out, _ = run("data", "draw", photos, "--json")
    assert (status, json.loads(out)) == (
        0,
        {
            "data": str(photos),
            "draw": "lowshot",
            "seed": 1,
            "shots": 5,
            "images": 8,
            "classes": {"blue": 3, "red": 5},
            "sha256": draw_sha256(drawn(photos, None, 1, "lowshot")),
        },
    )


def test_a_written_draw_is_fitted_and_so_is_the_adapters(run, photos, tmp_path, tiny_clip):
    """List, replay the list, replay the adapter: the same images in the same order each time."""
    path, fast = tmp_path / "draw.jsonl", ("--model", tiny_clip, "--method", "lora", "--steps-per-shot", 2)
    status, out, _ = run("data", "draw", photos, "--shots", 2, "--draw", "clip-lora", "--seed", 0, "--out", path)
    assert status == 2  # without a validation split each class needs images for one
    status, out, _ = run("data", "draw", photos, "--shots", 2, "--draw", "coop", "--seed", 7, "--out", path)
    assert out.splitlines()[-1] == f"listed in {path}; next: lowshot fit {photos} --draw {path} --out adapter"

    assert run("fit", photos, "--draw", path, "--out", tmp_path / "one", *fast)[0] == 0
    assert run("fit", photos, "--draw", tmp_path / "one", "--out", tmp_path / "two", *fast)[0] == 0

    records = [json.loads((tmp_path / name / "lowshot.json").read_text()) for name in ("one", "two")]
    sha256 = draw_sha256(drawn(photos, 2, 7, "coop"))
    for record in records:
        assert record["draw"] == drawn(photos, 2, 7, "coop")
        assert (record["shots"], record["recipe"]["data"]["draw"]) == (2, f"sha256:{sha256}")
    weights = [(tmp_path / name / "adapter_model.safetensors").read_bytes() for name in ("one", "two")]
    assert weights[0] == weights[1]
    assert sha256 in run("data", "draw", photos, "--draw", tmp_path / "one")[1]


def test_a_data_set_below_a_root_is_drawn_from(run, tmp_path, monkeypatch):
    layouts.install("dtd", tmp_path, monkeypatch)
    path = tmp_path / "my draws" / "draw.jsonl"
    status, out, _ = run("data", "draw", "dtd", "--shots", 1, "--root", tmp_path, "--out", path)
    assert (status, out.splitlines()[0]) == (0, "dtd: 3 images of 3 classes, 1 of each")
    assert out.splitlines()[-1].endswith(f"next: lowshot fit dtd --root {tmp_path} --draw '{path}' --out adapter")


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        (["nothere"], ["data set", "folder 'nothere'"]),
        (["digits", "--shots", "0"], ["shots is 0", "1 or more"]),
        (["digits", "--seed", "-1"], ["seed is -1", "whole number"]),
        (["digits", "--draw", ""], ["draw is ''", "lowshot", "coop", "clip-lora"]),
        (["digits", "--draw", "coup"], ["draw", "folder 'coup'", "mean coop"]),
        (["digits", "--draw", "list.jsonl"], ["draw list.jsonl"]),
    ],
)
def test_bad_input_gives_one_line_and_status_2(run, arguments, facts):
    status, out, err = run("data", "draw", *arguments)
    assert (status, out) == (2, "")
    assert_states(err, *facts)
    assert len(err.splitlines()) == 1


def test_a_file_that_exists_is_left_alone(run, photos, tmp_path):
    (tmp_path / "draw.jsonl").write_text("mine")
    status, _, err = run("data", "draw", photos, "--out", tmp_path / "draw.jsonl")
    assert (status, (tmp_path / "draw.jsonl").read_text()) == (2, "mine")
    assert "already exists" in err
