"""What the engine does when things go wrong, on a Ray of our own making; the real one is in test_ray_cluster.py."""

import contextlib
import dataclasses
import importlib.machinery
import importlib.util
import sys
import types
from typing import NamedTuple

import pytest

import lowshot
from lowshot.bench.engines import Result
from lowshot.bench.engines import ray as engine
from lowshot.bench.engines.ray import RayEngine, Room, room_of
from lowshot.bench.grid import Cell, expand
from lowshot.bench.runner import run_cells
from lowshot.cli import main
from lowshot.errors import InputError, RunError
from lowshot.extras import install_command
from lowshot.records import RunRecord, provenance
from lowshot.runs_folder import Claim, RunsFolder
from refusing import assert_states, refused

RECORD = RunRecord(
    task="letters",
    method="lora",
    quantize="none",
    shots=1,
    seed=1,
    recipe={},
    classes=("a", "b"),
    model={},
    draw=(),
    trainable_parameters=1,
    total_parameters=1,
    adapter_bytes=1,
    steps=1,
    train_seconds=1.0,
    peak_memory_bytes=1,
    metrics={"acc1": 0.5},
    provenance={"command": "what Ray calls its workers"},
)
DONE = {"record": RECORD, "seconds": 1.0, "error": "", "reason": "", "warnings": ("much",)}


class Job(NamedTuple):
    cell: Cell
    claim: Claim

    @property
    def seed(self):
        return self.cell.recipe.training.seed


@dataclasses.dataclass(eq=False)
class Task:
    ray: "FakeRay"
    worker: "Worker"
    job: "Job | None" = None


class Worker:
    def __init__(self, ray):
        self.number = len(ray.workers)
        ray.workers.append(self)
        self.greet = types.SimpleNamespace(remote=lambda: Task(ray, self))
        self.do = types.SimpleNamespace(remote=lambda *job: Task(ray, self, Job(*job)))


class FakeRay(types.ModuleType):
    """A cluster in which every call has ended when it is asked for; ``starts`` and ``does`` say how."""

    class exceptions:  # noqa: N801
        class RayError(Exception):
            pass

    def __init__(self):
        super().__init__("ray")
        self.__spec__ = importlib.machinery.ModuleSpec("ray", None)
        self.machines = [{"CPU": 2.0}]
        self.workers, self.killed, self.cancelled, self.attempts = [], [], [], []
        self.starts = lambda number: None
        self.does = lambda job: DONE
        self.waits = lambda: None

    def nodes(self):
        return [{"Alive": True, "Resources": machine} for machine in self.machines]

    def remote(self, **_):
        return lambda kind: types.SimpleNamespace(remote=lambda *_: Worker(self))

    def wait(self, tasks, num_returns=1, timeout=None):
        self.waits()
        return tasks[:num_returns], tasks[num_returns:]

    def get(self, task):
        if task.job is None:
            return self.starts(task.worker.number)
        self.attempts.append(task.job.seed)
        return Result(task.job.cell, **self.does(task.job))

    def kill(self, worker):
        self.killed.append(worker.number)

    def cancel(self, task):
        self.cancelled.append(task.worker.number)

    def lose(self, *_):
        raise self.exceptions.RayError("The machine\nhas gone.")


@pytest.fixture
def ray(monkeypatch):
    fake = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", fake)
    monkeypatch.setattr(engine, "_connected", lambda address: contextlib.nullcontext())
    return fake


@pytest.fixture
def runs(tmp_path):
    return RunsFolder(tmp_path)


def grid(**settings):
    return expand({"data": "letters", "shots": 1, "seed": [1, 2, 3], **settings}, {})


def test_records_are_kept_here_with_the_command_of_this_process(ray, runs):
    cells = grid()
    lines = []
    outcome = run_cells(cells, runs, RayEngine(), say=lines.append)
    assert (outcome.done, outcome.failed, outcome.left) == (3, 0, 0)
    assert sum("much" in line for line in lines) == 1
    assert runs.record(cells[0]) == dataclasses.replace(RECORD, provenance={"command": provenance()["command"]})
    assert sorted(ray.attempts) == [1, 2, 3]
    assert sorted(ray.killed) == [0, 1]  # as many workers as there is room for, and none outlives the grid


