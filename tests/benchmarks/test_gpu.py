"""The call that a GPU is lent for: its parts, its limits, and what is left when something goes wrong."""

import dataclasses
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from refusing import refused

pytestmark = pytest.mark.long

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "gpu.py"
STEP = [
    *("lowshot", "published", "published-fused", "peft-lora", "lowshot-launched", "lowshot-fp16"),
    *("lowshot-adapter-fp32", "lora-xs", "dora", "peft-dora", "full", "layernorm", "lora-int8"),
]
QUANTIZED = [
    *("lora-whole", "qlora-whole", "published-qlora", "qlora-smallest-checkpointing", "qlora-smallest"),
    *("lowshot", "lora-0.5GB"),
]
PREDICTED = [name for name in STEP if not name.startswith(("published", "peft"))] + ["training"]


@pytest.fixture
def gpu(program):
    return program("gpu")


@pytest.fixture
def run(tmp_path, program):
    """A call that has begun a part."""
    result = {"benchmark": "gpu", "device": "cpu", "parts": {}}
    call = program("gpu_run").Run("cpu", "bf16", smoke=True, ends=math.inf, result=result, out=tmp_path)
    call.begin("step", 100.0)
    return call


def written(folder):
    [path] = folder.glob("*-gpu.json")
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """The whole program as a user starts it, with what it said; pytest, which it runs, cannot run inside of itself."""
    out = tmp_path_factory.mktemp("gpu")
    command = [sys.executable, str(PROGRAM), "--smoke", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "OUT": "nowhere"})
    assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]
    return written(out), done.stdout


def test_a_smoke_run_has_every_part_and_every_aim(gpu, smoke, program):
    result, printed = smoke
    assert set(result["parts"]) == set(gpu.PARTS)
    assert set(result["targets"]) == set(program("gpu_aims").TARGETS) == set(program("gpu_aims").figures({}))
    assert result["parts"]["correct"]["rows"][0]["passed"] == 1
    assert result["parts"]["correct"]["exit_status"] == 0
    rows = {part: [row["variant"] for row in of_part["rows"]] for part, of_part in result["parts"].items()}
    assert rows["step"] == STEP
    assert rows["training"] == ["training"]
    assert rows["quantized"] == QUANTIZED
    assert set(PREDICTED) < set(rows["memory"])
    assert not [name for name in rows["memory"] if name.startswith(("published", "peft"))]
    assert rows["judging"] == ["forward", "judging"]
    assert rows["serving"] == ["single", "bank-1", "bank-10000", "bank-different", "peft-different"]
    assert rows["profile"] == ["replayed", "launched"]
    assert rows["together"] == ["together-8", "alone-8"]
    assert "lowshot-adapter-fp32" in printed


def test_the_rows_of_a_smoke_run_say_what_was_measured(smoke):
    rows = {part: {row["variant"]: row for row in of_part["rows"]} for part, of_part in smoke[0]["parts"].items()}
    for row in (*rows["step"].values(), *rows["quantized"].values(), *rows["training"].values()):
        assert row["median_seconds"] > 0, row["variant"]
        assert row["peak_bytes"] > row["static_bytes"] > 0, row["variant"]
        assert row["share_of_matrix_rate"] == row["arithmetic"] / row["median_seconds"] / row["matrix_rate"]
        assert len(row["seconds"]) == 1  # nothing waits for the device in between
    assert rows["quantized"]["lowshot"] == rows["step"]["lowshot"]  # measured once
    assert rows["training"]["training"]["steps"] == 5
    for name in ("qlora-smallest", "qlora-smallest-checkpointing"):
        assert 0 < rows["quantized"][name]["smallest_budget_bytes"] < 10e9
    for row in rows["memory"].values():
        assert row["error"] == row["predicted"]["peak_bytes"] / row["peak_bytes"] - 1
    for row in rows["profile"].values():
        assert row["kernels"] >= sum(each["calls"] for each in row["top"]) > 0
        assert 0 < row["busy_seconds"] < row["step_seconds"]
        assert len(row["top"]) == 20
    assert rows["judging"]["forward"]["share_of_forward"] == 1.0


def test_a_part_that_fails_costs_no_other_and_ends_in_an_error(gpu, tmp_path, monkeypatch):
    def fault(run):
        raise RuntimeError("no kernel image")

    def rows(run):
        run.add(
            {"variant": "a", "failed": "out of memory"}, {"variant": "b"}, {"variant": "c", "left_out": "too large"}
        )

    parts = {"step": (9.0, fault), "training": (9.0, rows), "quantized": (0.0, rows), "memory": (9.0, lambda run: None)}
    monkeypatch.setattr(gpu, "PARTS", parts)
    with refused(SystemExit, "step", "quantized", "training: a"):
        gpu.main(gpu.parse(["--smoke", "--out", str(tmp_path)]))
    result = written(tmp_path)
    assert result["parts"]["step"]["failed"] == "RuntimeError: no kernel image"
    assert result["parts"]["quantized"]["failed"] == "no time left"
    assert set(result["parts"]) == set(parts)


