"""How cases are measured, whatever they are: processes of their own, failures, the clock, the files' names."""

import dataclasses
import json
import time

import pytest
import torch

pytestmark = pytest.mark.long


@pytest.fixture
def measuring(program):
    return program("measuring")


@pytest.fixture
def case(program):
    return program("cases").Case("lora-fp32", "lowshot", {"precision": "fp32"}, shape="smoke", classes=4, batch_size=4)


def stand_in(measuring, monkeypatch, tmp_path, text):
    """Put a program of our own in the place of the one that measures."""
    path = tmp_path / "stand_in.py"
    path.write_text(text, encoding="utf-8")
    monkeypatch.setattr(measuring, "CASES", path)


def test_a_case_is_measured_in_a_process_of_its_own(measuring, case, capsys):
    marker = torch.zeros(40_000_000)  # 160 MB that its peak must not contain
    rows = measuring.measured([case], measuring.Measuring(device="cpu", json=True))
    row = rows["lora-fp32"]
    assert marker.sum() == 0
    assert row["steps"] == len(row["seconds"]) == 3
    own = measuring.measured([case], measuring.Measuring(device="cpu", json=True, smoke=True))["lora-fp32"]
    assert row["static_bytes"] < own["static_bytes"] - 100_000_000
    assert capsys.readouterr().out == ""


def test_a_case_that_fails_costs_no_other_and_ends_in_an_error(measuring, case, monkeypatch, tmp_path, capsys):
    program = (
        'import json, sys\ncase = json.loads(sys.argv[1])\nif case["variant"] == "bad": sys.exit("it is too small")\n'
    )
    program += 'print("noise"); print(json.dumps({"seconds": [1.0]}))\n'
    stand_in(measuring, monkeypatch, tmp_path, program)
    bad, arguments = (
        dataclasses.replace(case, variant="bad"),
        measuring.Measuring(device="cpu", json=True, out=tmp_path),
    )
    rows = measuring.measured([bad, case], arguments)
    assert rows["bad"] == {"variant": "bad", "failed": "it is too small"}
    assert rows["lora-fp32"] == {"variant": "lora-fp32", "seconds": [1.0]}
    assert measuring.line(rows["bad"]).endswith("failed: it is too small")
    with pytest.raises(SystemExit, match="failed: bad"):
        measuring.finish(measuring.result_of("step", arguments, rows, {}), arguments)
    [written] = tmp_path.glob("*-step.json")
    assert json.loads(written.read_text(encoding="utf-8"))["rows"] == list(rows.values())


def test_a_case_that_takes_too_long_is_stopped_and_none_is_begun_without_time(measuring, case, monkeypatch, tmp_path):
    stand_in(measuring, monkeypatch, tmp_path, "import time\ntime.sleep(60)\n")
    arguments, left = measuring.Measuring(device="cpu", json=True), iter([0.3, -1.0])
    started = time.monotonic()
    rows = measuring.measured([case, dataclasses.replace(case, variant="next")], arguments, lambda: next(left))
    assert time.monotonic() - started < 10
    assert rows["lora-fp32"]["failed"] == "not done in 0 seconds"
    assert rows["next"]["failed"] == "no time left"


def test_what_is_known_is_not_measured_again(measuring, case, monkeypatch, tmp_path):
    stand_in(measuring, monkeypatch, tmp_path, "print('{\"seconds\": [1.0]}')\n")
    arguments, known = measuring.Measuring(device="cpu", json=True), {}
    first = measuring.measured([case], arguments, known=known)
    stand_in(measuring, monkeypatch, tmp_path, "raise SystemExit('measured again')\n")
    assert measuring.measured([case], arguments, known=known) == first
    other = dataclasses.replace(case, batch_size=8)
    assert measuring.measured([other], arguments, known=known)["lora-fp32"]["failed"] == "measured again"


def test_ratios_leave_out_what_failed_or_is_missing(measuring):
    rows = {"a": {"x": 6.0}, "b": {"x": 2.0}, "c": {"failed": "no"}}
    wanted = {"ab": ("x", "a", "b"), "ac": ("x", "a", "c"), "ad": ("x", "a", "d")}
    assert measuring.ratios(rows, wanted) == {"ab": 3.0}


def test_the_clock_takes_the_time_of_each_item_and_of_all(program):
    clock = program("cases").Clock(torch.device("cpu"), each=True)
    for pause in clock([0.02, 0.0]):
        time.sleep(pause)
    assert len(clock.seconds) == 2
    assert clock.seconds[0] >= 0.02 > clock.seconds[1]
    assert clock.total >= sum(clock.seconds)


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a CUDA device")
def test_a_device_that_is_not_there_is_refused_and_never_replaced(measuring):
    assert measuring.OnDevice().on == "cpu"
    with pytest.raises(SystemExit, match=r"cuda.*--device cpu"):
        _ = measuring.OnDevice(device="cuda").on


def test_a_file_is_named_after_the_machine(program):
    slug = program("write_result").hardware_slug
    amd = {"accelerator": None, "cores": 2, "processor": "AMD EPYC"}
    assert slug(amd) == "2-core-amd-epyc"
    intel = {"accelerator": None, "cores": 2, "processor": "Intel(R) Xeon(R) Processor"}
    assert slug(intel) == "2-core-intel-xeon"
    old = {"accelerator": None, "cores": 4, "processor": "Intel(R) Core(TM) i7-8650U CPU @ 1.90GHz"}
    assert slug(old) == "4-core-intel-core-i7-8650u"
    gpu = {**amd, "accelerator": "NVIDIA H200"}
    assert slug(gpu) == "nvidia-h200"
    assert slug(gpu, on_cpu=True) == "2-core-amd-epyc"


def test_what_ran_on_the_cpu_of_a_machine_with_a_gpu_is_not_called_the_gpus(program, monkeypatch, tmp_path):
    files = program("write_result")
    gpu = {"accelerator": "NVIDIA H200", "cores": 16, "processor": "AMD EPYC"}
    monkeypatch.setattr(files, "provenance", lambda: {"hardware": gpu})
    names = [
        files.write_result({"benchmark": "step", "device": device}, tmp_path).name[11:] for device in ("cuda", "cpu")
    ]
    assert names == ["nvidia-h200-step.json", "16-core-amd-epyc-step.json"]


def test_committed_results_are_named_after_their_day_machine_and_benchmark(program):
    files = program("write_result")
    for path in files.RESULTS.iterdir():
        result = json.loads(path.read_text(encoding="utf-8"))
        provenance = result.get("provenance") or result["records"][0]["provenance"]
        machine = files.hardware_slug(provenance["hardware"], on_cpu=result.get("device") == "cpu")
        name = "-".join([result["benchmark"], *result.get("part", ())])
        assert path.name == f"{provenance['date'][:10]}-{machine}-{name}.json"
