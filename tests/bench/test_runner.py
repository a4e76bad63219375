import dataclasses
import json
import os
import signal
import subprocess
import time

import pytest

from lowshot import FewShotClassifier
from lowshot.bench import worker
from lowshot.bench.engines import Result
from lowshot.bench.forecast import Forecast
from lowshot.bench.grid import expand
from lowshot.bench.runner import run_cells
from lowshot.cli import main
from lowshot.data import builtin_task, sources
from lowshot.errors import InputError, OutputError
from lowshot.evaluation import predict
from lowshot.fitting import choice_file
from lowshot.models import copies
from lowshot.runs_folder import RunsFolder
from lowshot.training import run
from lowshot.training.loop import LaunchedSteps
from refusing import assert_states, refused

GRID = (
    '[grid]\ndata = ["letters"]\nmethod = ["zero-shot", "lora"]\nshots = 1\nseed = [1, 2]\n[training]\nbase_steps = 3\n'
)

pytestmark = pytest.mark.usefixtures("few_to_judge")


@pytest.fixture(scope="module")
def few_to_judge():
    """Built-in tasks with an eighth of their test images, in this process: judging is most of a small run."""

    def smaller(name):
        task = builtin_task(name)
        return dataclasses.replace(task, test=task.test.subset(range(0, len(task.test), 8)))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "builtin_task", smaller)
        yield


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "grid.toml"
    path.write_text(GRID)
    return path


def bench(recipe, out, *arguments, capsys):
    status = main(["bench", str(recipe), "--out", str(out), *arguments])
    return status, *capsys.readouterr()


def records(out):
    return {path.name: path.read_bytes() for path in (out / "done").iterdir()}


def test_every_run_leaves_its_record_and_is_never_done_again(recipe, tmp_path, capsys):
    status, out, _ = bench(recipe, tmp_path / "runs", capsys=capsys)
    assert status == 0
    assert "3 of 3 runs done, 0 failed, 0 left" in out
    of_runs = [json.loads(content) for content in records(tmp_path / "runs").values()]
    assert {(r["method"], r["seed"]) for r in of_runs} == {("zero-shot", 1), ("lora", 1), ("lora", 2)}
    assert all(0 < r["metrics"]["acc1"] < 1 and r["metrics"]["split"] == "test" for r in of_runs)
    before = records(tmp_path / "runs")
    status, out, _ = bench(recipe, tmp_path / "runs", "--json", capsys=capsys)
    assert (status, json.loads(out)) == (0, {"cells": 3, "done": 3, "failed": 0, "left": 0})
    assert records(tmp_path / "runs") == before


def test_only_and_limit_choose_runs(recipe, tmp_path, capsys):
    _, out, _ = bench(recipe, tmp_path / "runs", "--only", "method=lora", "seed=2", "--json", capsys=capsys)
    assert json.loads(out) == {"cells": 1, "done": 1, "failed": 0, "left": 0}
    _, out, _ = bench(recipe, tmp_path / "runs", "--limit", "1", "--json", capsys=capsys)
    assert json.loads(out) == {"cells": 3, "done": 2, "failed": 0, "left": 1}


@pytest.mark.parametrize(
    ("only", "message"),
    [("lora", "expected name=value"), ("methd=lora", "unknown setting"), ("rank=3", "no run has rank=3")],
)
def test_a_choice_of_nothing_is_refused(recipe, tmp_path, capsys, only, message):
    status, _, err = bench(recipe, tmp_path / "runs", "--only", only, capsys=capsys)
    assert status == 2
    assert message in err
    assert not (tmp_path / "runs").exists()


def test_a_dry_run_does_nothing_and_says_what_is_left(recipe, tmp_path, capsys):
    _, out, _ = bench(recipe, tmp_path / "runs", "--dry-run", "--json", capsys=capsys)
    result = json.loads(out)
    assert (result["cells"], result["done"], result["failed"], result["left"], result["seconds"]) == (3, 0, 0, 3, None)
    assert not (tmp_path / "runs").exists()
    bench(recipe, tmp_path / "runs", "--only", "seed=1", capsys=capsys)
    _, out, _ = bench(recipe, tmp_path / "runs", "--dry-run", "--json", capsys=capsys)
    result = json.loads(out)
    assert (result["done"], result["left"]) == (2, 1)
    assert 0 < result["seconds"] < 60


