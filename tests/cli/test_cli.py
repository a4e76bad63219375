"""The commands as a user meets them: what they print, where, and with which exit status."""

import dataclasses
import functools
import importlib
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from lowshot import FewShotClassifier, __version__
from lowshot.cli import COMMANDS, main
from lowshot.cli.parsing import parse, parse_with_recipe
from lowshot.settings import preset_recipe
from refusing import assert_states


@pytest.fixture
def photos(tmp_path):
    """``photos/<class>/*.png``: light and dark discs."""
    rows, columns = np.mgrid[:24, :24]
    generator = np.random.default_rng(0)
    for label, level in (("dark disc", 60), ("light disc", 230)):
        for number in range(4):
            radius = generator.integers(6, 11)
            disc = (rows - 12) ** 2 + (columns - 12) ** 2 < radius**2
            path = tmp_path / "photos" / label.replace(" ", "_") / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture = np.where(disc, level, 128) + generator.integers(0, 20, disc.shape)  # no two are alike
            Image.fromarray(picture.astype(np.uint8)).save(path)
    return tmp_path / "photos"


@pytest.fixture
def fit(run, tiny_clip, photos, tmp_path):
    """Fit the tiny CLIP on the photos."""

    def fit(*arguments, out=tmp_path / "adapter", fast=("--steps-per-shot", "5", "--learning-rate", "1e-2")):
        named = () if {"--method", "--recipe", "--preset"} & set(arguments) else ("--method", "lora")
        return run("fit", photos, "--out", out, "--model", tiny_clip, *fast, *named, *arguments)

    return fit


