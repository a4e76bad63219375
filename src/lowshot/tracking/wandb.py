"""Weights & Biases. Its own variables decide: ``WANDB_MODE=offline``, ``WANDB_PROJECT``, ``WANDB_DIR`` and others."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from .tracker import PROJECT, TrackedRun

_STEP = "train/step"


def open_run(run: TrackedRun) -> WandbRun:
    """Open a run of our own, unless one is open already, such as one of a sweep."""
    import wandb

    if wandb.run is not None:
        wandb.run.config.update(dict(run.settings), allow_val_change=True)
        return WandbRun(wandb.run, ours=False)
    opened = wandb.init(
        project=os.environ.get("WANDB_PROJECT", PROJECT),
        id=os.environ.get("WANDB_RUN_ID", run.id),
        name=os.environ.get("WANDB_NAME", run.name),
        config=dict(run.settings),
        resume="allow",
        reinit="create_new",  # not the process's one run: each classifier has its own
    )
    return WandbRun(opened, ours=True)


class WandbRun:
    """One run, drawn over our own steps: W&B's may not go back, as a run does that goes on from an older state."""

    def __init__(self, run: Any, *, ours: bool) -> None:
        self._run = run
        self._ours = ours
        run.define_metric(_STEP)
        for name in ("train/*", "eval/*", "cost/*"):
            run.define_metric(name, step_metric=_STEP)

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._run.log({_STEP: step, **values})

    def close(self, failed: bool) -> None:
        if self._ours:
            self._run.finish(exit_code=int(failed))