def test_a_probe_does_the_shortest_run_of_each_kind_and_then_the_time_is_known(recipe, tmp_path, capsys):
    recipe.write_text(GRID.replace("shots = 1", "shots = [4, 1]").replace('["letters"]', '["letters", "digits"]'))
    _, out, _ = bench(recipe, tmp_path / "runs", "--dry-run", capsys=capsys)
    assert out.endswith("10 left; how long they take is not known before one of each kind is done: --probe\n")
    _, out, _ = bench(recipe, tmp_path / "runs", "--probe", "--json", capsys=capsys)
    assert json.loads(out) == {"cells": 10, "done": 2, "failed": 0, "left": 8}
    assert sorted(json.loads(text)["shots"] for text in records(tmp_path / "runs").values()) == [0, 1]
    _, out, _ = bench(recipe, tmp_path / "runs", "--dry-run", "--json", capsys=capsys)
    assert 0 < json.loads(out)["seconds"] < 600
    _, out, _ = bench(recipe, tmp_path / "runs", "--probe", "--json", capsys=capsys)
    assert json.loads(out)["done"] == 2


def test_a_run_that_fails_leaves_its_error_and_the_others_go_on(recipe, tmp_path, capsys):
    nowhere = tmp_path / "nowhere"
    nowhere.mkdir()
    recipe.write_text(GRID.replace('["letters"]', f'["{nowhere.as_posix()}", "letters"]'))
    status, out, err = bench(recipe, tmp_path / "runs", capsys=capsys)
    assert status == 1
    assert "3 of 6 runs done, 3 failed, 0 left" in out
    failures = [json.loads(path.read_text()) for path in (tmp_path / "runs" / "failed").iterdir()]
    assert {failure["data"] for failure in failures} == {nowhere.as_posix()}
    assert all("nowhere" in failure["error"] for failure in failures)
    assert "the same command tries them again" in err


def test_an_error_nobody_thought_of_is_kept_with_its_place(recipe, tmp_path, monkeypatch):
    def fail(*_):
        raise ZeroDivisionError("by chance")

    monkeypatch.setattr(worker.SharedTasks, "of", fail)
    runs = RunsFolder(tmp_path / "runs")
    cells = expand({"data": "letters"}, {})
    assert run_cells(cells, runs).failed == 1
    assert "in fail" in runs.failure(cells[0]).error
    assert "ZeroDivisionError: by chance" in runs.failure(cells[0]).error


def test_runs_of_one_process_share_backbone_data_and_features_of_frozen_towers(tmp_path, monkeypatch):
    read, computed = [], []
    load, compute = copies.load_backbone, predict._computed
    monkeypatch.setattr(copies, "load_backbone", lambda model: read.append(model) or load(model))
    monkeypatch.setattr(predict.SHARED_EMBEDDINGS, "_cached", {})  # other tests judge the same images
    monkeypatch.setattr(predict, "_computed", lambda *given: computed.append(given) or compute(*given))
    axes = {"data": "digits", "method": "lora", "encoder": "text", "shots": 1, "seed": [1, 2]}
    cells = expand(axes, {"training": {"steps_per_shot": 1, "base_steps": 0}})
    assert run_cells(cells, RunsFolder(tmp_path / "runs")).done == 2
    assert read == ["builtin"]
    assert len(computed) == 1


def test_what_several_runs_warn_of_is_said_once(tmp_path):
    lines = []
    cells = expand({"data": "letters", "shots": 1, "seed": [1, 2, 3]}, {})

    class Worried:
        places = 1

        def run(self, cells, take, say, track):
            for cell in cells:
                take(cell)
                yield Result(cell, None, 1.0, "no", "no", ("it rains",))

    run_cells(cells, RunsFolder(tmp_path / "runs"), Worried(), say=lines.append)
    assert lines[0] == f"{cells[0].label}: it rains"
    assert sum("it rains" in line for line in lines) == 1


def test_what_a_run_warns_of_reaches_the_runner():
    (cell,) = expand(
        {"data": "letters", "shots": 4000, "method": "lora"}, {"training": {"steps_per_shot": 0, "base_steps": 1}}
    )
    assert any("4000" in warning for warning in worker.Worker().do(cell).warnings)


