"""TensorBoard: event files below ``$TENSORBOARD_LOGGING_DIR``, else ``runs``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from .tracker import TrackedRun

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_COMPARED = ("train/loss", "eval/acc1")
"""Figures that the page of hyper-parameters has columns for."""


def open_run(run: TrackedRun) -> TensorBoardRun:
    """Open a folder of the run's own; a run that goes on writes another file into it."""
    from torch.utils.tensorboard import SummaryWriter
    from torch.utils.tensorboard.summary import hparams

    folder = Path(os.environ.get("TENSORBOARD_LOGGING_DIR") or "runs") / run.file_name
    goes_on = folder.is_dir()
    # Steps that were reported after the state that it goes on from was written will be reported again.
    writer = SummaryWriter(str(folder), purge_step=run.step + 1 if goes_on else None)
    if not goes_on:
        # Not ``add_hparams``, which puts them into a run of their own beside this one.
        for part in hparams(dict(run.settings), dict.fromkeys(_COMPARED, 0.0)):  # type: ignore[no-untyped-call]
            writer._get_file_writer().add_summary(part)  # type: ignore[no-untyped-call]
    return TensorBoardRun(writer)


class TensorBoardRun:
    """Scalars of one run; each report is on the disk when ``log`` returns."""

    def __init__(self, writer: SummaryWriter) -> None:
        self._writer = writer

    def log(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self, failed: bool) -> None:  # noqa: ARG002 - event files do not say how a run ended
        self._writer.close()
