"""The command ``lowshot bench``."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from ..config import SETTINGS
from ..errors import InputError, UnknownNameError
from ..progress import shown
from .arguments import parse, print_json

if TYPE_CHECKING:
    from ..bench.grid import Cell
    from ..bench.runs import RunsFolder


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Every run of a grid, one record each. Called again it does what is left: what is done is never done again."""

    recipe: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RECIPE")]
    """TOML file with a section `[grid]`."""
    out: Path
    """Folder for the records; runs that are there already are not done again."""
    only: tuple[str, ...] = ()
    """Runs with these settings alone, such as `method=lora shots=4 data=letters`."""
    limit: int | None = None
    """Runs to do at most."""
    dry_run: bool = False
    """Do nothing; say which runs there are, which are done, and how long the others will take."""
    json: bool = False
    """Print one JSON object with `cells`, `done`, `failed` and `left`."""


def run(arguments: Sequence[str]) -> int:
    """Expand, do, sum up."""
    parsed = parse(Arguments, "bench", arguments)
    if parsed.limit is not None and parsed.limit < 1:
        raise InputError(f"limit is {parsed.limit}; expected 1 or more")
    from ..bench.grid import read_grid
    from ..bench.runs import RunsFolder

    cells = chosen(read_grid(parsed.recipe), parsed.only)
    if parsed.dry_run:
        return _dry_run(parsed, cells)
    runs = RunsFolder(parsed.out)
    from ..bench.runner import run_cells

    todo = [cell for cell in cells if runs.record(cell) is None][: parsed.limit]
    say = (lambda _line: None) if parsed.json else (lambda line: print(line, flush=True))
    outcome = run_cells(
        [cell for cell in cells if cell in todo or runs.record(cell) is not None], runs, say=say, track=shown
    )
    left = len(cells) - outcome.done - outcome.failed
    if parsed.json:
        print_json({"cells": len(cells), "done": outcome.done, "failed": outcome.failed, "left": left})
    else:
        print(f"{outcome.done} of {len(cells)} runs done, {outcome.failed} failed, {left} left: {parsed.out}")
    if outcome.failed:
        sys.stderr.write(f"lowshot: why they failed is in {parsed.out / 'failed'}; the same command tries them again\n")
    return 1 if outcome.failed else 0


def chosen(cells: Sequence[Cell], only: Sequence[str]) -> list[Cell]:
    """The runs whose settings have all these values.

    Raises:
        InputError: A condition is not ``name=value``, or no run meets them all.
        UnknownNameError: No setting has this name.
    """
    conditions: list[tuple[str, str]] = []
    for condition in only:
        name, equals, value = condition.partition("=")
        name = name.replace("-", "_")
        if not equals:
            raise InputError(f"only is {condition!r}; expected name=value, such as method=lora")
        if name not in (*SETTINGS, "data"):
            raise UnknownNameError("setting", name, (*SETTINGS, "data"))
        conditions.append((name, value))
    found = [cell for cell in cells if all(_has(cell, name, value) for name, value in conditions)]
    if not found:
        raise InputError(f"no run has {' '.join(only)}; the recipe stands for {len(cells)}: --dry-run lists them")
    return found


def _has(cell: Cell, name: str, value: str) -> bool:
    from ..methods import display_name

    settings: dict[str, Any] = {**cell.recipe.settings(), "data": cell.data}
    here = settings[name]
    if name == "method":
        return value in (here, display_name(here, settings["quantize"]))
    return value == (" ".join(map(str, here)) if isinstance(here, tuple) else str(here))


def _dry_run(parsed: Arguments, cells: Sequence[Cell]) -> int:
    from ..bench.runner import Forecast
    from ..bench.runs import RunsFolder

    runs = RunsFolder(parsed.out) if parsed.out.is_dir() else None
    forecast, done, failed = Forecast(), [], []
    for cell in cells:
        if runs is not None and (record := runs.record(cell)) is not None:
            done.append(cell)
            forecast.learn(cell, record, record.train_seconds)
        elif runs is not None and runs.failure(cell) is not None:
            failed.append(cell)
    left = [cell for cell in cells if cell not in done]
    seconds = [forecast.seconds(cell) for cell in left]
    known = [figure for figure in seconds if figure is not None]
    if parsed.json:
        print_json(
            {
                "cells": len(cells),
                "done": len(done),
                "failed": len(failed),
                "left": len(left),
                "seconds": sum(known) if len(known) == len(left) else None,
                "runs": [
                    {"key": cell.key, "data": cell.data, "label": cell.label, **_state(cell, runs)} for cell in cells
                ],
            }
        )
        return 0
    for cell in cells:
        print(f"{cell.key}  {_state(cell, runs)['state']:<6}  {cell.label}")
    print(f"{len(cells)} runs: {len(done)} done, {len(failed)} failed the last time, {len(left)} left{_time(seconds)}")
    return 0


def _state(cell: Cell, runs: RunsFolder | None) -> dict[str, str]:
    if runs is None:
        return {"state": "left"}
    if runs.record(cell) is not None:
        return {"state": "done"}
    failure = runs.failure(cell)
    return {"state": "left"} if failure is None else {"state": "failed", "error": failure.error}


def _time(seconds: Sequence[float | None]) -> str:
    if not seconds:
        return ""
    unknown = list(seconds).count(None)
    if unknown == len(seconds):
        return "; how long they take is not known before one of each kind is done: --limit 1"
    minutes = sum(figure for figure in seconds if figure is not None) / 60
    return f", {minutes:.1f} min" + (f" and {unknown} of kinds that none is done of" if unknown else "")