def test_only_some_parts_are_done_where_some_are_named(gpu, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "PARTS", {name: (9.0, lambda run: None) for name in gpu.PARTS})
    arguments = gpu.parse(["--smoke", "--out", str(tmp_path), "--only", "profile", "step"])
    assert list(gpu.main(arguments)["parts"]) == ["step", "profile"]
    with pytest.raises(SystemExit):
        gpu.parse(["--only", "everything"])


def test_what_is_finished_is_there_when_the_call_is_cut_off(run, tmp_path):
    def cut_off(ends):
        assert [row["variant"] for row in written(tmp_path)["parts"]["step"]["rows"]] == ["first"]
        raise KeyboardInterrupt

    run.attempt("first", 9.0, lambda ends: [{"found": 1}])
    with pytest.raises(KeyboardInterrupt):
        run.attempt("second", 9.0, cut_off)
    assert written(tmp_path)["parts"]["step"]["rows"][0]["found"] == 1


def test_a_row_that_fails_or_cannot_be_says_why_and_costs_no_other(gpu, run, program):
    def raises(error):
        def work(ends):
            raise error

        return work

    run.attempt("fault", 9.0, raises(ValueError("first line\nsecond line")))
    run.attempt("large", 9.0, raises(torch.OutOfMemoryError("CUDA out of memory")))
    run.attempt("idle", 9.0, raises(program("gpu_run").LeftOutError("no bf16 here")))
    run.attempt("fine", 9.0, lambda ends: [{"variant": "one"}, {"variant": "two"}])
    run.part_ends = time.monotonic()
    run.attempt("late", 9.0, raises(AssertionError("it was begun")))
    rows = {row["variant"]: row for row in run.rows}
    assert rows["fault"]["failed"] == "ValueError: first line"
    assert rows["large"]["left_out"].startswith("it does not fit into the")
    assert rows["idle"]["left_out"] == "no bf16 here"
    assert {"one", "two"} < set(rows)
    assert rows["late"]["failed"] == "no time left"
    assert gpu.failures(run.result["parts"]) == ["step: fault", "step: late"]


def test_no_row_outlasts_its_limit_nor_its_part_nor_the_call(run):
    def left(part, row, call=1000.0):
        """Seconds that a row is given; a slow machine makes them a few more."""
        ends, now = [], time.monotonic()
        run.ends = now + call
        run.begin("step", part)
        run.attempt("row", row, lambda until: ends.append(until - now) or [])
        return ends[0]

    assert 50.0 <= left(500.0, 50.0) < 100.0
    assert 50.0 <= left(50.0, 500.0) < 100.0
    assert 50.0 <= left(500.0, 500.0, 50.0) < 100.0


def test_a_row_that_is_over_its_limit_stops_and_says_so(program, monkeypatch):
    cases, looked = program("cases"), iter(range(100))
    clock = SimpleNamespace(monotonic=lambda: next(looked), perf_counter=time.perf_counter)
    monkeypatch.setattr(cases, "time", clock)  # a second passes at each look
    case = cases.Case("lora", "lowshot", {}, shape="smoke", classes=4, batch_size=4, warm_up=1, steps=10**6, threads=1)
    stopped = cases.measure(dataclasses.replace(case, waits=False), 4.0)
    assert stopped["steps"] == len(range(5)) - case.warm_up
    assert stopped["stopped"] == "after 4 of 1000000 steps, at its limit"
    assert "stopped" not in cases.measure(dataclasses.replace(case, steps=2))
    with pytest.raises(TimeoutError, match="after 0 steps"):
        cases.measure(case, 0.0)


def test_the_time_of_a_step_leaves_out_those_before_it_and_the_time_of_a_run_does_not(program):
    clock = program("cases").Clock(torch.device("cpu"), each=False, warm_up=2)
    for pause in clock([0.2, 0.2, 0.0, 0.0]):
        time.sleep(pause)
    assert clock.steps == 2
    assert clock.total > 0.4 > 0.2 > clock.measured


