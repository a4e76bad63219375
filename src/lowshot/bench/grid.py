"""A grid: one recipe file that stands for many runs. Expanding it is pure: no model and no image is touched.

```toml
[grid]
data = ["letters", "greek"]
shots = [1, 4, 16]
seed = [1, 2, 3]

[[grid.variants]]
method = "lora"

[[grid.variants]]
method = "lora-xs"
rank = [16, 32]

[training]
steps_per_shot = 100
```

Besides ``data``, ``preset`` and ``variants`` a grid names settings, each with one value or a list of them: every
combination is a run. A variant is a set of settings that go together; it may have lists of its own, and ``data`` of its
own where ``[grid]`` has none. Sections beside ``[grid]`` are those of a recipe and hold for every run.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError, UnknownNameError
from ..files import canonical_json
from ..methods import ALIASES, display_name, method_spec, resolve_alias
from ..settings import SETTINGS, Recipe, obeyed, preset_for, preset_recipe, read_toml

_OWN_KEYS = ("data", "preset", "variants")


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run of a grid."""

    data: str
    """The data to learn, as in ``lowshot fit DATA``."""
    recipe: Recipe
    compared: frozenset[str] = frozenset()
    """Settings that decide no answer, of which the grid has several values: they tell its runs apart all the same."""

    @functools.cached_property  # asked for again and again
    def key(self) -> str:
        """Name of the run: a hash of its data and of all that decides its answers, the same on every machine.

        What decides none stands in it as it is by default, so that a grid goes on with other memory or threads.
        """
        sections = self.recipe.to_dict()
        for name, row in SETTINGS.items():
            values = sections[row.section]
            if not row.decides.changes_answers and name not in self.compared:
                values[name] = row.default
            if row.is_older_default(values[name]):
                del values[name]
        return hashlib.sha256(canonical_json({"data": self.data, "recipe": sections}).encode()).hexdigest()[:16]

    @functools.cached_property
    def pace(self) -> tuple[tuple[str, Any], ...]:
        """The settings that decide how long a step takes and what it needs: all but seed, shots, steps and rates."""
        return tuple(pair for pair in self.recipe.settings().items() if not SETTINGS[pair[0]].same_pace)

    @property
    def label(self) -> str:
        """The run in a few words, for a line of progress."""
        recipe = self.recipe
        name = display_name(recipe.method.method, recipe.model.quantize)
        shots = "nothing learnt" if _learns_nothing(recipe) else f"{recipe.data.shots or 'all'} shots"
        return f"{name} on {self.data}, {shots}, seed {recipe.training.seed}"


def read_grid(path: Path) -> tuple[Cell, ...]:
    """Return the runs that a recipe file stands for, each once, in the file's order; the last axis changes fastest.

    Raises:
        InputError: The file cannot be read, or has no ``[grid]`` with ``data``; a name or a value does not fit.
    """
    sections = read_toml(path)
    grid = sections.pop("grid", None)
    if not isinstance(grid, Mapping):
        raise InputError(
            f"recipe {path} has no section [grid]; expected one with data = [...] (see docs/how-to/grids.md)"
        )
    try:
        return expand(grid, sections)
    except InputError as error:
        raise type(error)(f"recipe {path}: {error}") if type(error) is InputError else error from None


