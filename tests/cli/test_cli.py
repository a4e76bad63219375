"""The commands as a user meets them: what they print, where, and with which exit status."""

import json
import shutil

import pytest
import torch

from lowshot import FewShotClassifier


def test_fit_evaluate_predict(fit, run, photos, tmp_path):
    status, out, err = fit("--shots", "2")
    assert status == 0, err
    assert "lora learnt 4 images of 2 classes from photos" in out
    assert "on 4 images: images it has not learnt from" in out

    status, out, _ = run("evaluate", tmp_path / "adapter", photos, "--json")
    assert status == 0
    evaluated = json.loads(out)
    assert (evaluated["images"], evaluated["split"]) == (4, "unseen")
    assert 0 <= evaluated["acc1"] <= 1

    images = [photos / "dark_disc" / "0.png", photos / "light_disc" / "1.png"]
    status, out, _ = run("predict", tmp_path / "adapter", *images, "--json")
    assert status == 0
    predicted = json.loads(out)
    assert [row["image"] for row in predicted] == [str(image) for image in images]
    for row in predicted:
        assert set(row["probabilities"]) == {"dark disc", "light disc"}
        assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert row["label"] == max(row["probabilities"], key=row["probabilities"].get)

    status, out, _ = run("predict", tmp_path / "adapter", images[0], "--top", "1")
    assert status == 0
    assert out.startswith(f"{images[0]}  ")
    assert out.count("%") == 1


def test_an_adapter_of_half_precision_is_opened_in_full(fit, run, photos, tmp_path):
    """Most CPUs compute bfloat16 slowly."""
    fit("--precision", "bf16", "--shots", "2")
    folder = tmp_path / "adapter"
    opened = {name: FewShotClassifier.from_pretrained(folder, precision=name) for name in (None, "fp32")}
    assert [each._fitted[0].dtype for each in opened.values()] == [torch.bfloat16, torch.float32]
    image = photos / "dark_disc" / "0.png"
    expected = {name: each.predict_proba([image])[0].max() for name, each in opened.items()}
    assert expected[None] != expected["fp32"]
    status, out, err = run("predict", folder, image, "--precision", "fp32", "--json")
    assert status == 0, err
    assert max(json.loads(out)[0]["probabilities"].values()) == pytest.approx(expected["fp32"], abs=1e-6)
    assert run("evaluate", folder, photos, "--precision", "fp32")[0] == 0
    assert run("evaluate", folder, photos, "--precision", "fp64")[0] == 2


def test_images_that_cannot_be_read_fail_alone(fit, run, photos, tmp_path):
    """The others were not answered either."""
    fit()
    (tmp_path / "text.png").write_text("not an image")
    good = [photos / "dark_disc" / "0.png", photos / "light_disc" / "1.png"]
    status, out, err = run("predict", tmp_path / "adapter", good[0], tmp_path / "text.png", good[1], "--json")
    assert status == 2
    first, bad, last = json.loads(out)
    assert [first["image"], last["image"]] == [str(image) for image in good]
    assert {"label", "probabilities"} < set(first) == set(last)
    assert (bad["image"], bad["error"]["code"]) == (str(tmp_path / "text.png"), "unusable_image")
    assert "text.png is not an image" in bad["error"]["message"]
    assert (err.count("\n"), "text.png is not an image" in err) == (1, True)

    status, out, _ = run("predict", tmp_path / "adapter", tmp_path / "text.png", good[0])
    assert (status, out.count("\n"), out.startswith(str(good[0]))) == (2, 1, True)
    assert run("predict", tmp_path / "adapter", tmp_path / "text.png")[:2] == (2, "")


def test_answers_come_as_csv_and_lines_of_json_and_go_to_a_file(fit, run, photos, tmp_path):
    fit()
    (photos / "text.png").write_text("not an image")
    adapter, given = tmp_path / "adapter", photos / "dark_disc"
    _, out, _ = run("predict", adapter, given, "--json")
    rows = json.loads(out)
    status, out, _ = run("predict", adapter, given, "--format", "jsonl")
    assert (status, [json.loads(line) for line in out.splitlines()]) == (0, rows)
    status, out, _ = run("predict", adapter, given, "--format", "csv", "--top", "2")
    assert out.splitlines()[0] == "image,label,probability,label_2,probability_2,error"
    assert [line.split(",")[:2] for line in out.splitlines()[1:]] == [[row["image"], row["label"]] for row in rows]
    status, out, err = run("predict", adapter, photos, "--out", tmp_path / "answers.csv")
    assert status == 2
    assert "8 images, 1 that cannot be read" in out
    assert "text.png is not an image" in err
    assert len((tmp_path / "answers.csv").read_text().splitlines()) == 10
    for wrong in (["--out", tmp_path / "answers.csv"], ["--out", "answers.txt"], ["--out", "a.csv", "--json"]):
        assert run("predict", adapter, photos, *wrong)[0] == 2


