"""``lowshot export`` as a user meets it."""

import json
import re

import pytest

from lowshot import FewShotClassifier
from refusing import assert_states


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    """One shot of each digit, two steps."""
    folder = tmp_path_factory.mktemp("cli") / "adapter"
    classifier = FewShotClassifier(method="lora-xs", base_steps=1, steps_per_shot=1)
    classifier.fit("digits", shots=1).save_pretrained(folder)
    return folder


def test_it_says_what_was_written_and_how_far_it_is_from_the_classifier(run, adapter, tmp_path):
    status, out, err = run("export", adapter, "--format", "peft", "--out", tmp_path / "out")
    assert (status, err) == (0, "")
    files = "README.md, adapter_config.json, adapter_model.safetensors, classes.json"
    assert f"exported {adapter} to {tmp_path / 'out'}: {files}\n" in out
    difference = float(out.partition("classifier's: ")[2].split()[0])
    assert 0 <= difference < 1e-4
    assert str(tmp_path / "out" / "README.md") in out


def test_json_has_the_same(run, adapter, tmp_path):
    status, out, err = run("export", adapter, "--format", "merged", "--out", tmp_path / "out", "--json")
    assert (status, err) == (0, "")
    answer = json.loads(out)
    assert answer["largest_difference"] < 1e-4
    facts = {"format", "precision", "files", "largest_difference", "accuracy", "notes"}
    assert set(answer) == {"adapter", "out", *facts}
    assert answer["files"] == sorted(path.name for path in (tmp_path / "out").iterdir())


@pytest.mark.long
def test_onnx_is_written_without_a_word_on_standard_error(run, adapter, tmp_path):
    status, out, err = run("export", adapter, "--format", "onnx", "--out", tmp_path / "out")
    assert (status, err) == (0, "")
    assert "model.onnx" in out


@pytest.mark.long
def test_what_is_rounded_is_judged_on_the_task_it_was_learnt_from(run, adapter, tmp_path):
    given = ("--format", "onnx", "--precision", "int8", "--out", tmp_path / "out")
    status, out, err = run("export", adapter, *given)
    assert status == 0, err
    assert re.search(r"accuracy \d+\.\d % before and \d+\.\d % after on 901 images of digits: the test split", out)


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        ([], ["Missing from lowshot", "ADAPTER", "--format", "--out"]),
        (["{adapter}", "--out", "{tmp}/x"], ["--format"]),
        (["{adapter}", "--format", "tflite", "--out", "{tmp}/x"], ["--format", "choice 'tflite'"]),
        (["{adapter}", "--format", "space", "--precision", "int8", "--out", "{tmp}/x"], ["precision", "Space"]),
        (["{tmp}/none", "--format", "peft", "--out", "{tmp}/x"], ["{tmp}/none", "does not exist"]),
        (["{tmp}", "--format", "peft", "--out", "{tmp}/x"], ["{tmp}", "no adapter"]),
        (["{adapter}", "--format", "peft", "--out", "{adapter}"], ["{adapter}", "already exists"]),
        (["{adapter}", "--format", "peft", "--out", "/proc/x"], ["/proc/x", "cannot be made"]),
        (["{adapter}", "--format", "peft", "--out", "{tmp}/x", "--model", "{tmp}/no"], ["{tmp}/no", "no such folder"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_input_gives_one_clear_line_and_status_2(run, adapter, tmp_path, arguments, facts):
    def placed(words):
        return [word.replace("{tmp}", str(tmp_path)).replace("{adapter}", str(adapter)) for word in words]

    given = placed(arguments)
    status, out, err = run("export", *given)
    assert (status, out) == (2, "")
    lines = err.splitlines()
    assert all(line.startswith("lowshot: error: ") for line in lines)
    assert_states(err, *placed(facts))
    assert len(lines) == (1 if given else 3)  # one for each argument that is missing
    assert list(tmp_path.iterdir()) == []


def test_a_space_is_a_folder_with_a_page_of_its_own(run, adapter, tmp_path):
    status, out, err = run("export", adapter, "--format", "space", "--out", tmp_path / "out")
    assert (status, err) == (0, "")
    assert out.startswith(
        f"exported {adapter} to {tmp_path / 'out'}: Dockerfile, README.md, adapters/adapter/README.md"
    )
    assert str(tmp_path / "out" / "README.md") in out
