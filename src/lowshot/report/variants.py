"""Settings in which the runs of one method differ, and what labels say of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..methods import METHODS
from ..records import RunRecord
from ..settings import SETTINGS, default_preset, preset_recipe
from ..wording.settings import settings_as_text

MethodKey = tuple[str, str]
"""Method and precision."""
_SECTIONS_OF_AUTO = ("model", "data")  # the rest is what it chose
_WEIGHTS = "weights"
_OFF = "False"


def usual_settings(records: Sequence[RunRecord]) -> dict[MethodKey, dict[str, str]]:
    """By method and precision: settings in which its runs differ, with the value that goes without saying.

    That is the one of the method's own preset, if more than half of its runs have it or it means that something is off:
    ``lora`` and ``lora, encoder text`` say more than a list of all that could have been otherwise.
    """
    return {
        method: {name: value for name, value in usual.items() if value is not None}
        for method, usual in differing_settings(records).items()
    }


def variant_text(settings: Mapping[str, str]) -> str:
    """``rank 8, learning-rate 0.02``: settings as labels have them."""
    return ", ".join(f"{name.replace('_', '-')} {value}" for name, value in settings.items())


def given_settings(record: RunRecord) -> dict[str, str]:
    """Settings as text, by name, without those that ``auto`` chose; those younger than the record by default.

    Otherwise an older run would stand in a row with runs of any value of a younger setting.
    """
    given = {section: record.recipe[section] for section in _SECTIONS_OF_AUTO} if record.choice else record.recipe
    younger = {row.name: row.default for row in SETTINGS.values() if row.younger and row.section in given}
    return {**settings_as_text({"younger": younger}), **settings_as_text(given)}


def settings_and_model(record: RunRecord) -> dict[str, str]:
    """Settings as text, the model, and the weights, which may differ under one name of a model."""
    model = {"model": record.model.get("id"), _WEIGHTS: str(record.model.get("weights_sha256") or "")[:8]}
    return {**{name: value for name, value in model.items() if value}, **given_settings(record)}


def differing_settings(records: Sequence[RunRecord]) -> dict[MethodKey, dict[str, str | None]]:
    """By method: the settings in which its runs on one task differ, on whichever; they are named on all of them.

    Each has the value that goes without saying, see ``usual_settings``, or None. Of several models each run names its
    own: no method may stand for one of them without saying so. Settings that decide no answer are named only where a
    seed was run with several of their values.
    """
    runs: dict[MethodKey, list[tuple[RunRecord, dict[str, str]]]] = {}
    for record in records:
        runs.setdefault((record.method, record.quantize), []).append((record, settings_and_model(record)))
    every = [settings for of_method in runs.values() for _, settings in of_method if "model" in settings]
    weights = {(settings["model"], settings[_WEIGHTS]) for settings in every if _WEIGHTS in settings}
    several_weights = len(weights) > len({model for model, _ in weights})
    model_differs = {"model": len({settings["model"] for settings in every}) > 1, _WEIGHTS: several_weights}
    differing: dict[MethodKey, dict[str, str | None]] = {}
    for method, of_method in runs.items():
        first, compared, preset = of_method[0][0], _compared_settings(of_method), dict[str, str]()
        if first.method in METHODS:
            recipe = preset_recipe(default_preset(str(first.model.get("id"))), first.method)
            preset = settings_as_text(recipe.to_dict())
        usual: dict[str, str | None] = {}
        for name in dict.fromkeys(name for _, settings in of_method for name in settings):
            values = {(record.task, settings[name]) for record, settings in of_method if name in settings}
            differs = model_differs.get(name, len(values) > len({task for task, _ in values}))
            if differs and (decides_answers(name) or name in compared):
                value = None if name == "model" else preset.get(name)
                times = sum(settings.get(name) == value for _, settings in of_method)
                usual[name] = value if value == _OFF or 2 * times > len(of_method) else None
        differing[method] = usual
    return differing


def decides_answers(name: str) -> bool:
    """Whether runs that differ in it are different runs; what is no setting, such as the weights, tells them apart."""
    return name not in SETTINGS or SETTINGS[name].decides.changes_answers


def _compared_settings(runs: Sequence[tuple[RunRecord, Mapping[str, str]]]) -> set[str]:
    """Settings that decide no answer, of which one run, down to its seed, was done with several values."""
    same_runs: dict[tuple[object, ...], list[Mapping[str, str]]] = {}
    for record, settings in runs:
        answers = tuple((name, value) for name, value in settings.items() if decides_answers(name))
        same_runs.setdefault((record.task, record.shots, record.seed, answers), []).append(settings)
    return {
        name
        for same in same_runs.values()
        for name in same[0]
        if not decides_answers(name) and len({settings.get(name) for settings in same}) > 1
    }
