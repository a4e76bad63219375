"""The command ``lowshot plan``."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from ..settings import Recipe, read_toml
from ..threads import cpu_threads
from .arguments import PresetName, RecipeFile, refuse_below
from .parsing import parse, parse_with_recipe, with_first_as
from .printing import print_json


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Memory and time that a recipe will take on this machine, before it is run. The model is loaded and tried.

    `lowshot plan RECIPE` is `lowshot plan --recipe RECIPE`. Of a grid, each kind of run is planned.
    """

    classes: int = 100
    """Number of classes."""
    preset: PresetName = None
    recipe: RecipeFile = None
    json: bool = False
    """Print the plan as JSON."""
    settings: Annotated[Recipe, tyro.conf.arg(name="")] = dataclasses.field(default_factory=Recipe)

    def check(self) -> None:
        """See ``Checked``."""
        refuse_below(2, classes=self.classes)


@dataclasses.dataclass(frozen=True)
class GridArguments:
    """Memory and time that the runs of a grid will take on this machine: a plan for each kind of run."""

    recipe: Annotated[Path, tyro.conf.arg(metavar="FILE")]
    """TOML file with a section `[grid]`, or the name of one that `lowshot recipes` lists."""
    classes: int = 100
    """Number of classes of data that is neither a built-in task nor of the catalogue."""
    json: bool = False
    """Print a list of `{label, runs, plan, train_seconds}`."""

    def check(self) -> None:
        """See ``Checked``."""
        refuse_below(2, classes=self.classes)


def run(arguments: Sequence[str]) -> int:
    """Plan and print."""
    arguments = with_first_as("--recipe", arguments)
    named = [value for flag, value in itertools.pairwise(arguments) if flag == "--recipe"]
    if named and "grid" in read_toml(Path(named[-1])):
        return _plan_grid(parse(GridArguments, "plan", arguments))
    parsed = parse_with_recipe(Arguments, "plan", arguments)
    from ..training.planning import plan

    shots = parsed.settings.data.shots or 1
    with cpu_threads(parsed.settings.engine.threads):
        planned = plan(parsed.settings, classes=parsed.classes, shots=shots)
    train, calibration = planned.train_seconds, planned.calibration_seconds
    if parsed.json:
        print_json({**dataclasses.asdict(planned), "train_seconds": train, "calibration_seconds": calibration})
        return 0
    passes, budget = planned.passes, parsed.settings.engine.memory_budget
    whole = passes.prompts >= planned.prompts
    texts = "all prompts at once" if whole else f"{passes.prompts} prompts at once, forward twice"
    why = f"the largest that fit {budget}" if budget else "what suits this machine; --memory-budget sets a limit"
    peak, resident = planned.peak_bytes / 1e9, planned.resident_bytes / 1e9
    print(f"peak   {peak:.2f} GB, of which {resident:.2f} GB before the first step")
    print(
        f"time   {planned.step_seconds:.3g} s a step, {_duration(train)} for {planned.steps:,} steps "
        f"({shots} shots of {parsed.classes} classes)"
    )
    if planned.calibration_steps:
        folds = parsed.settings.training.calibration_folds
        print(
            f"       {_duration(calibration)} more for {planned.calibration_steps:,} steps "
            f"of {folds} folds to calibrate on"
        )
    print(f"plan   {passes.images} images at once, {texts}: {why}")
    return 0


def _plan_grid(parsed: GridArguments) -> int:
    """Print a line for each kind of run as soon as it is planned, and the sum."""
    from ..bench.grid import read_grid
    from ..bench.planned import planned_kinds

    kinds = planned_kinds(read_grid(parsed.recipe), parsed.classes)
    if parsed.json:
        print_json([dataclasses.asdict(kind) for kind in kinds])
        return 0
    runs, seconds = 0, 0.0
    print(f"{'runs':>5}  {'peak GB':>7}  {'s a step':>8}  {'training':>12}  kind")
    for kind in kinds:
        runs, seconds = runs + kind.runs, seconds + kind.train_seconds
        peak, step = (f"{kind.plan.peak_bytes / 1e9:.2f}", f"{kind.plan.step_seconds:.3g}") if kind.plan else ("-", "-")
        print(f"{kind.runs:>5,}  {peak:>7}  {step:>8}  {_duration(kind.train_seconds):>12}  {kind.label}", flush=True)
    print(f"{runs:,} runs, {_duration(seconds)} of training one after the other; judging comes on top")
    return 0


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"
