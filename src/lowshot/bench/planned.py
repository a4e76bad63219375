"""Time and memory of a grid's runs on this machine, before any is done: a plan for each kind of run."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from ..data import EVERY_TASK, builtin_task
from ..data.catalogue import CATALOGUE
from ..methods import display_name, method_spec
from ..threads import cpu_threads
from ..training.planning import Plan, plan
from .grid import Cell


@dataclasses.dataclass(frozen=True)
class PlannedKind:
    """Runs whose settings are the same but for seed, shots, steps and learning rates."""

    label: str
    """The method, and the settings in which this kind differs from others of the grid."""
    runs: int
    plan: Plan | None
    """Of the run with most shots, on the data with most classes; None where nothing is trained step by step."""
    train_seconds: float
    """Time of all steps of these runs; of ``auto`` the time that it may take."""


def planned_kinds(cells: Sequence[Cell], classes: int) -> Iterator[PlannedKind]:
    """Plan each kind of run of a grid, the model loaded and tried for it.

    Args:
        cells: The runs.
        classes: Number of classes of data of which it is not known without reading it.

    Raises:
        InputError: A kind does not fit its model, or there is no such model.
    """
    kinds: dict[tuple[tuple[str, Any], ...], list[Cell]] = {}
    for cell in cells:
        kinds.setdefault(cell.pace, []).append(cell)
    for label, members in zip(_labels([cells[0] for cells in kinds.values()]), kinds.values(), strict=True):
        recipe = max((cell.recipe for cell in members), key=lambda recipe: recipe.data.shots or 1)
        spec = method_spec(recipe.method.method)
        if spec.kind == "features":
            yield PlannedKind(label, len(members), None, 0.0)
        elif spec.kind == "choice":
            yield PlannedKind(label, len(members), None, recipe.method.time_budget * len(members))
        else:
            most = max(_classes_of(cell.data) or classes for cell in members)
            with cpu_threads(recipe.engine.threads):
                planned = plan(recipe, classes=most, shots=recipe.data.shots or 1)
            steps = sum(cell.recipe.steps(cell.recipe.data.shots or 1) for cell in members)
            yield PlannedKind(label, len(members), planned, planned.step_seconds * steps)


def _labels(cells: Sequence[Cell]) -> list[str]:
    """Name each by its method, and by the settings in which it differs from others of that method."""
    names = [display_name(cell.recipe.method.method, cell.recipe.model.quantize) for cell in cells]
    paces = [dict(cell.pace) for cell in cells]
    labels = []
    for name, pace in zip(names, paces, strict=True):
        alike = [other for of, other in zip(names, paces, strict=True) if of == name]
        differing = [
            f"{setting.replace('_', ' ')} {' '.join(map(str, value)) if isinstance(value, tuple) else value}"
            for setting, value in pace.items()
            if any(other[setting] != value for other in alike)
        ]
        labels.append(", ".join([name, *differing]))
    return labels


def _classes_of(data: str) -> int | None:
    """Number of classes of a data set; None where it is not known without reading files."""
    if data in EVERY_TASK:
        return len(builtin_task(data).class_names)
    return CATALOGUE[data].classes if data in CATALOGUE else None
