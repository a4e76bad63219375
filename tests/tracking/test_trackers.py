"""Each real tracker, read back: the run is one run however often it was opened. Only TensorBoard is in ``[all]``."""

import struct

import pytest

from lowshot.cli import main
from lowshot.tracking.tracker import TrackedRun

SETTINGS = {"rank": 4, "method": "lora", "flip": False, "learning_rate": 0.5}
RUN = TrackedRun("0123456789abcdef" * 2, "lora on a b, 2 shots", SETTINGS)
BLOCK = 32768
FIRST, SECOND = {10: 1.0, 20: 0.5}, {20: 0.25, 30: 0.125}


def told_twice(open_run, at=10):
    """A run that is killed after step 20, goes on from step 10, and fails in the end."""
    run = open_run(RUN)
    for step, loss in FIRST.items():
        run.log({"train/loss": loss, "train/images": 5.0 * step}, step)
    run.close(False)
    run = open_run(TrackedRun(RUN.id, RUN.name, SETTINGS, step=at))
    for step, loss in SECOND.items():
        run.log({"train/loss": loss}, step)
    run.log({"eval/acc1": 0.75}, 30)
    run.close(True)


@pytest.fixture
def event_files(tmp_path, monkeypatch):
    """The scalars and the settings of all runs below ``$TENSORBOARD_LOGGING_DIR``."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "logs"))

    def read():
        [folder] = (tmp_path / "logs").iterdir()
        events = accumulator.EventAccumulator(str(folder))
        events.Reload()
        curves = {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
        started = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
        settings = HParamsPluginData.FromString(started).session_start_info.hparams
        return folder.name, curves, settings

    return read


def test_tensorboard(event_files):
    from lowshot.tracking.tensorboard import open_run

    told_twice(open_run)
    name, curves, settings = event_files()
    assert name == "lora-on-a-b-2-shots-01234567"
    assert curves == {
        "train/loss": [(10, 1.0), (20, 0.25), (30, 0.125)],  # step 20 once, as it was the second time
        "train/images": [(10, 50.0)],
        "eval/acc1": [(30, 0.75)],
    }
    assert settings["rank"].number_value == 4
    assert settings["method"].string_value == "lora"
    assert settings["flip"].bool_value is False


TOLD = ("--method", "lora", "--rank", 2, "--steps-per-shot", 12, "--report-to", "tensorboard")


@pytest.mark.long
def test_the_command_reports_to_tensorboard(event_files, tiny_clip, tmp_path, capsys):
    assert (
        main(["fit", "digits", *map(str, ["--out", tmp_path / "adapter", "--model", tiny_clip, "--shots", 2, *TOLD])])
        == 0
    )
    name, curves, settings = event_files()
    assert name.startswith("lora-on-digits-2-shots-seed-1-")
    assert [step for step, _ in curves["train/loss"]] == [10, 20, 24]
    assert f"accuracy {curves['eval/acc1'][0][1]:.1%}".replace("%", " %") in capsys.readouterr().out
    assert settings["steps_per_shot"].number_value == 12


def test_a_folder_that_cannot_be_written_is_a_warning(tiny_clip, tmp_path, monkeypatch, capsys):
    pytest.importorskip("tensorboard")
    (tmp_path / "file").touch()
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "file"))
    assert (
        main(["fit", "digits", *map(str, ["--out", tmp_path / "adapter", "--model", tiny_clip, "--shots", 1, *TOLD])])
        == 0
    )
    errors = capsys.readouterr().err
    assert errors.count("tensorboard failed at step 0 and was told nothing more; the run went on without it: ") == 1
    assert (tmp_path / "adapter" / "adapter_model.safetensors").exists()


@pytest.fixture
def offline_wandb(tmp_path, monkeypatch):
    """Weights & Biases writing below ``tmp_path``."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    return pytest.importorskip("wandb")