def test_sort(fit, run, photos, tmp_path):
    fit()
    status, out, err = run(
        "sort", tmp_path / "adapter", photos, "--out", tmp_path / "sorted", "--sure", "0.0", "--json"
    )
    assert (status, err) == (0, "")
    sorted_ = json.loads(out)
    assert sum(sorted_["images"].values()) == 8
    assert set(sorted_["images"]) <= {"dark disc", "light disc"}
    assert len(list((tmp_path / "sorted").rglob("*.png"))) == 8
    status, out, err = run("sort", tmp_path / "adapter", photos, "--out", tmp_path / "sorted", "--sure", "0.0")
    assert "8 images" in out
    assert f"look them over: {tmp_path / 'sorted' / 'index.html'}" in out
    for wrong in (["--copy", "--move"], ["--sure", "2"]):
        status, out, err = run("sort", tmp_path / "adapter", photos, "--out", tmp_path / "other", *wrong)
        assert (status, out, err.count("\n")) == (2, "", 1)
    assert run("sort", tmp_path / "adapter", tmp_path / "none", "--out", tmp_path / "other")[0] == 2


def test_of_a_folder_all_images_are_predicted_in_the_order_of_their_names(fit, run, photos, tmp_path):
    """It said that a folder is not a file."""
    fit()
    extra, lone = photos / "light_disc" / "deeper" / "9.PNG", tmp_path / "lone.png"
    extra.parent.mkdir()
    for copy in (extra, lone):
        shutil.copy(photos / "dark_disc" / "0.png", copy)
    (photos / "light_disc" / "notes.txt").touch()
    (photos / ".hidden.png").touch()
    below = sorted([*photos.glob("*/*.png"), extra])
    assert len(below) == 9
    for given, expected in (((photos,), below), ((lone, photos / "dark_disc"), [lone, *below[:4]])):
        status, out, err = run("predict", tmp_path / "adapter", *given, "--json")
        assert (status, [row["image"] for row in json.loads(out)]) == (0, [str(image) for image in expected])
        assert err.splitlines() == (
            [f"lowshot: warning: {photos}: left out 1 file(s) without an image's suffix: 1 .txt"]
            if given == (photos,)
            else []
        )


def test_a_bad_test_image_says_how_to_measure_the_accuracy_without_it(fit, run, photos, tmp_path):
    """One of 780 left a fit without its accuracy, and nothing was said of the way to it."""
    (photos.parent / "split").mkdir()
    photos.rename(photos.parent / "split" / "train")
    photos.parent.joinpath("split").rename(photos)
    shutil.copytree(photos / "train", photos / "test")
    (photos / "test" / "light_disc" / "0.png").write_text("not an image")

    status, _, err = fit()
    assert status == 0
    again = f"lowshot evaluate {tmp_path / 'adapter'} {photos} --on-bad-image skip"
    assert f"accuracy not measured: {photos / 'test' / 'light_disc' / '0.png'} is not an image" in err
    assert f"to measure it on the others: {again}" in err

    status, _, err = run("evaluate", tmp_path / "adapter", photos)
    assert (status, "--on-bad-image skip leaves out" in err, "lowshot data check" in err) == (2, True, True)
    status, out, err = run(*again.split()[1:], "--json")
    assert (status, json.loads(out)["images"]) == (0, 7)
    assert "warning: left out: " in err


def test_a_bad_image_to_learn_from_says_how_to_leave_it_out(fit, photos):
    (photos / "light_disc" / "0.png").write_text("not an image")
    status, _, err = fit()
    assert (status, "--on-bad-image skip leaves out" in err, "lowshot data check" in err) == (2, True, True)
    assert fit("--on-bad-image", "skip")[0] == 0


def test_what_was_left_out_is_said_also_where_fit_fails(fit, photos):
    (photos / "light_disc" / "notes.txt").write_text("x")
    for image in (photos / "light_disc").glob("*.png"):
        image.write_bytes(b"damaged")
    status, _, err = fit()
    assert status == 2
    assert "warning: " in err
    assert "error: " in err


def test_what_is_not_measured_is_said(fit):
    status, out, err = fit()
    assert status == 0
    assert "accuracy" not in out
    assert "accuracy not measured: photos: every image was learnt from" in err


def test_methods_lists_names_kinds_and_aliases(run):
    _, out, _ = run("methods", "--json")
    listed = {row["name"]: row for row in json.loads(out)}
    assert {"zero-shot", "lora", "lora-xs", "dora"} <= set(listed)
    assert {row["kind"] for row in listed.values()} <= {"weights", "features", "prompts", "choice"}
    assert listed["lora"]["aliases"] == {"qlora": "nf4"}
    assert listed["layernorm"]["settings"] == ["encoder", "position"]
    assert {"qlora", "peft:TYPE"} <= set(run("methods")[1].split())
