"""``lowshot import`` as a user meets it."""

import json

import pytest
import torch

from refusing import assert_states


@pytest.fixture
def file(tmp_path):
    """What CLIP-LoRA would save of the built-in model: rank 2 on q and v of two text and four image layers."""
    generator = torch.Generator().manual_seed(0)
    factors = {"w_lora_A": torch.randn(2, 128, generator=generator), "w_lora_B": torch.zeros(128, 2)}
    weights = {f"layer_{i}": {"q_proj": factors, "v_proj": factors} for i in range(6)}
    metadata = {"r": 2, "alpha": 1, "encoder": "both", "params": ["q", "v"], "position": "all"}
    torch.save({"weights": weights, "metadata": metadata}, tmp_path / "lora_weights.pt")
    (tmp_path / "names.txt").write_text("\n".join(f"digit {name}" for name in DIGITS), encoding="utf-8")
    return tmp_path / "lora_weights.pt"


DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def test_it_says_what_was_found_and_what_comes_next(run, file, tmp_path):
    out = tmp_path / "out"
    status, printed, err = run("import", file, "--model", "builtin", "--classes", tmp_path / "names.txt", "--out", out)
    assert status == 0
    assert "warning: what it was trained on is unknown: measure it on a test split" in err
    assert "imported lora of rank 2 on q/v of both, position all: 6,144 parameters" in printed
    assert f"saved to {out} for 10 classes; next: lowshot evaluate {out} DATA" in printed
    status, printed, _ = run("evaluate", out, "digits", "--json")
    assert status == 0
    assert json.loads(printed)["images"] == 901


def test_json_is_the_record(run, file, tmp_path):
    options = ("--model", "builtin", "--classes", tmp_path / "names.txt", "--out", tmp_path / "out")
    status, printed, err = run("import", file, *options, "--template", "{}", "--json")
    assert status == 0, err
    record = json.loads(printed)
    assert record == json.loads((tmp_path / "out" / "lowshot.json").read_text())
    assert record["recipe"]["data"] == {"template": ["{}"]}
    assert record["provenance"]["imported"]["file"] == "lora_weights.pt"


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        (["{file}", "--model", "builtin", "--out", "{tmp}/x"], ["--classes"]),
        (["{file}", "--classes", "{names}", "--out", "{tmp}/x"], ["--model"]),
        (["{tmp}/no.pt", "--model", "builtin", "--classes", "{names}", "--out", "{tmp}/x"], ["no.pt", "not exist"]),
        (["{tmp}", "--model", "builtin", "--classes", "{names}", "--out", "{tmp}/x"], ["{tmp}", "adapter_config.json"]),
        (["{names}", "--model", "builtin", "--classes", "{names}", "--out", "{tmp}/x"], ["{names}", "tensors"]),
        (["{file}", "--model", "builtin", "--classes", "{tmp}/no.txt", "--out", "{tmp}/x"], ["no.txt", "not exist"]),
        (["{file}", "--model", "builtin", "--classes", "{file}", "--out", "{tmp}/x"], ["{file}", "UTF-8"]),
        (["{file}", "--model", "nope", "--classes", "{names}", "--out", "{tmp}/x"], ["model 'nope'"]),
        (["{file}", "--model", "builtin", "--classes", "{names}", "--out", "{tmp}"], ["{tmp}", "already exists"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_input_gives_one_clear_line_and_status_2(run, file, tmp_path, arguments, facts):
    before = sorted(tmp_path.iterdir())
    places = {"{file}": str(file), "{names}": str(tmp_path / "names.txt"), "{tmp}": str(tmp_path)}
    for name, place in places.items():
        arguments, facts = ([word.replace(name, place) for word in words] for words in (arguments, facts))
    status, out, err = run("import", *arguments)
    assert (status, out) == (2, "")
    assert err.startswith("lowshot: error: ")
    assert_states(err, *facts)
    assert err.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before
