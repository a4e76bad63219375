import json
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lowshot
from lowshot.errors import InputError
from lowshot.records import RunRecord, provenance
from lowshot.wording.card import model_card
from refusing import refused

SOURCES = Path(lowshot.__file__).parents[2]
FIELDS = {
    "task": "digits",
    "method": "lora",
    "quantize": "none",
    "shots": 4,
    "seed": 1,
    "recipe": {"method": {"rank": 2}},
    "classes": ("a", "b"),
    "model": {"id": "builtin"},
    "draw": ("x/1", "y/2"),
    "trainable_parameters": 10,
    "total_parameters": 100,
    "adapter_bytes": 400,
    "steps": 5,
    "train_seconds": 0.5,
    "peak_memory_bytes": 1000,
}


@given(
    names=st.lists(st.text(min_size=1), min_size=2, unique=True).map(tuple),
    accuracy=st.floats(0, 1),
    seconds=st.floats(0, 1e6),
)
def test_a_record_survives_json(names, accuracy, seconds):
    record = RunRecord(**{**FIELDS, "classes": names, "train_seconds": seconds, "metrics": {"acc1": accuracy}})
    assert RunRecord.from_dict(json.loads(json.dumps(record.to_dict()))) == record


@pytest.mark.parametrize(
    ("change", "facts"),
    [
        ({"format": 2}, ("format 2", 1)),
        ({"surprise": 1}, ("unknown", "'surprise'")),
    ],
)
def test_records_of_another_shape_are_refused(change, facts):
    with refused(InputError, *facts):
        RunRecord.from_dict({**RunRecord(**FIELDS).to_dict(), **change})


@pytest.mark.parametrize("labels", [[1], [1, "2"], [1, 1], [True, 1], [None, 1], 3, [[1], [2]]], ids=str)
def test_labels_that_no_classifier_wrote_are_refused(labels):
    with pytest.raises(InputError, match="labels"):
        RunRecord.from_dict({**RunRecord(**FIELDS).to_dict(), "labels": labels})


TRIAL = {"method": "gda", "images": 8, "acc1": 0.5, "seconds": 1.5, "said": ""}
CHOICE = {"method": "gda", "why": "+1.0 points", "folds": 2, "tried": [TRIAL, {**TRIAL, "images": 0, "acc1": None}]}


@pytest.mark.parametrize(
    "damage", [{"tried": None}, {"tried": [{}]}, {"why": 3}, {"folds": "2"}, {"tried": [{**TRIAL, "acc1": "high"}]}]
)
def test_a_choice_that_lacks_what_a_card_says_of_it_is_refused(damage):
    read = RunRecord.from_dict({**RunRecord(**FIELDS).to_dict(), "method": "auto", "choice": CHOICE})
    assert "Accuracy on held-out shots: gda " in model_card(read)
    with pytest.raises(InputError, match="choice"):
        RunRecord.from_dict({**RunRecord(**FIELDS).to_dict(), "choice": {**CHOICE, **damage}})


@pytest.mark.parametrize("field", FIELDS)
def test_every_required_field_is_required(field):
    values = RunRecord(**FIELDS).to_dict()
    del values[field]
    with pytest.raises(InputError, match=field):
        RunRecord.from_dict(values)


def test_provenance_names_time_versions_hardware_and_commit():
    found = provenance()
    assert found["date"].endswith("+00:00")
    assert found["versions"]["lowshot"]
    assert found["hardware"]["cores"] >= 1
    assert {"commit", "dirty"} <= set(found)


def test_the_commit_is_that_of_the_sources_and_unknown_without_them():
    asked = subprocess.run(["git", "rev-parse", "HEAD"], cwd=SOURCES, capture_output=True, text=True, check=False)
    is_clone = (SOURCES / ".git").exists() and asked.returncode == 0
    assert provenance()["commit"] == (asked.stdout.strip() if is_clone else None)


def test_the_command_line_of_other_programs_is_not_recorded(monkeypatch):
    monkeypatch.setattr("sys.argv", ["/srv/train.py", "--token", "secret"])
    assert provenance()["command"] == "(from Python)"
    monkeypatch.setattr("sys.argv", ["/usr/bin/lowshot", "fit", "my photos"])
    assert provenance()["command"] == "lowshot fit 'my photos'"


@pytest.mark.parametrize(
    ("program", "command"),
    [
        ("/usr/bin/lowshot", "lowshot fit 'my photos'"),
        (Path(lowshot.__file__).with_name("__main__.py"), "lowshot fit 'my photos'"),
        ("/home/me/secret/__main__.py", "(from Python)"),  # python -m secret
        ("/home/me/secret.py", "(from Python)"),
    ],
)
def test_the_command_of_another_program_is_nobodys_business(monkeypatch, program, command):
    monkeypatch.setattr("sys.argv", [str(program), "fit", "my photos"])
    assert provenance()["command"] == command