def test_there_are_no_more_workers_than_runs(ray, runs):
    ray.machines = [{"CPU": 64.0}, {"CPU": 64.0}]
    run_cells(grid(), runs, RayEngine())
    assert len(ray.workers) == 3


def test_a_run_whose_worker_is_lost_is_done_again_by_another(ray, runs):
    ray.does = lambda job: DONE if len(ray.attempts) > 2 else ray.lose()
    lines = []
    assert run_cells(grid(), runs, RayEngine(), say=lines.append).done == 3
    assert len(ray.attempts) == 5
    assert sum("its worker was lost, another does the run again: The machine has gone." in line for line in lines) == 2


def test_a_run_that_loses_three_workers_has_failed_and_the_others_go_on(ray, runs):
    ray.does = lambda job: ray.lose() if job.seed == 2 else DONE
    cells = grid()
    outcome = run_cells(cells, runs, RayEngine())
    assert (outcome.done, outcome.failed) == (2, 1)
    assert ray.attempts.count(2) == 3
    error = runs.failure(cells[1]).error
    assert_states(error, "3 workers", "memory_budget", "image_memory", "The machine has gone")


def test_an_error_of_the_run_itself_is_not_tried_again(ray, runs):
    ray.does = lambda job: {**DONE, "record": None, "error": "no such\ndata", "reason": "no such"}
    cells, lines = grid(), []
    assert run_cells(cells, runs, RayEngine(), say=lines.append).failed == 3
    assert sorted(ray.attempts) == [1, 2, 3]
    assert runs.failure(cells[0]).error == "no such\ndata"
    assert sum(": failed: no such" in line for line in lines) == 3


def test_what_is_handed_out_is_claimed_until_it_is_kept(ray, runs):
    cells = grid()

    def look(job):
        with runs.claimed(job.cell) as claim:
            assert claim is None
        assert job.claim.state_seen_here() == runs.checkpoint(job.cell)
        for cell in filter(runs.is_done, cells):
            with runs.claimed(cell) as claim:
                assert claim is not None
        return DONE

    ray.does = look
    assert run_cells(cells, runs, RayEngine()).done == 3


def test_where_no_worker_can_be_started_the_grid_ends_with_the_reason(ray, runs):
    ray.starts = ray.lose
    with refused(RunError, "no worker", "Ray cluster", "The machine has gone"):
        run_cells(grid(), runs, RayEngine())
    assert not ray.attempts


def test_a_machine_that_cannot_start_workers_leaves_the_runs_to_the_others(ray, runs):
    ray.starts = lambda number: ray.lose() if number % 2 else None
    assert run_cells(grid(), runs, RayEngine()).done == 3


def test_starts_that_fail_now_and_then_end_nothing(ray, runs):
    ray.machines = [{"CPU": 1.0}]
    ray.starts = lambda number: ray.lose() if number % 2 else None
    ray.does = lambda job: ray.lose() if ray.attempts.count(job.seed) == 1 else DONE
    lines = []
    assert run_cells(grid(seed=[1, 2, 3, 4, 5]), runs, RayEngine(), say=lines.append).done == 5
    assert sum("a worker could not be started" in line for line in lines) > engine.LOSSES


def test_the_last_worker_of_a_cluster_that_starts_no_more_is_not_waited_for(ray, runs):
    ray.starts = lambda number: ray.lose() if number else None
    ray.does = lambda job: DONE if len(ray.attempts) == 1 else ray.lose()
    with refused(RunError, "no worker", "Ray cluster"):
        run_cells(grid(seed=[1, 2, 3, 4, 5, 6, 7, 8]), runs, RayEngine())


