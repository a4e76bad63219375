"""Presets: named settings of each method, which settings start from. They stand in the methods' rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import InputError, UnknownNameError
from ..methods import AUTO, BEST, BEST_OF, METHODS, PEFT_PREFIX, method_spec
from .recipe import SETTINGS, Recipe

_METHODS = {**METHODS, PEFT_PREFIX: method_spec(f"{PEFT_PREFIX}type")}
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    preset: {name: dict(row.presets[preset]) for name, row in _METHODS.items() if preset in row.presets}
    for preset in dict.fromkeys(preset for row in _METHODS.values() for preset in row.presets)
}
"""Preset -> method -> settings that differ from the dataclasses' defaults; ``peft:`` stands for every ``peft:TYPE``."""


def preset_recipe(preset: str, method: str) -> Recipe:
    """The recipe of a preset for a method (or alias).

    Raises:
        UnknownNameError: No such preset, or no such method.
        InputError: The preset is for other methods.
    """
    if preset not in PRESETS:
        raise UnknownNameError("preset", preset, PRESETS)
    name = method_spec(method).name
    settings = PRESETS[preset].get(PEFT_PREFIX if name.startswith(PEFT_PREFIX) else name)
    if settings is None:
        raise InputError(f"preset {preset} is for {', '.join(PRESETS[preset])}; expected another for method {name}")
    return Recipe().replace(method=method).replace(**settings)


def obeyed(method: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """These settings without those in ``[method]`` and ``[training]`` that a method (or alias) has no use for.

    Raises:
        UnknownNameError: No such method.
    """
    spec = method_spec(method)
    uses = {"method": spec.settings, "training": spec.training}

    def is_obeyed(name: str) -> bool:
        used = uses.get(SETTINGS[name].section if name in SETTINGS else "")
        return name == "method" or used is None or name in used

    return {name: value for name, value in settings.items() if is_obeyed(name)}


def changes_of(preset: str, recipe: Recipe) -> dict[str, tuple[Any, Any]]:
    """Values that a preset gave to a recipe and that differ from its method's in ``paper``.

    Returns:
        Setting -> its value in the recipe, and in ``paper``. Empty for ``paper`` itself.
    """
    method = recipe.method.method
    decided, paper = (preset_recipe(name, method).settings() for name in (preset, "paper"))
    here = recipe.settings()
    return {
        name: (here[name], published)
        for name, published in paper.items()
        if decided[name] != published and here[name] != published
    }


def default_method(preset: str) -> str:
    """The method of ``fit`` where none is named: ``auto``, unless the preset is for certain methods only."""
    return AUTO if AUTO in PRESETS.get(preset, {}) else Recipe().method.method


def default_preset(model: str) -> str:
    """The preset of a model: the published one, but the built-in model, a hundred times smaller, has its own."""
    return "builtin" if model == "builtin" else "paper"


def preset_for(model: str, named: str | None) -> str:
    """The preset of this name for a model, or the model's default; ``best`` means the best on top of that."""
    usual = default_preset(model)
    return (BEST_OF[usual] if named == BEST else named) or usual
