"""Accuracies in several label spaces: of the classes that were learnt, and of others that were only judged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .quantities import interval
from .summary import aligned

COLUMNS = {"": False, "accuracy %": True, "95 % interval": True, "images": True, "split": False, "classes": True}
"""Heading -> whether there are numbers below it."""
_TOGETHER = {"harmonic_mean": "harmonic mean", "mean_of_others": "mean of the others"}


def protocol_rows(task: str, metrics: Mapping[str, Any]) -> list[list[str]]:
    """A row for the learnt classes, one for each other label space, and one for what they come to.

    Args:
        task: What the learnt classes are those of.
        metrics: A record's. Where it has no others there are no rows.
    """
    if not metrics.get("others"):
        return []
    rows = [_row("base" if "harmonic_mean" in metrics else task, metrics)]
    rows += [_row(name, other) for name, other in metrics["others"].items()]
    nothing = [""] * (len(COLUMNS) - 2)
    return rows + [[said, _percent(metrics[key]), *nothing] for key, said in _TOGETHER.items() if key in metrics]


def protocol_table(task: str, metrics: Mapping[str, Any]) -> str:
    """The rows as an aligned table for a terminal; empty where there are none."""
    rows = protocol_rows(task, metrics)
    return aligned([list(COLUMNS), *rows], list(COLUMNS.values())).rstrip() if rows else ""


def _row(name: str, measured: Mapping[str, Any]) -> list[str]:
    known = measured.get("acc1_interval")
    within = interval(*known) if known else ""
    images, classes = (f"{measured[count]:,}" if count in measured else "" for count in ("images", "classes"))
    return [name, _percent(measured["acc1"]), within, images, measured.get("split", ""), classes]


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f}"