def test_a_cluster_without_a_machine_that_is_large_enough_is_not_waited_for_for_ever(ray, runs, monkeypatch):
    monkeypatch.setattr(engine, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(engine, "_GLANCE_SECONDS", 0.0)

    def lose_all(job):
        ray.machines = []
        ray.lose()

    ray.does = lose_all
    with refused(RunError, "no machine", "1 CPU"):
        run_cells(grid(), runs, RayEngine())


def test_an_interruption_has_the_runs_under_way_keep_their_state_and_ends_the_workers(ray, runs):
    def interrupt():
        if len(ray.attempts) == 1 and not ray.cancelled:
            raise KeyboardInterrupt

    ray.waits = interrupt
    with pytest.raises(KeyboardInterrupt):
        run_cells(grid(), runs, RayEngine())
    assert sorted(ray.cancelled) == [0, 1]
    assert sorted(ray.killed) == [0, 1]


def test_a_disk_that_is_full_ends_the_workers_too(ray, runs, monkeypatch):
    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr(runs, "keep", full)
    with pytest.raises(OSError, match="no space left"):
        run_cells(grid(), runs, RayEngine())
    assert sorted(ray.killed) == [0, 1]


def test_runs_that_take_different_room_are_all_done(ray, runs):
    ray.machines = [{"CPU": 4.0}]
    lines = []
    assert run_cells(grid(threads=[1, 4]), runs, RayEngine(), say=lines.append).done == 6
    assert [line for line in lines if "at a time" in line] == [
        "3 runs of 1 CPU each, 4 at a time",
        "3 runs of 4 CPUs each, 1 at a time",
    ]


@pytest.mark.parametrize(
    ("settings", "machines", "room"),
    [
        ({}, [Room(4, 0)], Room(1, 0)),
        ({"threads": 3}, [Room(4, 0)], Room(3, 0)),
        ({}, [Room(4, 0), Room(2, 1)], Room(1, 1)),
        ({"device": "cuda"}, [Room(2, 1)], Room(1, 1)),
        ({"device": "cpu"}, [Room(2, 1)], Room(1, 0)),
    ],
)
def test_a_run_takes_its_threads_and_a_gpu_where_it_computes_on_one(settings, machines, room):
    assert room_of(grid(**settings)[0], machines) == room


@pytest.mark.parametrize(
    ("settings", "facts"),
    [
        ({"threads": 8, "device": "cpu"}, ("asks for 8 CPUs", "1 CPU and 2 GPUs", "4 CPUs")),
        ({"threads": 3}, ("3 CPUs and 1 GPU", "1 CPU and 2 GPUs", "4 CPUs")),
        ({"device": "cuda:1"}, ("device", "'cuda:1'", "auto", "cpu", "cuda")),
    ],
)
def test_a_run_that_no_machine_has_room_for_is_refused_with_the_figures(settings, facts):
    with refused(InputError, *facts):
        room_of(grid(**settings)[0], [Room(4, 0), Room(4, 0), Room(1, 2)])


def test_a_refusal_comes_before_any_run(ray, runs):
    with refused(InputError, "asks for 8 CPUs"):
        run_cells(grid(threads=[1, 8]), runs, RayEngine())
    assert not ray.workers


def test_a_worker_with_another_lowshot_does_no_run(tmp_path):
    with refused(RunError, f"lowshot {lowshot.__version__}", "expected 0.0.0"):
        engine._Worker(Room(1, 0), tmp_path, "0.0.0")


@pytest.mark.parametrize("address", ["somewhere", "ray://here:1", "here:port", ""])
def test_what_is_no_address_is_refused(ray, address):
    with refused(InputError, repr(address), "HOST:PORT", "auto"):
        RayEngine(address)


def test_without_ray_the_command_says_how_to_get_it(tmp_path, capsys, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "ray" else find_spec(name, *rest)
    )
    recipe = tmp_path / "grid.toml"
    recipe.write_text('[grid]\ndata = "letters"\n')
    assert main(["bench", str(recipe), "--out", str(tmp_path / "runs"), "--engine", "ray"]) == 2
    hint = install_command("ray")
    assert_states(capsys.readouterr().err, "lowshot: error", "--engine ray", "package ray", hint)
    assert main(["bench", str(recipe), "--out", str(tmp_path / "runs"), "--address", "auto"]) == 2
    assert_states(capsys.readouterr().err, "address", "engine is local", "--engine ray")
    assert not (tmp_path / "runs").exists()