def test_steps_that_are_recorded_are_measured_together(program, monkeypatch):
    from lowshot.training import run
    from lowshot.training.recorded import PlainRecorder, RecordedSteps

    settled, settle = [], RecordedSteps.settle
    monkeypatch.setattr(run, "recorder_on", lambda device: PlainRecorder())
    monkeypatch.setattr(RecordedSteps, "settle", lambda self: settled.append(len(self._begun)) or settle(self))
    cases = program("cases")
    settings = {
        "shape": "smoke",
        "classes": 4,
        "batch_size": 4,
        "warm_up": 16,
        "steps": 20,
        "waits": False,
        "threads": 1,
    }
    row = cases.measure(cases.Case("lora", "lowshot", {"precision": "bf16"}, **settings))
    assert [count for count in settled if count] == [16, 16, 4]
    assert row["steps"] == 20
    assert row["notes"] == []
    assert row["train_seconds"] > 20 * row["median_seconds"]


def test_peft_by_itself_trains_its_adapters_on_prompts_as_long_as_they_are(program):
    published, shape = program("as_published"), program("shapes").smoke()
    tokens = program("shapes").PromptTokens(shape, 4).ids
    pixels, labels = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)), torch.arange(4)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for method in ("lora", "dora"):
            peft = published.PlainPeft(shape.random_model(), tokens, "bf16", method)
            trained = {name: p.detach().clone() for name, p in peft.model.named_parameters() if p.requires_grad}
            first = peft.step(pixels, labels)
            for _ in range(10):
                last = peft.step(pixels, labels)
            after = dict(peft.model.named_parameters())
            assert all("lora_" in name for name in trained)
            assert all(after[name].dtype == torch.float32 for name in trained)
            assert all(not torch.equal(after[name], before) for name, before in trained.items())
            assert last != first
            assert peft.tokens.shape[1] < 77
            assert any("magnitude" in name for name in trained) == (method == "dora")


def test_a_model_is_drawn_once_and_each_row_has_its_own(gpu, program):
    shape = program("shapes").smoke()
    with torch.random.fork_rng(), gpu.drawn_once():
        cache = os.environ["LOWSHOT_CACHE"]
        one, other = shape.random_model(), shape.random_model()
        for name, tensor in one.state_dict().items():
            assert torch.equal(tensor, other.state_dict()[name])
            assert tensor.data_ptr() != other.state_dict()[name].data_ptr()
        third = program("shapes").smoke().random_model()
        assert torch.equal(third.logit_scale, one.logit_scale)
    assert os.environ["LOWSHOT_CACHE"] != cache
    assert not Path(cache).exists()


def test_bases_of_the_weights_are_there_before_lora_xs_asks_for_them(gpu, program, monkeypatch):
    from lowshot.adapters.lora_xs import cache

    with torch.random.fork_rng(), gpu.drawn_once():
        program("gpu_steps").keep_bases("smoke")
        monkeypatch.setattr(cache, "basis_of", None)  # nothing is computed any more
        case = program("cases").Case("lora-xs", "lowshot", {"method": "lora-xs"}, shape="smoke", classes=4)
        learner, _ = program("cases").lowshot_learner(case, program("shapes").smoke())
    assert learner.recipe.method.rank == 32


def test_the_smallest_budget_is_that_which_is_accepted_where_one_less_is_not(program, monkeypatch):
    from lowshot.errors import InputError
    from lowshot.settings import parse_bytes, preset_recipe

    class Learner:
        recipe = preset_recipe("paper", "qlora")

        def cuts(self, batch_size):
            budget = self.recipe.engine.memory_budget
            if budget is not None and parse_bytes("memory_budget", budget) < 123_456_789:
                raise InputError("too small")
            return SimpleNamespace(peak=lambda passes, prompts: 2e9), None

    monkeypatch.setattr(program("cases"), "lowshot_learner", lambda case, shape: (Learner(), None))
    assert program("gpu_steps").smallest_budget(program("cases").Case("qlora", "lowshot", shape="smoke")) == 124


def test_what_a_device_cannot_compute_is_left_out(run, monkeypatch, program):
    """The published QLoRA needs bf16, which cards before Ampere do not have; the others get fp16 there."""
    measured = []
    monkeypatch.setattr(program("gpu_run").Run, "case", lambda self, case, limit=20.0: measured.append(case))
    monkeypatch.setattr(
        program("gpu_run").Run, "attempt", lambda self, variant, limit, work: measured.append(work.args[1])
    )
    run.precision = "fp16"
    program("gpu_steps").quantized_part(run)
    [row] = run.rows
    assert row == {"variant": "published-qlora", "left_out": "it computes in bf16, which this device does not have"}
    assert [case.variant for case in measured] == [name for name in QUANTIZED if name != "published-qlora"]
    assert {case.settings["precision"] for case in measured} == {"fp16"}