def expand(grid: Mapping[str, Any], sections: Mapping[str, Any]) -> tuple[Cell, ...]:
    """Return the runs of a grid.

    Args:
        grid: The content of ``[grid]``.
        sections: The file's other sections.

    Raises:
        InputError: A name or a value does not fit, or a setting is obeyed by none of the grid's methods.
    """
    preset, variants = _preset_and_variants(grid)
    axes = {name: value for name, value in grid.items() if name not in _OWN_KEYS}
    everywhere = Recipe.from_dict(sections).settings()  # refuses what does not fit, before anything is combined
    common = {name: everywhere[name] for values in sections.values() for name in values}
    runs: list[tuple[str, Recipe]] = []
    in_use: set[str] = set()
    for name, variant in variants:
        overlap = sorted(set(axes) & set(variant))
        if overlap:
            raise InputError(f"{overlap[0]} is set in [grid] and in one of its variants; expected it in one of them")
        lists = [_choices(setting, value) for setting, value in {**axes, **variant}.items()]
        for values in itertools.product(*lists):
            recipe, used = _recipe(preset, {**common, **dict(zip([*axes, *variant], values, strict=True))})
            in_use |= used
            runs.append((name, recipe))
    idle = sorted({*common, *axes, *(setting for _, variant in variants for setting in variant)} - in_use)
    if idle:
        raise InputError(f"{idle[0].replace('_', '-')} is set, but none of the methods of this grid has it")
    every = [recipe.settings() for _, recipe in runs]
    compared = frozenset(
        name
        for name, row in SETTINGS.items()
        if not row.decides.changes_answers and len({settings[name] for settings in every}) > 1
    )
    cells: dict[str, Cell] = {}
    for name, recipe in runs:
        cell = Cell(name, recipe, compared)
        cells.setdefault(cell.key, cell)
    return tuple(cells.values())


def _preset_and_variants(grid: Mapping[str, Any]) -> tuple[str | None, list[tuple[str, Mapping[str, Any]]]]:
    """Return the preset of a grid, and its variants, each for a data set; both are checked."""
    preset, variants = grid.get("preset"), grid.get("variants", [{}])
    if preset is not None and not isinstance(preset, str):
        raise InputError(f"preset of [grid] is {preset!r}; expected a name")
    if not isinstance(variants, list) or not variants or not all(isinstance(variant, Mapping) for variant in variants):
        raise InputError("variants of [grid] are no tables; expected [[grid.variants]]")
    for names, known in ((grid, (*SETTINGS, *_OWN_KEYS)), *((variant, ("data", *SETTINGS)) for variant in variants)):
        for name in names:
            if name not in known:
                raise UnknownNameError("setting in [grid]", name, known)
    if any("data" in variant for variant in variants):
        if "data" in grid:
            raise InputError("data is set in [grid] and in one of its variants; expected it in one of them")
        settings = [{name: value for name, value in variant.items() if name != "data"} for variant in variants]
        pairs = zip(variants, settings, strict=True)
        return preset, [(name, each) for variant, each in pairs for name in _data_sets(variant, "a variant of [grid]")]
    return preset, list(itertools.product(_data_sets(grid, "[grid]"), variants))


def _data_sets(table: Mapping[str, Any], place: str) -> list[str]:
    data = [table["data"]] if isinstance(table.get("data"), str) else table.get("data")
    if not isinstance(data, list) or not data or not all(isinstance(name, str) for name in data):
        raise InputError(f"data of {place} is {table.get('data')!r}; expected a list of data sets")
    return data


def _choices(name: str, value: Any) -> list[Any]:
    """Return the values of a setting; one that is itself a list has a list of lists for several."""
    if not isinstance(value, list):
        return [value]
    if not value:
        raise InputError(f"{name.replace('_', '-')} of [grid] is an empty list; expected at least one value")
    return [value] if tuple in SETTINGS[name].types and not isinstance(value[0], list) else value


def _recipe(preset: str | None, settings: Mapping[str, Any]) -> tuple[Recipe, set[str]]:
    """Return a run's recipe, and which of the settings it obeys: a method goes without those that it does not have."""
    chosen = dict(settings)
    method = chosen.pop("method", Recipe().method.method)
    if method in ALIASES:
        method, chosen["quantize"] = resolve_alias(method, chosen.get("quantize"))
    used = obeyed(method, chosen)
    recipe = _of_preset(preset_for(used.get("model", Recipe().model.model), preset), method).replace(**used)
    if _learns_nothing(recipe):  # one run, whatever the shots and the seed
        recipe = dataclasses.replace(recipe, training=Recipe().training).replace(shots=None)
    return recipe, {"method", *used}


_of_preset = functools.cache(preset_recipe)  # a grid has thousands of runs of few methods


def _learns_nothing(recipe: Recipe) -> bool:
    return not method_spec(recipe.method.method).learns and not recipe.training.calibration_folds