def wandb_records(folder):
    """What the files of all offline runs hold, in the order of writing: LevelDB's log format behind 7 bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    for path in sorted((folder / "wandb").glob("offline-run-*/*.wandb")):
        content, at, parts = path.read_bytes(), 7, b""
        while at < len(content):
            if (left := BLOCK - at % BLOCK) < 7:  # too few for a header: padding
                at += left
                continue
            length, kind = struct.unpack_from("<4xHB", content, at)
            parts += content[at + 7 : at + 7 + length]
            at += 7 + length
            if kind in (1, 4):  # the whole of a record, or the last part of one
                yield Record.FromString(parts)
                parts = b""


def test_wandb_offline(offline_wandb, tmp_path, monkeypatch):
    from lowshot.tracking.wandb import open_run

    def open_elsewhere(run):
        """Offline folders are named by the second: two within one would be the same."""
        folder = tmp_path / f"from step {run.step}"
        folder.mkdir()
        monkeypatch.setenv("WANDB_DIR", str(folder))
        return open_run(run)

    told_twice(open_elsewhere)
    records = [record for folder in sorted(tmp_path.iterdir()) for record in wandb_records(folder)]
    runs = [record.run for record in records if record.HasField("run")]
    assert {(run.run_id, run.project, run.display_name) for run in runs} == {(RUN.id, "lowshot", RUN.name)}
    assert {item.key: item.value_json for item in runs[0].config.update}["rank"] == "4"
    rows = [
        {"/".join(item.nested_key) or item.key: float(item.value_json) for item in record.history.item}
        for record in records
        if record.HasField("history")
    ]
    curve = [(row["train/step"], row["train/loss"]) for row in rows if "train/loss" in row]
    assert curve == [(10, 1.0), (20, 0.5), (20, 0.25), (30, 0.125)]
    assert [record.exit.exit_code for record in records if record.HasField("exit")] == [0, 1]


def test_a_run_of_a_sweep_is_told_and_left_open(offline_wandb):
    from lowshot.tracking.wandb import open_run

    sweep = offline_wandb.init(project="mine", config={"rank": 4})
    run = open_run(RUN)
    run.log({"train/loss": 1.0}, 10)
    run.close(False)
    assert sweep.summary["train/loss"] == 1.0
    assert sweep.config["method"] == "lora"
    assert offline_wandb.run is sweep
    sweep.finish()


@pytest.fixture
def mlflow_client(tmp_path, monkeypatch):
    """MLflow with a store of files."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return pytest.importorskip("mlflow").MlflowClient()


def test_mlflow(mlflow_client):
    from lowshot.tracking.mlflow import open_run

    told_twice(open_run)
    experiment = mlflow_client.get_experiment_by_name("lowshot").experiment_id
    [run] = mlflow_client.search_runs([experiment])
    assert (run.info.run_name, run.info.status) == (RUN.name, "FAILED")
    assert run.data.params == {name: str(value) for name, value in SETTINGS.items()}
    curve = {(metric.step, metric.value) for metric in mlflow_client.get_metric_history(run.info.run_id, "train/loss")}
    assert curve == {*FIRST.items(), *SECOND.items()}
    assert run.data.metrics["eval/acc1"] == 0.75


def test_mlflow_below_a_run_that_is_open(mlflow_client, monkeypatch):
    import mlflow

    from lowshot.tracking.mlflow import open_run

    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "unused")
    mlflow.set_experiment("mine")
    with mlflow.start_run() as above:
        told_twice(open_run)
        assert mlflow.active_run().info.run_id == above.info.run_id
    runs = mlflow_client.search_runs([above.info.experiment_id], "tags.`lowshot.run` LIKE '%'")
    assert [run.data.tags["mlflow.parentRunId"] for run in runs] == [above.info.run_id]


def test_trackio(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path))  # read when it is imported
    trackio = pytest.importorskip("trackio")
    from lowshot.tracking.trackio import open_run

    told_twice(open_run)
    assert capsys.readouterr().out == ""  # that is for results
    [run] = trackio.Api().runs("lowshot")
    assert run.name == RUN.file_name
    assert run.config["rank"] == 4
    from trackio.sqlite_storage import SQLiteStorage

    rows = SQLiteStorage.get_logs("lowshot", run.name)
    curve = {(row["step"], row["train/loss"]) for row in rows if "train/loss" in row}
    assert curve == {*FIRST.items(), *SECOND.items()}
