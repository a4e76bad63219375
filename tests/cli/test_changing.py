"""Classes into and out of saved adapters, by commands."""

import json

import pytest
from PIL import Image

from coloured import pictures
from lowshot import FewShotClassifier
from lowshot.classifier import saved_adapter
from lowshot.serving.examples import read_examples, write_examples
from refusing import assert_states


def write(folder, colour):
    folder.mkdir(parents=True)
    for number, picture in enumerate(pictures(colour, 3)):
        Image.fromarray(picture).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def adapter(tiny_clip, tmp_path):
    """Of two classes, with a picture of each; its images are in ``known``."""
    for name in ("blue", "red"):
        write(tmp_path / "known" / name, name)
    FewShotClassifier(str(tiny_clip), method="nearest-mean").fit(tmp_path / "known").save_pretrained(tmp_path / "a")
    write_examples(tmp_path / "a", [tmp_path / "known" / name / "0.png" for name in ("blue", "red")], ["blue", "red"])
    return tmp_path / "a"


def classes(folder):
    return [*saved_adapter(folder).record_.classes], sorted(each.class_name for each in read_examples(folder))


def test_a_folder_of_images_is_a_class_more(run, adapter, tmp_path):
    status, out, err = run("add", adapter, write(tmp_path / "bright_white", "white"), "--out", tmp_path / "b")
    assert (status, err) == (0, "")
    assert "3 images: 1 class(es) more, bright white; 3 classes and 9 images in all" in out
    assert classes(tmp_path / "b") == (
        ["blue", "red", "bright white"],
        ["blue", *["bright white"] * 3, "red"],
    )
    assert classes(adapter)[0] == ["blue", "red"]


def test_folders_of_folders_and_what_is_known_are_passed_over(run, adapter, tmp_path):
    write(tmp_path / "known" / "white", "white")
    status, out, err = run("add", adapter, tmp_path / "known", "--in-place", "--json")
    answer = json.loads(out)
    assert (status, answer["new_classes"], answer["images"]) == (0, ["white"], 9)
    assert "6 of 9 images are learnt already" in err
    assert classes(adapter)[0] == ["blue", "red", "white"]
    assert classes(tmp_path / ".a.before")[0] == ["blue", "red"]


def test_classes_go_and_get_other_names(run, adapter, tmp_path):
    run("add", adapter, write(tmp_path / "white", "white"), "--in-place")
    status, out, _ = run("remove", adapter, "red", "--in-place", "--json")
    assert (status, json.loads(out)["classes"]) == (0, ["blue", "white"])
    assert classes(adapter) == (["blue", "white"], ["blue", *["white"] * 3])
    status, out, _ = run("rename", adapter, "blue", "navy", "--out", tmp_path / "c")
    assert (status, out) == (0, f"blue is called navy now; saved to {tmp_path / 'c'}\n")
    assert classes(tmp_path / "c") == (["navy", "white"], ["navy", *["white"] * 3])
    assert "navy" in (tmp_path / "c" / "README.md").read_text()


def test_an_adapter_is_taught_anew_by_its_images_where_they_are_given(run, adapter, tmp_path):
    (adapter / "shots.safetensors").unlink()
    white = write(tmp_path / "white", "white")
    status, _, err = run("add", adapter, white, "--out", tmp_path / "b")
    assert status == 2
    assert "--refit DATA" in err
    status, out, _ = run("add", adapter, white, "--out", tmp_path / "b", "--refit", tmp_path / "known")
    assert status == 0
    assert "9 images taught anew" in out
    assert classes(tmp_path / "b")[0] == ["blue", "red", "white"]


@pytest.mark.parametrize("more", [[], ["--out", "c", "--in-place"]], ids=["neither", "both"])
@pytest.mark.parametrize("command", [["add", "x"], ["remove", "red"], ["rename", "red", "ruby"]], ids=lambda c: c[0])
def test_a_place_must_be_said_before_anything_is_changed(run, adapter, command, more):
    name, *rest = command
    status, _, err = run(name, adapter, *rest, *more)
    assert status == 2
    assert_states(err, "--out DIR", "--in-place", adapter)
    assert classes(adapter)[0] == ["blue", "red"]


def test_what_fails_leaves_everything_as_it_was(run, adapter, tmp_path):
    before = sorted(tmp_path.iterdir())
    for command in (
        ["add", adapter, tmp_path / "nowhere"],
        ["remove", adapter, "green"],
        ["rename", adapter, "x", "y"],
    ):
        assert run(*command, "--in-place")[0] == 2
    assert sorted(tmp_path.iterdir()) == before
