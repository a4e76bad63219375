"""The command ``lowshot plan``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from ..errors import InputError
from ..settings import Recipe
from ..threads import cpu_threads
from .arguments import PresetName, parse_with_recipe, print_json

if TYPE_CHECKING:
    from ..training.planning import Plan


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Memory and time that a recipe will take on this machine, before it is run. The model is loaded and tried."""

    classes: int = 100
    """Number of classes."""
    preset: PresetName = None
    recipe: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """TOML file with settings; they win over the preset, flags win over them."""
    json: bool = False
    """Print the plan as JSON."""
    settings: Annotated[Recipe, tyro.conf.arg(name="")] = dataclasses.field(default_factory=Recipe)


def run(arguments: Sequence[str]) -> int:
    """Plan and print."""
    parsed = parse_with_recipe(Arguments, "plan", arguments)
    if parsed.classes < 2:
        raise InputError(f"classes is {parsed.classes}; expected 2 or more")
    from ..training.planning import plan

    shots = parsed.settings.data.shots or 1
    with cpu_threads(parsed.settings.engine.threads):
        made = plan(parsed.settings, classes=parsed.classes, shots=shots)
    if parsed.json:
        print_json(_values(made))
    else:
        print(_said(made, parsed.settings, parsed.classes, shots))
    return 0


def _values(made: Plan) -> dict[str, Any]:
    seconds = {"train_seconds": made.train_seconds, "calibration_seconds": made.calibration_seconds}
    return {**dataclasses.asdict(made), **seconds}


def _said(made: Plan, settings: Recipe, classes: int, shots: int) -> str:
    passes, budget = made.passes, settings.engine.memory_budget
    whole = passes.prompts >= made.prompts
    texts = "all prompts at once" if whole else f"{passes.prompts} prompts at once, forward twice"
    why = f"the largest that fit {budget}" if budget else "what suits this machine; --memory-budget sets a limit"
    lines = [
        f"peak   {made.peak_bytes / 1e9:.2f} GB, of which {made.resident_bytes / 1e9:.2f} GB before the first step",
        f"time   {made.step_seconds:.3g} s a step, {_duration(made.train_seconds)} for {made.steps:,} steps "
        f"({shots} shots of {classes} classes)",
        f"plan   {passes.images} images at once, {texts}: {why}",
    ]
    if made.calibration_steps:
        more = f"{_duration(made.calibration_seconds)} more for {made.calibration_steps:,} steps"
        lines.insert(2, f"       {more} of {settings.training.calibration_folds} folds to calibrate on")
    return "\n".join(lines)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"
