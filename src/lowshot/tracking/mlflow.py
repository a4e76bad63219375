"""MLflow. Its own variables decide: ``MLFLOW_TRACKING_URI``, ``MLFLOW_EXPERIMENT_NAME``, ``MLFLOW_EXPERIMENT_ID``."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from .tracker import PROJECT, TrackedRun, prints_aside

_TAG = "lowshot.run"
_LONGEST_VALUE = 500
"""Characters of a setting that every version of MLflow's server takes."""


def open_run(run: TrackedRun) -> MlflowRun:
    """Open the run that goes on, or a new one; below the run that is open already, if there is one."""
    import mlflow
    from mlflow.entities import Param

    client, parent = mlflow.MlflowClient(), mlflow.active_run()
    if parent is not None:
        experiment = parent.info.experiment_id
    elif "MLFLOW_EXPERIMENT_ID" in os.environ:
        experiment = os.environ["MLFLOW_EXPERIMENT_ID"]
    else:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        known = client.get_experiment_by_name(name)
        experiment = client.create_experiment(name) if known is None else known.experiment_id
    earlier = client.search_runs([experiment], f"tags.`{_TAG}` = '{run.id}'")
    if earlier:
        run_id = earlier[0].info.run_id
        client.update_run(run_id, status="RUNNING")
    else:
        tags = {_TAG: run.id} | ({} if parent is None else {"mlflow.parentRunId": parent.info.run_id})
        run_id = client.create_run(experiment, run_name=run.name, tags=tags).info.run_id
        params = [Param(name, str(value)[:_LONGEST_VALUE]) for name, value in run.settings.items()]
        client.log_batch(run_id, params=params)
    return MlflowRun(client, run_id)


class MlflowRun:
    """One run, by its id: which run is MLflow's active one is left to whoever uses that."""

    def __init__(self, client: Any, run_id: str) -> None:
        self._client = client
        self._run_id = run_id

    def log(self, values: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(name, value, now, step) for name, value in values.items()]
        self._client.log_batch(self._run_id, metrics=metrics)

    def close(self, failed: bool) -> None:
        with prints_aside():  # where the run is to be seen
            self._client.set_terminated(self._run_id, "FAILED" if failed else "FINISHED")
