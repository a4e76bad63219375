import json

import pytest

pytestmark = pytest.mark.long


def test_it_measures_both_ways_of_each_method(program, tmp_path, capsys):
    benchmark = program("together")
    result = benchmark.main(benchmark.Arguments(smoke=True, json=True, device="cpu", out=tmp_path))
    assert json.loads(capsys.readouterr().out) == result
    assert json.loads(next(tmp_path.glob("*-together.json")).read_text(encoding="utf-8")) == result
    assert [row["variant"] for row in result["rows"]] == ["lora x 2", "lora-xs x 2"]
    for row in result["rows"]:
        assert row["seconds_ratio"] == pytest.approx(row["seconds_alone"][0] / row["seconds_together"][0])
        assert row["processor_seconds_ratio"] > 0
