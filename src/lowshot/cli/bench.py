"""The command ``lowshot bench``."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from ..errors import InputError, UnknownNameError
from ..progress import shown
from ..settings import SETTINGS
from .arguments import parse, print_json

if TYPE_CHECKING:
    from ..bench.engines import Engine
    from ..bench.grid import Cell
    from ..runs_folder import RunsFolder


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
    probe: bool = False
    """Of each kind of run that none is done of, do the shortest: then `--dry-run` knows how long the others take."""
    dry_run: bool = False
    """Do nothing; say which runs there are, which are done, and how long the others will take, one after the other."""
    engine: Literal["local", "ray"] = "local"
    """Where runs are done: one after the other in this process, or as many at a time as a Ray cluster has room for."""
    address: Annotated[str | None, tyro.conf.arg(metavar="HOST:PORT")] = None
    """Ray cluster that this machine is part of, or `auto` for the one started here; a Ray of its own if not given."""
    json: bool = False
    """Print one JSON object with `cells`, `done`, `failed` and `left`."""


def run(arguments: Sequence[str]) -> int:
    """Expand, do, sum up."""
    parsed = parse(Arguments, "bench", arguments)
    if parsed.limit is not None and parsed.limit < 1:
        raise InputError(f"limit is {parsed.limit}; expected 1 or more")
    if parsed.address is not None and parsed.engine != "ray":
        raise InputError("address is given, but engine is local; expected --engine ray with it")
    from ..bench.grid import read_grid
    from ..bench.runner import read_forecast, run_cells
    from ..runs_folder import RunsFolder

    cells = chosen(read_grid(parsed.recipe), parsed.only)
    if parsed.dry_run:
        return _dry_run(parsed, cells)
    engine = _engine(parsed)
    runs = RunsFolder(parsed.out)
    forecast, (done, todo) = read_forecast(cells, runs), _parted(cells, runs)
    chosen_now = [*done, *(forecast.probes(todo) if parsed.probe else todo)[: parsed.limit]]
    say = (lambda _line: None) if parsed.json else (lambda line: print(line, flush=True))
    try:
        outcome = run_cells(chosen_now, runs, engine, forecast=forecast, say=say, track=shown)
    except KeyboardInterrupt:
        kept = sum(runs.is_done(cell) for cell in cells)
        sys.stderr.write(f"lowshot: {kept} of {len(cells)} runs are done; the same command does what is left\n")
        raise
    left = len(cells) - outcome.done - outcome.failed
    if parsed.json:
        print_json({"cells": len(cells), "done": outcome.done, "failed": outcome.failed, "left": left})
    else:
        print(f"{outcome.done} of {len(cells)} runs done, {outcome.failed} failed, {left} left: {parsed.out}")
    if outcome.failed:
        sys.stderr.write(f"lowshot: why they failed is in {parsed.out / 'failed'}; the same command tries them again\n")
    return 1 if outcome.failed else 0


def _engine(parsed: Arguments) -> Engine | None:
    if parsed.engine == "local":
        return None
    from ..bench.engines.ray import RayEngine

    return RayEngine(parsed.address)


def _parted(cells: Sequence[Cell], runs: RunsFolder | None) -> tuple[list[Cell], list[Cell]]:
    """The runs that are done, and the others."""
    done = [cell for cell in cells if runs is not None and runs.is_done(cell)]
    keys = {cell.key for cell in done}
    return done, [cell for cell in cells if cell.key not in keys]


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
    from ..bench.forecast import Forecast
    from ..bench.runner import read_forecast
    from ..runs_folder import RunsFolder

    runs = RunsFolder(parsed.out) if parsed.out.is_dir() else None
    forecast = Forecast() if runs is None else read_forecast(cells, runs)
    done, left = _parted(cells, runs)
    failed = [cell for cell in left if runs is not None and runs.failure(cell) is not None]
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
    if runs.is_done(cell):
        return {"state": "done"}
    failure = runs.failure(cell)
    return {"state": "left"} if failure is None else {"state": "failed", "error": failure.error}


def _time(seconds: Sequence[float | None]) -> str:
    known = [figure for figure in seconds if figure is not None]
    unknown = len(seconds) - len(known)
    if not seconds:
        return ""
    if not known:
        return "; how long they take is not known before one of each kind is done: --probe"
    return f", {sum(known) / 60:.1f} min" + (
        f" and {unknown} of kinds that none is done of: --probe" if unknown else ""
    )