def test_help_lists_every_command():
    done = subprocess.run([sys.executable, "-m", "lowshot", "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert all(command in done.stdout for command in COMMANDS)


def test_help_imports_nothing_heavy():
    program = "import sys; from lowshot.cli import main; main(['--help']); print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"torch", "numpy", "tyro", "matplotlib"} & set(eval(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_says_what_it_does(command, capsys):
    with pytest.raises(SystemExit) as left:
        main([command, "--help"])
    assert left.value.code == 0
    assert f"usage: lowshot {command}" in capsys.readouterr().out


def test_help_of_fit_has_every_setting(capsys):
    from lowshot.settings import SETTINGS

    with pytest.raises(SystemExit):
        main(["fit", "--help"])
    said = capsys.readouterr().out
    assert all(f"--{setting.replace('_', '-')}" in said for setting in SETTINGS)


@pytest.mark.parametrize(
    ("arguments", "shown", "absent"),
    [
        ([], "Rank r of the update. (default: that of the chosen method)", "0.0002"),
        (["--method", "lora"], "Learning rate at the first step; a cosine brings it down. (default: 0.008)", "chosen"),
        (["--method", "gda"], "Rank r of the update. (not used by gda)", "(default: 9)"),
        (["--method", "lora", "--preset", "paper"], "Rank r of the update. (default: 2)", "(default: 9)"),
    ],
)
def test_help_of_fit_shows_the_settings_that_would_be_used(arguments, shown, absent, capsys):
    with pytest.raises(SystemExit):
        main(["fit", "--help", *arguments])
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert shown in said
    assert absent not in said


def test_version(run):
    assert run("--version") == (0, f"lowshot {__version__}\n", "")


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


def test_flags_win_over_the_recipe_which_wins_over_the_preset(fit, tmp_path):
    (tmp_path / "recipe.toml").write_text('[method]\nmethod = "lora-xs"\nrank = 6\nalpha = 2.0\n')
    status, out, err = fit("--recipe", tmp_path / "recipe.toml", "--alpha", "3", "--json")
    assert status == 0, err
    method = json.loads(out)["recipe"]["method"]
    assert (method["method"], method["rank"], method["alpha"], method["dropout"]) == ("lora-xs", 6, 3.0, 0.25)


def test_a_flag_wins_also_where_it_gives_the_dataclass_default(fit, tmp_path):
    (tmp_path / "recipe.toml").write_text("[method]\nrank = 6\n")
    status, out, _ = fit("--recipe", tmp_path / "recipe.toml", "--rank", "2", "--json")
    assert status == 0
    assert json.loads(out)["recipe"]["method"]["rank"] == 2


def test_presets_follow_the_method(tiny_clip):
    from lowshot.cli.fit import Arguments

    for method, rank in (("lora", 2), ("lora-xs", 32)):
        arguments = ["photos", "--out", "x", "--model", str(tiny_clip), "--method", method]
        assert parse_with_recipe(Arguments, "fit", arguments).settings.method.rank == rank
    of_builtin = parse_with_recipe(Arguments, "fit", ["photos", "--out", "x", "--method=lora-xs"]).settings
    assert of_builtin == preset_recipe("builtin", "lora-xs")


VALUES_OF_LISTS = {
    "openings": ("a photo of a", "a sketch"),
    "peft": ("r=4", "alpha=8"),
    "projections": ("q", "v"),
    "targets": ("digits", "letters"),
    "template": ("a {}.", "the {}."),
    "methods": ("lora", "dora"),
    "shots": ("2", "3"),
    "seeds": ("4", "5"),
    "only": ("seed=1", "shots=4"),
    "against": ("lora", "dora"),
}
LISTS_OF_COMMANDS = [
    ("fit", ("digits", "--out", "x"), ("openings", "peft", "projections", "targets", "template")),
    ("plan", (), ("peft", "projections", "template")),
    ("demo", (), ("methods", "shots", "seeds")),
    ("evaluate", ("adapter", "digits"), ("targets",)),
    ("bench", ("grid.toml", "--out", "x"), ("only",)),
    ("report", ("runs",), ("against",)),
]


@pytest.mark.parametrize(
    ("command", "others", "flag"), [(c, others, flag) for c, others, flags in LISTS_OF_COMMANDS for flag in flags]
)
def test_a_list_flag_that_is_given_several_times_has_all_its_values(command, others, flag):
    """``--projections q --projections v`` trained v alone, and no word was said."""
    kind = importlib.import_module(f"lowshot.cli.{command}").Arguments
    first, second = VALUES_OF_LISTS[flag]
    needed = {
        "openings": ("--method", "coop"),
        "peft": ("--method", "peft:loha"),
        "projections": ("--method", "lora"),
        "targets": ("--protocol", "cross-dataset") if command == "fit" else (),
    }

    def parsed(*given):
        return parse(kind, command, [*others, *needed.get(flag, ()), *given])

    together = parsed(f"--{flag}", first, second)
    assert together != parsed(f"--{flag}", second)
    for apart in (
        (f"--{flag}", first, f"--{flag}", second),
        (f"--{flag}={first}", f"--{flag}={second}"),
        (f"--{flag}", first, "--json", f"--{flag}={second}"),
    ):
        expected = dataclasses.replace(together, json=True) if "--json" in apart else together
        assert parsed(*apart) == expected


def test_what_stands_between_the_flags_of_a_list_keeps_its_meaning():
    kind = importlib.import_module("lowshot.cli.fit").Arguments
    several = ["--projections=q", "digits", "--rank", "4", "--projections=v", "--rank", "3", "--out", "x"]
    parsed = parse(kind, "fit", ["--method", "lora", *several])
    assert (parsed.data, parsed.settings.method.projections, parsed.settings.method.rank) == ("digits", ("q", "v"), 3)
    after = parse(kind, "fit", ["--out", "x", "--template", "a {}.", "--template", "the {}.", "--", "digits"])
    assert (after.data, after.settings.data.template) == ("digits", ("a {}.", "the {}."))


def test_fit_says_what_a_preset_changes(fit, tmp_path):
    status, _, err = fit("--preset", "fast")
    assert status == 0
    assert "preset fast: steps-per-shot 5 (not 500), learning-rate 0.01 (not 0.0002)\n" in err
    status, _, err = fit("--preset", "fast", "--learning-rate", "2e-4", out=tmp_path / "other")
    assert status == 0
    assert "preset fast: steps-per-shot 5 (not 500)\n" in err


def test_aliases_set_the_precision(fit):
    status, out, _ = fit("--method", "qlora", "--json")
    assert status == 0
    record = json.loads(out)
    assert (record["method"], record["quantize"]) == ("lora", "nf4")


def test_methods_lists_names_kinds_and_aliases(run):
    _, out, _ = run("methods", "--json")
    listed = {row["name"]: row for row in json.loads(out)}
    assert {"zero-shot", "lora", "lora-xs", "dora"} <= set(listed)
    assert {row["kind"] for row in listed.values()} <= {"weights", "features", "prompts", "choice"}
    assert listed["lora"]["aliases"] == {"qlora": "nf4"}
    assert listed["layernorm"]["settings"] == ["encoder", "position"]
    assert {"qlora", "peft:TYPE"} <= set(run("methods")[1].split())


@pytest.fixture
def no_pace(monkeypatch):
    """Nothing is timed."""
    import lowshot.cli.doctor

    checks = {name: check for name, check in lowshot.cli.doctor.CHECKS.items() if name != "in a minute"}
    monkeypatch.setattr(lowshot.cli.doctor, "CHECKS", checks)


def test_doctor_finds_this_machine_well(run, no_pace):
    status, out, _ = run("doctor", "--json")
    findings = {row["name"]: row["state"] for row in json.loads(out)}
    assert status == 0
    assert {findings[name] for name in ("python", "torch", "transformers", "peft", "builtin model")} == {"ok"}


def test_doctor_names_a_torchvision_that_does_not_fit_and_can_do_without(run, monkeypatch, no_pace):
    monkeypatch.setattr("lowshot.cli.doctor.torchvision_fault", lambda: "operator torchvision::nms does not exist")
    status, out, _ = run("doctor")
    assert status == 0
    assert "absent  torchvision    what is installed does not fit this torch (operator torchvision::nms does" in out


def test_doctor_survives_what_it_looks_for(run, monkeypatch, no_pace):
    import lowshot.cli.doctor

    def broken():
        raise OSError("libtorch_cpu.so: cannot open shared object file")

    monkeypatch.setitem(lowshot.cli.doctor.CHECKS, "torch", (broken, "pip install torch"))
    status, out, _ = run("doctor")
    assert status == 1
    assert "broken  torch          pip install torch (libtorch_cpu.so" in out


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        (["frobnicate"], ["command 'frobnicate'", "add", "bench", "completion", "data", "demo"]),
        (["fitt"], ["command 'fitt'", "mean fit"]),
        (["fit"], ["Missing from lowshot", "--out"]),
        (["fit", "digits"], ["--out"]),
        (["fit", "digits", "--out", "{tmp}/x", "--method", "lroa"], ["method 'lroa'", "mean lora"]),
        (["fit", "digitz", "--out", "{tmp}/x"], ["data set", "folder 'digitz'", "mean digits"]),
        (["fit", "{tmp}/none", "--out", "{tmp}/x"], ["{tmp}/none", "does not exist"]),
        (["fit", "digits", "--out", "{tmp}/x", "--shots", "0"], ["shots is 0", "1 or more"]),
        (["fit", "digits", "--out", "{tmp}/x", "--shots", "two"], ["--shots", "two"]),
        (["fit", "digits", "--out", "{tmp}/x", "--method", "lora", "--rank", "500"], ["rank is 500", "text_model"]),
        (["fit", "digits", "--out", "{tmp}/x", "--rnk", "5"], ["--rnk", "meant: --rank"]),
        (["fit", "digits", "--out", "{tmp}/x", "--quantize", "int3"], ["--quantize", "choice 'int3'"]),
        (["fit", "digits", "--out", "{tmp}/x", "--preset", "papr"], ["preset 'papr'", "mean paper"]),
        (["fit", "digits", "--out", "{tmp}/x", "--model", "nope"], ["model 'nope'"]),
        (["fit", "digits", "--out", "{tmp}/x", "--device", "gpu"], ["device is 'gpu'"]),
        (["fit", "digits", "--out", "{tmp}"], ["{tmp}", "already exists"]),
        (["fit", "digits", "--out", "/proc/x"], ["/proc/x", "cannot be made"]),
        (["fit", "digits", "--out", "{tmp}/x", "--recipe", "{tmp}/r.toml"], ["{tmp}/r.toml", "does not exist"]),
        (["fit", "digits", "--out", "{tmp}/x", "--template", "a photo"], ["'a photo'", "one {}"]),
        (["predict", "{tmp}/none", "{tmp}/image.png"], ["adapter {tmp}/none", "does not exist"]),
        (["predict", "{tmp}", "{tmp}/image.png"], ["{tmp}", "no adapter"]),
        (["predict", "{tmp}"], ["one image", "IMAGE"]),
        (["predict", "{tmp}", "{tmp}/missing.png"], ["image {tmp}/missing.png", "does not exist"]),
        (["predict", "{tmp}", "/dev/null"], ["image /dev/null", "not a file"]),
        (["predict", "{tmp}", "{tmp}/empty"], ["{tmp}/empty", "no images", "1 file(s)", "suffix"]),
        (["predict", "{tmp}", "{tmp}/image.png", "--top", "0"], ["top is 0", "1 or more"]),
        (["evaluate", "{tmp}", "digits"], ["{tmp}", "no adapter"]),
        (["demo", "--task", "digitz"], ["task 'digitz'", "mean digits"]),
        (["demo", "--methods", "lora", "magic"], ["method 'magic'"]),
        (["demo", "--shots", "0"], ["shots is 0", "1 or more"]),
        (["demo", "--threads", "0"], ["threads is 0", "1 or more"]),
        (["demo", "--threads", "--json"], ["'--threads'", "1 values"]),
        (["demo", "--out", "{tmp}/x", "--seeds", "1", "3000000000"], ["seed is 3000000000"]),
        (["fit", "digits", "--out", "{tmp}/x", "--method", "qlora", "--quantize", "none"], ["qlora", "quantize nf4"]),
        (["demo", "--out", "{tmp}"], ["{tmp}", "already exists"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_input_gives_one_clear_line_and_status_2(run, tmp_path, arguments, facts):
    (tmp_path / "text.png").write_text("not an image")
    Image.new("RGB", (8, 8)).save(tmp_path / "image.png")
    (tmp_path / "empty" / "deeper").mkdir(parents=True)
    (tmp_path / "empty" / "deeper" / "notes.txt").touch()
    before = sorted(tmp_path.iterdir())
    status, out, err = run(*(argument.replace("{tmp}", str(tmp_path)) for argument in arguments))
    assert status == 2
    assert out == ""
    assert err.startswith("lowshot: error: ")
    assert_states(err, *(fact.replace("{tmp}", str(tmp_path)) for fact in facts))
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("method", ["lora", "gda"])
def test_what_is_interrupted_while_it_is_judged_is_kept_and_the_same_command_judges_it(
    fit, tmp_path, monkeypatch, method
):
    from lowshot import FewShotClassifier

    def interrupted(self, data, **options):
        raise KeyboardInterrupt

    settings = {"lora": ("--shots", "2", "--steps-per-shot", "2"), "gda": ("--shots", "2", "--method", "gda")}[method]
    call = functools.partial(fit, *settings, fast=())
    with monkeypatch.context() as patch:
        patch.setattr(FewShotClassifier, "evaluate", interrupted)
        status, _, err = call()
    assert (status, err.splitlines()[-1]) == (130, "lowshot: interrupted")
    learnt = {path.name: path.read_bytes() for path in (tmp_path / "adapter").iterdir() if path.suffix != ".md"}
    record = json.loads(learnt.pop("lowshot.json"))
    card = (tmp_path / "adapter/README.md").read_text()
    assert not record["metrics"]

    assert call("--seed", "7")[0] == 2  # another command's
    status, out, _ = call()

    assert (status, json.loads((tmp_path / "adapter/lowshot.json").read_text())["metrics"]["images"]) == (0, 4)
    assert "accuracy" in out
    assert (tmp_path / "adapter/README.md").read_text() != card
    assert all((tmp_path / "adapter" / name).read_bytes() == content for name, content in learnt.items())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "photos"]
    assert call()[0] == 2  # nothing is left to do


def test_a_command_with_half_characters_is_known_again(tmp_path):
    """They are written as escapes, so that the note was another command's."""
    from lowshot.cli.fit import _Unjudged
    from lowshot.files import write_text

    (tmp_path / "adapter").mkdir()
    note = _Unjudged(tmp_path / "adapter", "photos/caf\udce9")
    assert not note.is_there()
    write_text(note.path, note.command)
    assert note.is_there()
    assert not _Unjudged(tmp_path / "adapter", "photos/cafe").is_there()


@pytest.mark.parametrize("out", [".", "..", "/"])
def test_a_folder_without_a_name_of_its_own_is_refused_as_any_other(run, tmp_path, monkeypatch, out):
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "letter.txt").touch()
    monkeypatch.chdir(tmp_path / "here")
    status, _, err = run("fit", "digits", "--out", out)
    assert (status, err.count("\n")) == (2, 1)
    assert f"output {out} already exists" in err


def test_two_commands_do_not_make_one_output(fit, run, tmp_path, photos):
    from lowshot.files import claimed

    with claimed(tmp_path / "adapter"):
        status, out, err = fit()
    assert (status, out) == (2, "")
    assert f"is being made by process {os.getpid()} on" in err
    assert fit()[0] == 0


def test_a_full_disk_is_one_line(fit, monkeypatch):
    import lowshot.cli.fit

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(lowshot.cli.fit, "print", full, raising=False)
    status, _, err = fit()
    assert status == 1
    assert "No space left on device" in err
    assert "Traceback" not in err


def test_interruption_has_the_shells_status(run, monkeypatch):
    import lowshot.cli.methods

    def interrupted(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(lowshot.cli.methods, "run", interrupted)
    assert run("methods") == (130, "", "lowshot: interrupted\n")


def test_output_may_be_cut_off_by_its_reader():
    program = f"{sys.executable} -m lowshot methods | head -c 10 > /dev/null; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() in ("0", "141")
    assert "Traceback" not in done.stderr


def test_each_argument_that_is_missing_has_a_line(run):
    """Both ran together with their explanations in one."""
    status, _, err = run("bench")
    assert status == 2
    lines = err.splitlines()
    assert [line.partition("bench: ")[2].split()[0] for line in lines] == ["RECIPE", "--out"]
    assert all(line.startswith("lowshot: error: Missing from lowshot bench: ") for line in lines)
    assert lines[-1].endswith("(lowshot bench --help lists the arguments)")


def test_what_a_misspelt_flag_may_mean_is_named_without_its_explanation(run):
    status, _, err = run("fit", "digits", "--out", "x", "--shot", "3")
    assert status == 2
    assert "Unrecognized options: --shot, 3; " in err
    assert "--shots" in err
    assert "Images per class" not in err


@pytest.mark.parametrize("asked", [("-q", "fit"), ("fit", "--quiet")])
def test_quiet_leaves_warnings_and_errors(run, tmp_path, asked):
    command = [*asked, "digits", "--method", "zero-shot", "--out", str(tmp_path / "adapter")]
    assert run(*command) == (0, "", "")
    status, out, err = run(*command)
    assert (status, out) == (2, "")
    assert "already exists" in err


def test_quiet_is_no_argument_behind_the_end_of_options(run):
    assert "image -q does not exist" in run("predict", "adapter", "--", "-q")[2]


def test_only_near_names_are_offered(run):
    assert "did you mean" not in run("fit", "nofolder", "--out", "x")[2]
    assert "did you mean oxford_pets" in run("fit", "pets", "--out", "x")[2]
