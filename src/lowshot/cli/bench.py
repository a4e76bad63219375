"""The command ``lowshot bench``."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from ..errors import DataError, InputError, UnknownNameError
from ..progress import is_quiet, shown
from ..settings import SETTINGS
from .arguments import refuse_below
from .parsing import parse
from .printing import note, print_json, warn

if TYPE_CHECKING:
    from ..bench.engines import Engine
    from ..bench.grid import Cell


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Every run of a grid, one record each. Called again it does what is left: what is done is never done again."""

    recipe: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RECIPE")]
    """TOML file with a section `[grid]`, or the name of one that `lowshot recipes` lists."""
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
    together: int | None = None
    """Runs whose steps are computed together at most, where they train plain LoRA or LoRA-XS on the same backbone."""
    json: bool = False
    """Print one JSON object with `cells`, `done`, `failed` and `left`."""

    def check(self) -> None:
        """See ``Checked``."""
        refuse_below(1, limit=self.limit, together=self.together)
        if self.address is not None and self.engine != "ray":
            raise InputError("address is given, but engine is local; expected --engine ray with it")
        if self.together is not None and self.engine != "local":
            raise InputError(f"together is given, but engine is {self.engine}; expected --engine local with it")


def run(arguments: Sequence[str]) -> int:
    """Expand, do, sum up."""
    parsed = parse(Arguments, "bench", arguments)
    from ..bench.grid import read_grid
    from ..bench.runner import read_forecast, run_cells
    from ..runs_folder import RunsFolder

    cells = chosen(read_grid(parsed.recipe), parsed.only)
    if parsed.together is not None:
        cells = [dataclasses.replace(cell, recipe=cell.recipe.replace(together=parsed.together)) for cell in cells]
    if parsed.dry_run:
        return _dry_run(parsed, cells)
    absent = _without_needs(cells, parsed.out) if parsed.engine == "local" else set()  # other machines may have theirs
    engine: Engine | None = None
    if parsed.engine == "ray":
        from ..bench.engines.ray import RayEngine

        engine = RayEngine(parsed.address)
    runs = RunsFolder(parsed.out)
    forecast = read_forecast(cells, runs)
    done = [cell for cell in cells if runs.is_done(cell)]
    keys = {*absent, *(cell.key for cell in done)}
    left = [cell for cell in cells if cell.key not in keys]
    do_now = [*done, *(forecast.probes(left) if parsed.probe else left)[: parsed.limit]]
    say = (lambda _line: None) if parsed.json or is_quiet() else (lambda line: print(line, flush=True))
    try:
        outcome = run_cells(do_now, runs, engine, forecast=forecast, say=say, track=shown)
    except KeyboardInterrupt:
        finished = sum(runs.is_done(cell) for cell in cells)
        note(f"{finished} of {len(cells)} runs are done; the same command does what is left")
        raise
    remaining = len(cells) - outcome.done - outcome.failed
    if parsed.json:
        print_json({"cells": len(cells), "done": outcome.done, "failed": outcome.failed, "left": remaining})
    else:
        print(f"{outcome.done} of {len(cells)} runs done, {outcome.failed} failed, {remaining} left: {parsed.out}")
    if outcome.failed:
        note(f"why they failed is in {parsed.out / 'failed'}; the same command tries them again")
    return 1 if outcome.failed or absent else 0


def _without_needs(cells: Sequence[Cell], out: Path) -> set[str]:
    """The keys of runs that are not done and whose data or model is not there, which is told once for all of them.

    Raises:
        DataError: They are all that are not done.
    """
    from ..data import why_not_there
    from ..models import why_no_model
    from ..runs_folder import RunsFolder

    runs = RunsFolder(out) if out.is_dir() else None
    left = [cell for cell in cells if runs is None or not runs.is_done(cell)]
    places = {(name, cell.recipe.data.root) for cell in left for name in _read_by(cell)}
    no_data = {place: reason for place in sorted(places, key=str) if (reason := why_not_there(*place))}
    models = sorted({cell.recipe.model.loaded for cell in left})
    no_model = {model: reason for model in models if (reason := why_no_model(model))}
    without_data = {c.key for c in left if any((name, c.recipe.data.root) in no_data for name in _read_by(c))}
    without_model = {cell.key for cell in left if cell.recipe.model.loaded in no_model}
    lines = []
    for lack, keys, names, reasons in (
        ("data that is not there", without_data, dict.fromkeys(name for name, _ in no_data), no_data.values()),
        ("a model that cannot be had", without_model, no_model, no_model.values()),
    ):
        if keys:
            reason = next(iter(reasons))
            lines.append(f"{len(keys):,} of {len(left):,} runs want {lack}: {', '.join(names)}; {reason}")
    absent = without_data | without_model
    if lines and len(absent) == len(left):
        raise DataError("; ".join(lines))
    warn([f"{line}; these runs are left out" for line in lines])
    return absent


def _read_by(cell: Cell) -> tuple[str, ...]:
    """The data that a run learns from and that its recipe names to be judged on."""
    return cell.data, *cell.recipe.data.targets


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
    from ..methods import display_name

    matching = []
    for cell in cells:
        settings: dict[str, Any] = {**cell.recipe.settings(), "data": cell.data}
        texts = {n: {" ".join(map(str, v)) if isinstance(v, tuple) else str(v)} for n, v in settings.items()}
        texts["method"].add(display_name(settings["method"], settings["quantize"]))
        if all(value in texts[name] for name, value in conditions):
            matching.append(cell)
    if not matching:
        raise InputError(f"no run has {' '.join(only)}; the recipe stands for {len(cells)}: --dry-run lists them")
    return matching


def _dry_run(parsed: Arguments, cells: Sequence[Cell]) -> int:
    from ..bench.forecast import Forecast
    from ..bench.runner import read_forecast
    from ..runs_folder import RunsFolder

    runs = RunsFolder(parsed.out) if parsed.out.is_dir() else None
    forecast = Forecast() if runs is None else read_forecast(cells, runs)
    listed, seconds = [], []
    for cell in cells:
        failure = runs.failure(cell) if runs else None
        state = "done" if runs and runs.is_done(cell) else "failed" if failure else "left"
        error = {"error": failure.error} if failure else {}
        listed.append({"key": cell.key, "data": cell.data, "label": cell.label, "state": state, **error})
        if state != "done":
            seconds.append(forecast.seconds(cell))
    known = [figure for figure in seconds if figure is not None]
    states = collections.Counter(row["state"] for row in listed)
    done, failed, left = states["done"], states["failed"], len(seconds)
    if parsed.json:
        counts = {"cells": len(cells), "done": done, "failed": failed, "left": left}
        print_json({**counts, "seconds": sum(known) if len(known) == left else None, "runs": listed})
        return 0
    for row in listed:
        print(f"{row['key']}  {row['state']:<6}  {row['label']}")
    time = f", {sum(known) / 60:.1f} min" if known else ""
    if len(known) < left:
        unknown = f" and {left - len(known)} of kinds that none is done of: --probe"
        time += unknown if known else "; how long they take is not known before one of each kind is done: --probe"
    print(f"{len(cells)} runs: {done} done, {failed} failed the last time, {left} left{time}")
    return 0
