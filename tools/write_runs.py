"""Write the figures of each run of some grids into a CSV, a line each: what a report only averages, or leaves out.

.venv/bin/python tools/write_runs.py runs/photos runs/photos-calibrated --out docs/results/photos/runs.csv
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tyro

from lowshot.files import write_text
from lowshot.records import RunRecord
from lowshot.runs_folder import read_runs

COLUMNS: dict[str, Callable[[RunRecord], Any]] = {
    "model": lambda record: Path(str(record.model["id"])).name,
    "method": lambda record: record.method,
    "shots": lambda record: record.shots,
    "seed": lambda record: record.seed,
    "calibration_folds": lambda record: record.recipe["training"]["calibration_folds"],
    **{name: (lambda record, name=name: record.metrics[name]) for name in ("images", "acc1", "nll", "ece", "brier")},
    "temperature": lambda record: record.temperature,
    "chosen": lambda record: json.dumps(record.chosen),
    "train_seconds": lambda record: record.train_seconds,
    "evaluation_seconds": lambda record: record.evaluation_seconds,
    "training_memory_bytes": lambda record: record.training_memory_bytes,
    "commit": lambda record: record.provenance["commit"],
    "date": lambda record: record.provenance["date"],
}
"""Of a folder's model the name alone."""


@dataclasses.dataclass(frozen=True)
class Arguments:
    """The runs to read and the file to write."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Folders that ``lowshot bench --out`` wrote."""
    out: Path
    """The CSV."""


def table(records: list[RunRecord]) -> str:
    """The CSV of some runs, sorted by model, folds, method, shots and seed."""
    rows = [{name: value(record) for name, value in COLUMNS.items()} for record in records]
    rows.sort(key=lambda row: [row[name] for name in ("model", "calibration_folds", "method", "shots", "seed")])
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


if __name__ == "__main__":
    arguments = tyro.cli(Arguments)
    write_text(arguments.out, table(list(read_runs(arguments.runs).records)))
