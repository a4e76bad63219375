"""Accuracies in several label spaces: of the classes that were learnt, and of others that were only judged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .quantities import aligned, interval

COLUMNS = {"": False, "accuracy %": True, "95 % interval": True, "images": True, "split": False, "classes": True}
"""Heading -> whether there are numbers below it."""
_MEANS = {"harmonic_mean": "harmonic mean", "mean_of_others": "mean of the others"}


def protocol_rows(task: str, metrics: Mapping[str, Any]) -> list[list[str]]:
    """A row for the classes of ``task``, which were learnt, one for each other label space, and one for their mean.

    Where a record's ``metrics`` have no others there are no rows.
    """
    if not metrics.get("others"):
        return []
    rows = []
    learnt = "base" if "harmonic_mean" in metrics else task
    for name, measured in [(learnt, metrics), *metrics["others"].items()]:
        bounds = measured.get("acc1_interval")
        within = interval(*bounds) if bounds else ""
        images, classes = (f"{measured[count]:,}" if count in measured else "" for count in ("images", "classes"))
        rows.append([name, f"{100 * measured['acc1']:.1f}", within, images, measured.get("split", ""), classes])
    nothing = [""] * (len(COLUMNS) - 2)
    means = {name: metrics[key] for key, name in _MEANS.items() if key in metrics}
    return rows + [[name, f"{100 * mean:.1f}", *nothing] for name, mean in means.items()]


def protocol_table(task: str, metrics: Mapping[str, Any]) -> str:
    """The rows as an aligned table for a terminal; empty where there are none."""
    rows = protocol_rows(task, metrics)
    return aligned([list(COLUMNS), *rows], list(COLUMNS.values())).rstrip() if rows else ""
