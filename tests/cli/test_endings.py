"""Every way in which a command ends: bad input, an interruption, a full disk; and what it says of it."""

import functools
import json
import os
import subprocess
import sys

import pytest
from PIL import Image

from lowshot import FewShotClassifier
from refusing import assert_states


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


@pytest.mark.parametrize("asked", [("-q", "fit"), ("fit", "--quiet")])
def test_quiet_leaves_warnings_and_errors(run, tmp_path, asked):
    command = [*asked, "digits", "--method", "zero-shot", "--out", str(tmp_path / "adapter")]
    assert run(*command) == (0, "", "")
    status, out, err = run(*command)
    assert (status, out) == (2, "")
    assert "already exists" in err


def test_quiet_is_no_argument_behind_the_end_of_options(run):
    assert "image -q does not exist" in run("predict", "adapter", "--", "-q")[2]