def test_a_run_that_succeeds_later_is_no_failure_any_more(tmp_path):
    runs = RunsFolder(tmp_path)
    (cell,) = expand({"data": "letters", "method": "zero-shot"}, {})
    runs.keep_failure(cell, "no room")
    assert runs.failure(cell).error == "no room"
    assert run_cells([cell], runs).done == 1
    assert runs.failure(cell) is None


def test_a_run_that_is_done_leaves_no_state_of_training_its_folds_neither(tmp_path):
    runs = RunsFolder(tmp_path)
    (cell,) = expand({"data": "letters", "method": "zero-shot", "calibration_folds": 2}, {})
    other = runs.checkpoint(cell).with_name("other.training.safetensors")
    for state in (*FewShotClassifier.from_recipe(cell.recipe).training_states(runs.checkpoint(cell)), other):
        state.write_bytes(b"")
    runs.keep(cell, FewShotClassifier.from_recipe(cell.recipe.replace(calibration_folds=0)).fit("letters").record_)
    assert list((tmp_path / "partial").iterdir()) == [other]


def test_a_damaged_record_is_named_and_not_replaced(tmp_path):
    runs = RunsFolder(tmp_path)
    (cell,) = expand({"data": "letters", "method": "zero-shot"}, {})
    (tmp_path / "done" / f"{cell.key}.json").write_text("{")
    with refused(InputError, f"{cell.key}.json", "remove it"):
        run_cells([cell], runs)


def test_what_another_process_is_at_is_left_to_it(tmp_path):
    runs = RunsFolder(tmp_path)
    (cell,) = expand({"data": "letters", "method": "zero-shot"}, {})
    with RunsFolder(tmp_path).claimed(cell) as mine:
        assert mine
        outcome = run_cells([cell], runs)
    assert (outcome.done, outcome.failed, outcome.left) == (0, 0, 1)
    assert run_cells([cell], runs).done == 1


def test_what_another_process_does_meanwhile_counts_as_done(tmp_path):
    runs = RunsFolder(tmp_path)
    cells = expand({"data": "letters", "method": "zero-shot", "template": [["{}"], ["a {}"]]}, {})
    classifier = FewShotClassifier.from_recipe(cells[0].recipe).fit("letters")
    classifier.evaluate("letters")
    done = classifier.record_

    class Elsewhere:
        """Does one run itself, and finds that the other one has been done."""

        places = 1

        def run(self, cells, take, say, track):
            assert take(cells[0]) is not None
            RunsFolder(tmp_path).keep(cells[1], done)
            assert take(cells[1]) is None
            yield Result(cells[0], done, 1.0)

    outcome = run_cells(cells, runs, Elsewhere())
    assert (outcome.done, outcome.failed, outcome.left) == (2, 0, 0)


