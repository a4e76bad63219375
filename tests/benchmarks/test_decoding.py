import json

import pytest

pytestmark = pytest.mark.long


def test_every_way_to_decode_and_crop_is_timed(program, tmp_path, capsys):
    benchmark = program("decoding")
    result = benchmark.main(benchmark.Arguments(smoke=True, json=True, device="cpu", out=tmp_path))

    assert json.loads(capsys.readouterr().out) == result
    assert json.loads(next(tmp_path.glob("*-decoding.json")).read_text(encoding="utf-8")) == result
    assert (result["benchmark"], result["device"], result["images"]) == ("decoding", "cpu", 32)
    assert [list(ways) for ways in result["crops"].values()] == [["one by one", "together"]] * 2
    assert len(result["pixels"]) == 4
    assert list(result["telephone"]) == list(result["telephone_bytes"]) == ["whole in floating point", "reduced"]
    for ways in (*result["crops"].values(), result["pixels"], result["telephone"], result["telephone_step"]):
        for row in ways.values():
            assert 0 < row["least"] <= row["median"] <= row["most"]


def test_ways_take_turns_and_the_first_turn_is_not_counted(program, monkeypatch):
    measuring, done, now = program("measuring"), [], [0.0]
    monkeypatch.setattr(measuring.time, "perf_counter", lambda: now[0])

    def way(name, seconds):
        def work():
            now[0] += 100 if name not in done else seconds
            done.append(name)

        return work

    times = measuring.milliseconds(measuring.in_turn({"a": way("a", 1), "b": way("b", 2)}, 3))

    assert done == ["a", "b"] * 4
    assert times["a"]["most"] == pytest.approx(1000)
    assert times["b"] == pytest.approx({"median": 2000, "least": 2000, "most": 2000})
