import json

import pytest

pytestmark = pytest.mark.long

WAYS = {"forward", "plain", "lowshot"}
VARIANTS = {
    *(f"{way}-{precision}" for way in WAYS for precision in ("fp32", "bf16")),
    *("forward-merged-fp32", "overlapped-fp32", "first-learner-bf16", "second-learner-bf16"),
}
RATIOS = {
    "time_ratio": ("plain-fp32", "lowshot-bf16"),
    "time_ratio_same_precision": ("plain-bf16", "lowshot-bf16"),
    "time_ratio_fp32": ("plain-fp32", "lowshot-fp32"),
    "time_ratio_merged": ("forward-fp32", "forward-merged-fp32"),
    "time_ratio_overlapped": ("plain-fp32", "overlapped-fp32"),
    "time_ratio_features": ("first-learner-bf16", "second-learner-bf16"),
}


def test_judging_has_a_row_for_each_way_and_each_lever(program, tmp_path, capsys):
    evaluation = program("evaluation")
    returned = evaluation.main(evaluation.Arguments(smoke=True, json=True, out=tmp_path, device="cpu", repeats=1))
    printed = json.loads(capsys.readouterr().out)  # one object and nothing else
    [path] = tmp_path.iterdir()
    assert path.name.endswith("-evaluation.json")
    assert printed == json.loads(path.read_text(encoding="utf-8")) == json.loads(json.dumps(returned))
    assert printed["shape"] == {"images": 260, "photograph": "60 x 45 JPEG", "classes": 100, "model": "smoke"}
    assert type(printed["threads"]) is int
    assert 0 < printed["merge_seconds"] < 10
    assert {"hardware", "versions", "commit", "date"} <= set(printed["provenance"])
    rows = {row["variant"]: row for row in printed["rows"]}
    assert set(rows) == VARIANTS
    for variant, row in rows.items():
        assert len(row["seconds"]) == 1
        assert min(row["seconds"]) <= row["median_seconds"] <= max(row["seconds"])
        assert row["images_per_second"] == pytest.approx(260 / row["median_seconds"])
        alone = rows[f"forward-{row['precision']}"]["median_seconds"]
        assert row["share_of_forward"] == pytest.approx(alone / row["median_seconds"])
        assert variant.endswith(row["precision"])
    for name, (above, below) in RATIOS.items():
        assert printed[name] == pytest.approx(rows[above]["median_seconds"] / rows[below]["median_seconds"]), name
    assert printed["time_ratio_features"] > 3  # the second one encodes no image
