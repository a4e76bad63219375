"""The benchmark of serving on something tiny: every way is there, and the ratios are those of its rows."""

import contextlib
import io
import json

import pytest

pytestmark = pytest.mark.long

WAYS = ["merged", "single", "bank-1", "bank-6", "bank-different"]
OTHERS = ["peft-different", "peft-lora-different", "model-per-adapter"]
RATIOS = {
    "share_of_single": ("single", "bank-6"),
    "share_of_merged": ("merged", "bank-6"),
    "times_peft": ("peft-different", "bank-different"),
    "times_peft_lora": ("peft-lora-different", "bank-different"),
    "times_model_per_adapter": ("model-per-adapter", "bank-different"),
}


def test_every_way_to_serve_is_measured_and_the_ratios_are_of_these_rows(program, tmp_path):
    serving = program("serving")
    with contextlib.redirect_stdout(io.StringIO()):
        result = serving.main(serving.Arguments(smoke=True, json=True, device="cpu", out=tmp_path))
    [path] = tmp_path.iterdir()
    assert path.name.endswith("-serving.json")
    assert json.loads(path.read_text(encoding="utf-8"))["rows"] == result["rows"]
    rows = {row["variant"]: row["median_seconds"] for row in result["rows"]}
    assert list(rows) == WAYS + OTHERS
    for name, (above, below) in RATIOS.items():
        assert result[name] == pytest.approx(rows[above] / rows[below])
    assert 0 < result["load_again_seconds"] <= result["load_again_most_seconds"]
    # The built-in model: 4 layers of the vision tower, q, k and v, 16 x 16 numbers; 3 classes in float16, and lengths
    assert result["adapter_bytes"] == 4 * 3 * 16 * 16 * 4
    assert result["class_bytes"] == 3 * 128 * 2 + 3 * 4
