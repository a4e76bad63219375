"""Trackio. Its own variables decide: ``TRACKIO_DIR`` on this machine, ``TRACKIO_SPACE_ID`` on the Hub."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .tracker import PROJECT, TrackedRun, prints_aside


def open_run(run: TrackedRun) -> TrackioRun:
    """Open a run, which Trackio knows by its name."""
    import trackio

    with prints_aside():
        opened = trackio.init(project=PROJECT, name=run.file_name, config=dict(run.settings), resume="allow")
    return TrackioRun(opened)


class TrackioRun:
    """One run."""

    def __init__(self, run: Any) -> None:
        self._run = run

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(dict(values), step=step)

    def close(self, failed: bool) -> None:  # noqa: ARG002 - Trackio does not say how a run ended
        import trackio

        if trackio.context_vars.current_run.get() is self._run:  # else a later ``init`` has finished it
            with prints_aside():
                trackio.finish()
