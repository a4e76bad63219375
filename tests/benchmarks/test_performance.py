"""The page on performance: every figure from a result, and nothing claimed without one."""

import importlib.util
import json
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "write_performance.py"
CPU = {"processor": "AMD EPYC", "cores": 2, "accelerator": None}
GPU = {**CPU, "accelerator": "NVIDIA H200"}
RATIOS = ("time_ratio", "memory_ratio")
STEP_RATIOS = {
    f"{ratio}{pair}": 2.0 + place
    for place, (ratio, pair) in enumerate((r, p) for r in RATIOS for p in ("", "_same_precision", "_fp32"))
}


@pytest.fixture
def tool(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("write_performance", TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    monkeypatch.setattr(tool, "RESULTS", tmp_path)
    return tool


@pytest.fixture
def put(tmp_path):
    """Write a result."""

    def put(benchmark, hardware=CPU, date="2026-11-21", **fields):
        result = {"benchmark": benchmark, "provenance": {"date": f"{date}T10:00:00", "hardware": hardware}, **fields}
        machine = "gpu-machine" if hardware["accelerator"] else "cpu-machine"
        (tmp_path / f"{date}-{machine}-{benchmark}.json").write_text(json.dumps(result), encoding="utf-8")

    return put


def row(variant, seconds=2.0, **fields):
    return {
        "variant": variant,
        "seconds": [seconds, seconds + 0.5],
        "median_seconds": seconds,
        "static_bytes": 1_000_000_000,
        "dynamic_bytes": 234_000_000,
        "peak_bytes": 1_234_000_000,
        "stored_bytes": 120_000_000,
        "share_of_matrix_rate": 0.5,
        "predicted": {"peak_bytes": 1_357_400_000},
        **fields,
    }


def step(classes=100, seconds=2.0, narrow="bf16"):
    rows = [row(f"published-{narrow}", 4.0, predicted=None), row("lowshot-bf16", seconds)]
    return {"shape": {"classes": classes, "batch_size": 32}, "rows": rows, **STEP_RATIOS}


def test_the_step_alone_says_that_no_gpu_was_measured(tool, put):
    put("step", **step())
    table = tool.page()
    assert "| as published, bf16 | 4.0 (4.0 to 4.5) | 1.23 | 50% |" in table
    assert "2.0 times as fast as the published step in fp32 and 3.0 times as fast as it in bf16" in table
    assert "`python benchmarks/step.py`, 2026-11-21, 2 cores of an AMD EPYC, no accelerator" in table
    assert "Not measured: any GPU." in table
    assert "qlora" not in table


def test_memory_and_quantised_rows_come_when_there_are_results(tool, put):
    put("step", **step())
    put("step-1000-classes", shape={"classes": 1000}, rows=[row("lowshot-fp32", 30.0)])
    put("memory", rows=[row("published-fp32", predicted=None), row("lora-xs"), row("lora-bf16-in-1.5GB")])
    put("quantized", rows=[row("qlora", 0.51), {"variant": "lora-int8", "failed": "no"}])
    table = tool.page()
    assert "With 1,000 classes and `--memory-budget 4GB`: 1.23 GB and 30 s a step in fp32." in table
    assert "| as published, fp32 | 1 | 0.234 | - |" in table
    assert "| `lora-xs` | 1 | 0.234 | +10% |" in table
    assert "| `lora`, bf16, `--memory-budget 1.5GB` | 1 | 0.234 | +10% |" in table
    assert "| `qlora` (NF4, bf16) | 0.51 | 120 | 1 | 0.234 |" in table
    assert "int8" not in table  # it failed


def test_a_gpus_result_comes_first(tool, put):
    put("step", **step())
    rows = [row("published", 0.0916), row("lowshot", 0.00912), {"variant": "dora", "failed": "no time left"}]
    targets = {"step_time_ratio_published_fp16": {"aim": "at least 10", "measured": 10.04, "met": True}}
    put("gpu", GPU, device="cuda", parts={"step": {"rows": rows}, "memory": {"failed": "no"}}, targets=targets)
    table = tool.page()
    assert "Not measured" not in table
    assert "| lowshot | 0.00912 | 1.23 | 50% |" in table
    assert "| step time ratio published fp16 | at least 10 | 10 |" in table
    assert "`python benchmarks/gpu.py`, 2026-11-21, one NVIDIA H200" in table
    assert "dora" not in table
    assert table.index("one NVIDIA H200") < table.index("| as published, bf16 |")


def test_the_newest_result_counts_and_a_gpus_not_as_a_cpus(tool, put):
    put("step", **step(seconds=7.0), date="2026-11-20")
    put("step", **step(seconds=8.0), date="2026-11-21")
    put("step", GPU, **step(seconds=9.0), device="cuda", date="2026-11-22")
    assert tool.newest("step")["rows"][1]["median_seconds"] == 8.0
    assert tool.newest("step", on_cuda=True)["rows"][1]["median_seconds"] == 9.0
    assert tool.newest("memory") is None


def test_only_what_is_between_the_marks_is_written(tool, put):
    put("step", **step())
    begin, end = "<!-- performance: written by make docs -->\n", "<!-- end of performance -->\n"
    once = tool.with_tables(f"# before\n{begin}old\n{end}after\n")
    assert once.startswith(f"# before\n{begin}")
    assert once.endswith(f"{end}after\n")
    assert "as published" in once and "old" not in once
    assert tool.with_tables(once) == once


def test_without_a_result_of_the_step_it_says_what_to_run(tool):
    with pytest.raises(SystemExit, match=r"step\.py.*make bench"):
        tool.page()


def serving(model, **figures):
    rows = [row(variant, images_per_second=rate) for variant, rate in (("single", 12.5), ("bank-10000", 1200.0))]
    known = {
        "share_of_single": 0.97,
        "share_of_merged": 0.8,
        "times_peft": 2.5,
        "adapter_bytes": 36864,
        "class_bytes": 102400,
        "load_again_seconds": 0.118,
        "load_first_seconds": 1.75,
    }
    shape = {"model": model, "adapters": [1, 10_000], "batch": 64, "rank": 16}
    return {"shape": shape, "rows": rows, **known, **figures}


def test_serving_has_a_column_for_each_model_that_was_measured(tool, put):
    put("step", **step())
    put("serving", **serving("builtin"))
    put("serving-vit-b16", **serving("ViT-B/16, random", share_of_single=0.91))
    table = tool.page()
    assert "| images a second, batches of 64 | built-in | ViT-B/16, random |" in table
    assert "| bank, 10,000 adapters, mixed at random | 1,200.0 | 1,200.0 |" in table
    assert "built-in: 10,000 adapters at 97% of one beside the weights and 80% of one inside them; 2.5 times" in table
    assert "ViT-B/16, random: 10,000 adapters at 91%" in table
    assert "`python benchmarks/serving.py` and `python benchmarks/serving.py --model vit-b16`, 2026-11-21" in table


def test_the_load_says_what_the_clients_were_answered(tool, put):
    put("step", **step())
    figures = {"p50_seconds": 0.5, "p99_seconds": 2.25, "growth_bytes": 1e6, "answers_per_second": 225.0}
    put("load", adapters=100, rows=[row("all-clients", clients=200, statuses={"200": 13516}, **figures)])
    assert (
        "225 answers a second, half of them within 0.50 s, 99 % within 2.25 s (13,516 answers with 200)" in tool.page()
    )
