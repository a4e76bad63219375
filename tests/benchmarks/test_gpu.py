"""The call that a GPU is lent for: its parts, its limits, and what is left when something goes wrong."""

import json
import subprocess
import sys

import pytest
import torch


@pytest.fixture
def gpu(program):
    return program("gpu")


def written(folder):
    [path] = folder.glob("*-gpu.json")
    return json.loads(path.read_text(encoding="utf-8"))


def test_a_smoke_run_has_every_part(gpu, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(gpu, "evaluation_command", lambda smoke: [sys.executable, "-c", "print('{\"images\": 3}')"])
    result = gpu.main(gpu.parse(["--smoke", "--out", str(tmp_path)]))
    assert list(result["parts"]) == ["step", "training", "quantized", "memory", "evaluation", "tests"]
    assert written(tmp_path) == json.loads(json.dumps(result))
    for name in ("step", "training", "quantized", "memory"):
        assert result["parts"][name]["rows"], name
        assert result["parts"][name]["memory_ratio"] > 0, name
    assert result["parts"]["evaluation"]["images"] == 3
    assert result["parts"]["tests"]["exit_status"] == 0
    training = {row["variant"]: row for row in result["parts"]["training"]["rows"]}
    assert result["targets"]["training_seconds"]["measured"] == training["lowshot-bf16"]["train_seconds"]
    rows = {part: {row["variant"]: row for row in result["parts"][part]["rows"]} for part in ("memory", "quantized")}
    assert rows["memory"]["lora-bf16"] == rows["quantized"]["lora-bf16"]  # measured once
    assert "lora-bf16" in capsys.readouterr().out


def test_a_part_that_fails_costs_no_other_and_ends_in_an_error(gpu, tmp_path, monkeypatch):
    def parts(_smoke, _device, _budget):
        def fault():
            raise RuntimeError("no kernel image")

        rows = [{"variant": "a", "failed": "out of memory"}, {"variant": "b"}]
        return {"first": (1.0, fault), "second": (1.0, lambda: {"rows": rows}), "third": (1.0, dict)}

    monkeypatch.setattr(gpu, "parts", parts)
    with pytest.raises(SystemExit, match="failed: first, second: a"):
        gpu.main(gpu.parse(["--smoke", "--out", str(tmp_path)]))
    result = written(tmp_path)
    assert result["parts"]["first"]["failed"] == "RuntimeError: no kernel image"
    assert list(result["parts"]) == ["first", "second", "third"]


def test_what_is_finished_is_there_when_the_call_is_cut_off(gpu, tmp_path, monkeypatch):
    def cut_off():
        assert written(tmp_path)["parts"]["first"]["found"] == 1
        raise KeyboardInterrupt

    parts = {"first": (1.0, lambda: {"found": 1}), "second": (1.0, cut_off)}
    monkeypatch.setattr(gpu, "parts", lambda *_: parts)
    with pytest.raises(KeyboardInterrupt):
        gpu.main(gpu.parse(["--smoke", "--out", str(tmp_path)]))
    assert list(written(tmp_path)["parts"]) == ["first"]


def test_a_program_that_takes_too_long_or_says_no_json_is_told_of(gpu):
    budget = gpu.Budget(float("inf"))
    budget.start(0.3)
    assert gpu.program_part([sys.executable, "-c", "import time; time.sleep(60)"], budget) == {
        "failed": "not done in 0 seconds"
    }
    budget.start(-1.0)
    assert gpu.program_part([sys.executable, "-c", ""], budget) == {"failed": "no time left"}
    budget.start(30.0)
    said = gpu.program_part([sys.executable, "-c", "print('1 failed'); raise SystemExit(1)"], budget)
    assert said == {"said": "1 failed\n", "exit_status": 1, "failed": "see said"}


def test_no_part_outlasts_the_call(gpu):
    budget = gpu.Budget(gpu.time.monotonic() + 10.0)
    budget.start(100.0)
    assert 9.0 < budget.left() <= 10.0


def test_aims_are_judged_by_what_was_measured_and_silent_about_the_rest(gpu):
    parts = {
        "training": {
            "time_ratio": 12.0,
            "rows": [{"variant": "lowshot-bf16", "train_seconds": 6.5, "share_of_matrix_rate": 0.4}],
        },
        "quantized": {
            "rows": [
                {"variant": "lora-bf16", "median_seconds": 0.02},
                {"variant": "qlora-in-0.17GB", "median_seconds": 0.021, "peak_bytes": 160_000_000},
            ]
        },
    }
    met = {name: (aim["measured"], aim["met"]) for name, aim in gpu.aims(parts).items()}
    assert met == {
        "training_seconds": (6.5, False),
        "training_time_ratio": (12.0, True),
        "training_share_of_matrix_rate": (0.4, True),
        "qlora_peak_gb": (0.16, True),
        "qlora_time_over_lora": (pytest.approx(1.05), True),
    }
    assert gpu.aims({"quantized": {"failed": "no time left"}}) == {}


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a CUDA device")
def test_without_a_cuda_device_nothing_is_begun(gpu, tmp_path):
    with pytest.raises(SystemExit, match="torch sees no CUDA device here; expected one, or --smoke"):
        gpu.main(gpu.parse(["--out", str(tmp_path)]))
    assert not list(tmp_path.iterdir())


def test_results_go_where_the_machine_says(gpu, monkeypatch, tmp_path, program):
    monkeypatch.setenv("OUT", str(tmp_path))
    assert gpu.parse([]).out == tmp_path
    monkeypatch.delenv("OUT")
    assert gpu.parse([]).out == program("write_result").RESULTS
    assert gpu.parse(["--smoke"]).out is None


def test_packages_are_packed_so_that_another_python_finds_them(gpu, tmp_path):
    gpu.pack(tmp_path / "carried")
    libraries = {path.name for path in (tmp_path / "carried" / "bitsandbytes").glob("*.so")}
    assert all(name.endswith(("_cpu.so", "_cuda130.so", "_cuda132.so")) for name in libraries)
    assert libraries
    program = "import importlib.metadata as m, tyro; print(tyro.__file__, m.version('bitsandbytes'))"
    said = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(tmp_path / "carried")},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert said.startswith(str(tmp_path / "carried" / "tyro"))