def test_one_step_is_profiled_and_no_other(program):
    one = program("gpu_profile").OneStep(torch.device("cpu"), 2)
    steps = []
    for number in one(range(9)):
        steps.append(number)
        torch.ones(3).neg_() if number == 2 else torch.ones(3).abs_()
    assert steps == [0, 1, 2]
    names = [event.name for event in one.events]
    assert names.count("aten::neg_") == 1
    assert "aten::abs_" not in names
    assert one.seconds > 0


def test_time_in_which_two_kernels_ran_counts_once(program):
    assert program("gpu_profile").union([(5.0, 6.0), (0.0, 2.0), (1.0, 3.0), (1.5, 1.6)]) == 4.0
    assert program("gpu_profile").union([]) == 0.0


def test_verdicts_of_pytest_become_rows(run, program):
    def report(nodeid, when="call", outcome="passed", words=""):
        failed, skipped = outcome == "failed", outcome == "skipped"
        fields = {"longreprtext": words, "longrepr": ("file", 1, words), "failed": failed, "skipped": skipped}
        return SimpleNamespace(nodeid=nodeid, when=when, outcome=outcome, duration=0.5, **fields)

    verdicts = program("gpu_tests").Verdicts(run)
    for when in ("setup", "call", "teardown"):
        verdicts.pytest_runtest_logreport(report("a", when))
    verdicts.pytest_runtest_logreport(report("b", outcome="failed", words="assert 1 == 2"))
    verdicts.pytest_runtest_logreport(report("c", "setup", "skipped", "no bitsandbytes"))
    verdicts.pytest_collectreport(report("d", outcome="failed", words="no module httpx2"))
    verdicts.pytest_collectreport(report("e"))
    rows = {row["variant"]: row for row in run.rows}
    assert list(rows) == ["a", "b", "c", "d"]
    assert rows["a"]["passed"] == 1
    assert (rows["b"]["failed"], rows["d"]["failed"]) == ("assert 1 == 2", "no module httpx2")
    assert rows["c"]["left_out"] == "no bitsandbytes"
    item = SimpleNamespace(session=SimpleNamespace(shouldstop=False))
    verdicts.pytest_runtest_setup(item)
    assert not item.session.shouldstop
    run.part_ends = time.monotonic() - 1
    verdicts.pytest_runtest_setup(item)
    assert item.session.shouldstop == "no time left"


def test_aims_are_judged_by_what_was_measured_and_silent_about_the_rest(program):
    def rows(**figures):
        return {"rows": [{"variant": name.replace("_", "-"), **row} for name, row in figures.items()]}

    step = rows(
        lowshot={"median_seconds": 0.01, "peak_bytes": 2e9, "share_of_matrix_rate": 0.31},
        published={"median_seconds": 0.09, "peak_bytes": 6.6e9},
        published_fused={"failed": "no"},
    )
    quantized = rows(
        lora_whole={"median_seconds": 0.02},
        qlora_whole={"median_seconds": 0.021},
        qlora_smallest={"failed": "no", "smallest_budget_bytes": 240_000_000},
        qlora_smallest_checkpointing={"smallest_budget_bytes": 190_000_000},
    )
    parts = {
        "step": step,
        "training": rows(training={"train_seconds": 5.0}),
        "quantized": quantized,
        "memory": rows(a={"error": 0.02}, b={"error": -0.06}, c={"error": 0.14}),
    }
    met = {name: (aim["measured"], aim["met"]) for name, aim in program("gpu_aims").aims(parts).items()}
    assert met == {
        "step_time_ratio_published_fp16": (pytest.approx(9.0), False),
        "share_of_matrix_rate": (0.31, True),
        "peak_over_published": (pytest.approx(2 / 6.6), True),
        "training_seconds": (5.0, True),
        "qlora_time_over_lora": (pytest.approx(1.05), True),
        "qlora_smallest_budget_gb": (0.19, True),
        "planner_error": (-0.06, False),
    }
    assert program("gpu_aims").aims({"step": {"failed": "no time left"}}) == {}
    stopped = rows(training={"train_seconds": 5.0, "stopped": "after 100 of 500 steps"})
    assert program("gpu_aims").aims({"training": stopped}) == {}


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a CUDA device")
def test_without_a_cuda_device_nothing_is_begun(gpu, tmp_path):
    with pytest.raises(SystemExit, match=r"CUDA.*--smoke"):
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
    program = (
        "import importlib.metadata as m, pytest, pytest_timeout, tyro; print(tyro.__file__, m.version('bitsandbytes'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(tmp_path / "carried")},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert done.startswith(str(tmp_path / "carried" / "tyro"))
