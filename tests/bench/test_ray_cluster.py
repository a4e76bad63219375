"""The engine on a real Ray cluster of this machine; what it does when things go wrong is in test_ray_engine.py."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from lowshot.bench.engines.ray import RayEngine
from lowshot.bench.grid import expand, read_grid
from lowshot.bench.runner import run_cells
from lowshot.errors import InputError
from lowshot.runs_folder import RunsFolder
from refusing import refused

cluster_utils = pytest.importorskip("ray.cluster_utils")
pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(600),  # every worker imports torch, on a machine that may have other things to do
]
NODE = {"num_cpus": 1, "object_store_memory": 80 << 20}


@pytest.fixture(scope="module")
def cluster():
    """One machine with one processor, as far as Ray can see."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    yield cluster
    cluster.shutdown()


@pytest.fixture
def address(cluster):
    """Ray listens on every address of the machine; tests may go to this one alone."""
    return f"127.0.0.1:{cluster.address.rpartition(':')[2]}"


def until(condition):
    """Wait; False where nothing has happened for three minutes."""
    deadline = time.monotonic() + 180
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_a_machine_that_is_lost_loses_no_run_and_the_results_are_those_of_one_process(
    cluster, address, tmp_path, capfd
):
    engine, training = {"threads": 1, "checkpoint_seconds": 0.0}, {"base_steps": 15, "steps_per_shot": 0}
    cells = expand({"data": "digits", "shots": 1, "seed": [1, 2, 3]}, {"engine": engine, "training": training})
    runs, lines = RunsFolder(tmp_path / "ray"), []
    second = cluster.add_node(**NODE)

    def lose_one():
        # Two states of training: both machines are at a run.
        if until(lambda: len(list((tmp_path / "ray" / "partial").glob("*.safetensors"))) == 2):
            cluster.remove_node(second, allow_graceful=False)

    losing = threading.Thread(target=lose_one)
    losing.start()
    outcome = run_cells(cells, runs, RayEngine(address), say=lines.append)
    losing.join()

    assert (outcome.done, outcome.failed, outcome.left) == (3, 0, 0)
    assert lines[0] == "3 runs of 1 CPU each, 2 at a time"
    assert sum("its worker was lost, another does the run again" in line for line in lines) == 1
    assert capfd.readouterr().out == ""  # Ray's own words would be in the way of --json
    assert not list((tmp_path / "ray" / "partial").glob("*.safetensors"))
    here = RunsFolder(tmp_path / "here")
    run_cells(cells, here)
    for cell in cells:
        ours, theirs = here.record(cell), runs.record(cell)
        for field in ("metrics", "draw", "learnt", "final_loss", "recipe", "prompts", "steps", "model", "stopped"):
            assert getattr(ours, field) == getattr(theirs, field), field


def test_what_no_machine_has_room_for_is_refused_with_the_figures(address, tmp_path):
    cells = expand({"data": "letters", "threads": 64}, {})
    with refused(InputError, "asks for 64 CPUs", "have 1 CPU"):
        run_cells(cells, RunsFolder(tmp_path), RayEngine(address))


def test_an_address_where_there_is_no_cluster_is_refused(tmp_path):
    with refused(InputError, "no Ray cluster", "127.0.0.1:9"):
        run_cells(expand({"data": "letters"}, {}), RunsFolder(tmp_path), RayEngine("127.0.0.1:9"))


def test_a_grid_that_is_terminated_keeps_the_state_of_its_runs_and_another_engine_goes_on(tmp_path, forked):
    recipe, out = tmp_path / "grid.toml", tmp_path / "runs"
    recipe.write_text(
        '[grid]\ndata = "digits"\nshots = 1\n[training]\nbase_steps = 150\n[engine]\ncheckpoint_seconds = 1\n'
    )
    command = [sys.executable, "-m", "lowshot", "bench", str(recipe), "--out", str(out), "--json"]
    (cell,) = read_grid(recipe)
    state = RunsFolder(out).checkpoint(cell)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([*command, "--engine", "ray"], text=True, **pipes) as ray:
        try:
            until(state.exists)
            before = state.stat().st_mtime_ns
            ray.send_signal(signal.SIGTERM)
            printed, errors = ray.communicate(timeout=120)
        finally:
            ray.kill()
    assert ray.returncode == 128 + signal.SIGTERM
    assert printed == ""
    assert errors == "lowshot: 0 of 1 runs are done; the same command does what is left\nlowshot: terminated\n"
    assert state.stat().st_mtime_ns > before
    ended = subprocess.run([*forked, *command[1:]], check=False, capture_output=True, text=True)
    assert json.loads(ended.stdout) == {"cells": 1, "done": 1, "failed": 0, "left": 0}
    assert not state.exists()