def test_a_disk_without_locks_is_refused_and_no_run_passed_over(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def unsupported(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with refused(OutputError, "lock", "Function not implemented", "disk with locks"):
        run_cells(expand({"data": "letters"}, {}), RunsFolder(tmp_path))


def test_a_state_of_training_is_kept_only_where_the_very_folder_is_seen(tmp_path):
    runs = RunsFolder(tmp_path / "runs")
    (cell,) = expand({"data": "letters"}, {})
    with runs.claimed(cell) as claim:
        assert claim.state_seen_here() == runs.checkpoint(cell)
        with runs.claimed(cell) as second:
            assert second is None
        assert claim.state_seen_here() == runs.checkpoint(cell)
        (tmp_path / "runs").rename(tmp_path / "elsewhere")
        assert claim.state_seen_here() is None
        with RunsFolder(tmp_path / "runs").claimed(cell):  # another folder of that name
            assert claim.state_seen_here() is None


def test_an_interruption_says_how_much_is_done(recipe, tmp_path, capsys, monkeypatch):
    real, calls = worker.SharedTasks.of, []

    def second_is_interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(worker.SharedTasks, "of", second_is_interrupted)
    status, _, err = bench(recipe, tmp_path / "runs", capsys=capsys)
    assert status == 130
    assert err == "lowshot: 1 of 3 runs are done; the same command does what is left\nlowshot: interrupted\n"


def test_what_a_process_left_that_was_killed_after_its_last_word_is_removed(tmp_path):
    runs = RunsFolder(tmp_path / "runs")
    done, under_way = expand({"data": "letters", "shots": 1, "seed": [1, 2]}, {})
    (runs.path / "done" / f"{done.key}.json").write_text("{}")
    for cell in (done, under_way):
        runs.checkpoint(cell).write_text("")
    (runs.path / "partial" / f"{done.key}.training.fold-1.safetensors").write_text("")
    choice_file(runs.checkpoint(done)).write_text("{}")
    runs.tidy()
    assert [path.name for path in (runs.path / "partial").iterdir()] == [runs.checkpoint(under_way).name]


@pytest.mark.long
def test_killed_twice_a_grid_loses_nothing_and_repeats_nothing(tmp_path, forked):
    recipe, out = tmp_path / "grid.toml", tmp_path / "runs"
    recipe.write_text(
        '[grid]\ndata = "digits"\nshots = 1\nseed = [1, 2, 3]\n[training]\nbase_steps = 40\n'
        "[engine]\ncheckpoint_seconds = 0\n"
    )
    command = [*forked, "-m", "lowshot", "bench", str(recipe), "--out", str(out)]
    before: dict[str, bytes] = {}
    for _ in range(2):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wanted = len(before) + 1
        while process.poll() is None and not (
            len(list((out / "done").glob("*.json"))) >= wanted and list((out / "partial").glob("*.safetensors"))
        ):
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        done = records(out)
        assert before.items() <= done.items()
        before = done
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0
    done = records(out)
    assert len(done) == 3
    assert before.items() <= done.items()
    assert not list((out / "partial").glob("*.safetensors"))
    alone = tmp_path / "alone"
    assert subprocess.run([*command[:-1], str(alone)], check=False, capture_output=True).returncode == 0
    accuracies = [
        {name: json.loads(text)["metrics"]["acc1"] for name, text in records(o).items()} for o in (out, alone)
    ]
    assert accuracies[0] == accuracies[1]


def test_the_time_left_is_that_of_runs_of_the_same_kind():
    one, four, other = expand(
        {"data": ["letters", "greek"], "shots": [1, 4], "base_steps": 0, "steps_per_shot": 10}, {}
    )[:3]

    class Done:
        steps, train_seconds, learning_seconds, evaluation_seconds = 10, 5.0, 5.0, 1.0

    forecast = Forecast()
    assert forecast.seconds(four) is None
    forecast.learn(one, Done)
    assert forecast.seconds(one) == pytest.approx(1 + 10 * 0.5)
    forecast = Forecast()
    forecast.learn(one, type("Chosen", (Done,), {"learning_seconds": 9.0}))
    assert forecast.seconds(one) == pytest.approx(5 + 10 * 0.5)  # choosing does not grow with the steps
    forecast = Forecast()
    forecast.learn(one, Done, seconds=7.0)
    assert forecast.seconds(four) == pytest.approx(2 + 40 * 0.5)
    assert forecast.seconds(other) == pytest.approx(2 + 10 * 0.5)
    assert forecast.time_left([]) == ""
    assert forecast.time_left([four]) == "; 0.4 min left"
    assert forecast.time_left([four] * 6, places=3) == "; 0.7 min left"
    assert (
        forecast.time_left([four], places=3) == "; 0.4 min left"
    )  # one run is no faster where there is room for three


def test_data_that_is_not_there_is_told_once_before_anything_is_started(tmp_path, capsys, monkeypatch):
    """495 runs failed one after the other, each with the same line."""
    monkeypatch.delenv("LOWSHOT_DATA", raising=False)
    status, out, err = bench("clip-lora-xs", tmp_path / "runs", capsys=capsys)
    assert (status, out) == (2, "")
    assert_states(err, "lowshot: error", "495 of 495 runs", "caltech101, dtd, eurosat", "--root FOLDER")
    assert err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_a_model_that_cannot_be_had_is_told_once_before_anything_is_started(tmp_path, capsys):
    """Each run of the grid failed with the same line."""
    recipe = tmp_path / "grid.toml"
    recipe.write_text('[grid]\ndata = ["letters", "digits"]\nmethod = "zero-shot"\nmodel = "no/such/folder"\n')
    status, out, err = bench(recipe, tmp_path / "runs", capsys=capsys)
    assert (status, out) == (2, "")
    assert_states(err, "lowshot: error", "2 of 2 runs", "model 'no/such/folder'", "no such folder")
    assert err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_runs_whose_model_is_there_are_done_without_the_others(tmp_path, capsys):
    recipe = tmp_path / "grid.toml"
    recipe.write_text('[grid]\ndata = "letters"\nmethod = "zero-shot"\nmodel = ["builtin", "no/such/folder"]\n')
    status, out, err = bench(recipe, tmp_path / "runs", "--json", capsys=capsys)
    assert (status, json.loads(out)) == (1, {"cells": 2, "done": 1, "failed": 0, "left": 1})
    assert_states(err, "lowshot: warning", "1 of 2 runs", "model", "no/such/folder")


def test_runs_whose_data_is_there_are_done_without_the_others(tmp_path, capsys, monkeypatch):
    recipe = tmp_path / "grid.toml"
    recipe.write_text('[grid]\ndata = ["letters", "dtd", "nowhere"]\nmethod = "zero-shot"\n')
    monkeypatch.setenv("LOWSHOT_DATA", str(tmp_path))
    status, out, err = bench(recipe, tmp_path / "runs", "--json", capsys=capsys)
    assert (status, json.loads(out)) == (1, {"cells": 3, "done": 1, "failed": 0, "left": 2})
    assert_states(err, "lowshot: warning", "2 of 3 runs", "dtd, nowhere", "lowshot data prepare dtd", "left out")


def assert_same_answers(out, other):
    for one, same in zip(by_run(out), by_run(other), strict=True):
        for name in ("method", "seed", "draw", "steps", "adapter_bytes"):
            assert one[name] == same[name]
        assert one["metrics"]["nll"] == pytest.approx(same["metrics"]["nll"], rel=1e-4)


def by_run(out):
    of_runs = [json.loads(content) for content in records(out).values()]
    return sorted(of_runs, key=lambda record: (record["method"], record["seed"]))


def test_runs_together_leave_the_records_that_they_leave_one_after_the_other(recipe, tmp_path, capsys):
    recipe.write_text(GRID.replace('"lora"]', '"lora", "lora-xs", "nearest-mean"]'))
    assert bench(recipe, tmp_path / "one", capsys=capsys)[0] == 0
    status, out, err = bench(recipe, tmp_path / "all", "--together", "4", capsys=capsys)
    assert (status, err.count("together with those of other runs")) == (0, 0)
    assert out.count("together with those of other runs") == 1
    assert_same_answers(tmp_path / "one", tmp_path / "all")
    assert {record["recipe"]["engine"]["together"] for record in by_run(tmp_path / "all")} == {4}
    assert {path.name for path in (tmp_path / "one/done").iterdir()} == set(records(tmp_path / "all"))


def test_runs_together_that_are_interrupted_go_on_where_each_was(recipe, tmp_path, capsys, monkeypatch):
    recipe.write_text(f"{GRID}\n[engine]\ncheckpoint_seconds = 0.0\ntogether = 2\n")
    claims = []

    class Interrupted(LaunchedSteps):
        def take(self, rows, rate):
            super().take(rows, rate)
            claims.append(self.state.step)
            if len(claims) == 3:
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run, "LaunchedSteps", Interrupted)
        assert bench(recipe, tmp_path / "runs", "--only", "method=lora", capsys=capsys)[0] == 130
    assert claims == [1, 1, 2]
    status, out, _ = bench(recipe, tmp_path / "runs", "--only", "method=lora", "--json", capsys=capsys)
    assert (status, json.loads(out)["done"]) == (0, 2)
    bench(recipe, tmp_path / "whole", "--only", "method=lora", capsys=capsys)
    assert_same_answers(tmp_path / "runs", tmp_path / "whole")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("0",), "together is 0"), (("2", "--engine", "ray"), "together is given, but engine is ray")],
)
def test_what_cannot_be_together_is_refused(recipe, tmp_path, capsys, arguments, message):
    status, _, err = bench(recipe, tmp_path / "runs", "--together", *arguments, capsys=capsys)
    assert status == 2
    assert message in err
