"""The command ``lowshot plan``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from ..errors import InputError
from ..settings import Recipe
from ..threads import cpu_threads
from .arguments import PresetName, parse_with_recipe, print_json


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


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"
