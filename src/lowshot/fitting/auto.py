"""``--method auto``: which method, decided by the shots alone and by the time there is.

The shots are held out in turn; every candidate learns from the others and judges those held out. No other image is
looked at. What is cheap is tried first, what does not fit into the time is not tried. Of candidates that the held-out
images do not tell apart the first of ``CANDIDATES`` is taken. Zero-shot is taken in its place where that one is no
better than it on ``FEW`` images or more, or worse by more than a standard error on fewer.

On an image encoder without a text tower, and with one beside the model, ``WITHOUT_TEXT`` are the candidates, and
nearest-mean, the plainest that can be had, is in the place of zero-shot. Where images have several labels,
``OF_SEVERAL`` are the candidates, and a held-out image counts by how well its labels are ranked.

Where no class has two images, or the draw has some twice, there is nothing to hold out. Zero-shot is taken if it
recognises all of ``FEW`` shots or more, since they have nothing to teach then; else candidates are judged on other
crops of the images that they learnt from, which tells less, and the record says so.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError, OutputError
from ..files import canonical_json, read_json_object, write_text
from ..methods import AUTO, BEST_OF, METHODS, ZERO_SHOT
from ..progress import Track
from ..records import is_choice
from ..settings import PRESETS, SETTINGS, Recipe, default_preset, obeyed, preset_recipe
from ..training.processes import launched_together
from .held_out import HeldOut
from .lesson import Lesson
from .trials import Trial, Trials

CANDIDATES = ("lora", "proker", "gda", "task-res")
"""Methods that are tried beside zero-shot; of equals the first. docs/concepts/auto.md says where the order is from."""
CHEAPEST_FIRST = ("gda", "proker", "task-res", "lora")
"""The same methods in the order in which they are tried."""
WITHOUT_TEXT = ("linear-probe", "proker", "gda")
"""Those that are tried beside nearest-mean where no text tower reads class names, the cheapest first; of equals the
first."""
OF_SEVERAL = ("proker", "linear-probe", "lora")
"""Those that are tried beside zero-shot where images have several labels, the cheapest first. Of equals the first in
``EQUALS_OF_SEVERAL`` is taken."""
EQUALS_OF_SEVERAL = ("lora", "proker", "linear-probe")
PLAINEST = (ZERO_SHOT, "nearest-mean")
"""The methods that candidates have to beat: with a text tower, and without."""
HANDED_ON = METHODS[AUTO].training or frozenset()
"""Training settings that whatever is chosen gets; the others are those of its preset."""
FEW = 100
"""Judged images below which to be no better than zero-shot is no reason to learn nothing. They tell too little: who is
wrong on one image of four still has all of ten right in one draw of eighteen."""


def choose(
    lesson: Lesson, *, track: Track, contents: Sequence[str] = (), file: Path | None = None
) -> tuple[Lesson, dict[str, Any], HeldOut]:
    """Try the candidates on a lesson's shots, and settle on one.

    Args:
        lesson: With a recipe of method ``auto``.
        track: Shows progress.
        contents: Hashes of what the shots show, by which a kept choice is known again.
        file: Where the choice is kept while the run that follows may be interrupted; what is there already is taken.

    Returns:
        The lesson with the recipe of the chosen method; and for the record the ``method``, ``why``, the ``folds`` that
        the shots were held out in and all that was ``tried``; and what the held-out shots tell of it, if any were
        and the recipe does not ask for other folds.

    Raises:
        InputError: The recipe has training settings that ``auto`` does not obey, or there are several processes.
    """
    if launched_together():
        raise InputError("method auto cannot choose in several processes, which time would part; name a method")
    recipe = lesson.recipe
    preset = preset_of(recipe)
    key = hashlib.sha256(canonical_json([recipe.to_dict(), lesson.prompts, contents]).encode()).hexdigest()
    earlier = None if file is None else _read_choice(file, key)
    if earlier is None:
        trials = Trials(lesson, lambda name: concrete(recipe, preset, name), recipe.method.time_budget, track)
        earlier = choice, held_out = _try_all(trials)
        if file is not None:
            with contextlib.suppress(OutputError):  # a choice that cannot be kept is made once more
                write_text(file, canonical_json({"of": key, "choice": choice, **held_out.to_dict()}))
    choice, held_out = earlier
    chosen = concrete(recipe, preset, choice["method"])
    if chosen.training.calibration_folds:  # asked for in other folds than these
        held_out = HeldOut()
    elif held_out.is_told:  # so that the recipe alone learns the same, and is as sure of it
        chosen = chosen.replace(calibration_folds=choice["folds"])
    return dataclasses.replace(lesson, recipe=chosen), choice, held_out


def choice_file(checkpoint: Path) -> Path:
    """Where a choice is kept, beside the state of the training that follows it."""
    return checkpoint.with_name(f"{checkpoint.stem}.choice.json")


def preset_of(recipe: Recipe) -> str:
    """The preset that a recipe of method ``auto`` is of; what is chosen has its settings from there.

    Raises:
        InputError: A training setting is none of any preset's; the message names it.
    """
    usual = default_preset(recipe.model.model)
    fits = [name for name in (usual, *PRESETS) if AUTO in PRESETS[name] and not _unlike(recipe, name)]
    if fits:
        return fits[0]
    name = _unlike(recipe, usual)[0]
    raise InputError(
        f"{name.replace('_', '-')} is {recipe.settings()[name]!r}, but method auto trains by the preset of whatever it "
        "chooses; leave it out, or name a method"
    )


def _unlike(recipe: Recipe, preset: str) -> list[str]:
    """Training settings that are not the preset's and not handed on."""
    here, there = recipe.settings(), preset_recipe(preset, AUTO).settings()
    return [
        n for n, row in SETTINGS.items() if row.section == "training" and n not in HANDED_ON and here[n] != there[n]
    ]


def concrete(recipe: Recipe, preset: str, method: str) -> Recipe:
    """A method's recipe in place of ``auto``'s: the same model, data and engine, the rest of the preset."""
    sections = {"model", "data", "engine"}
    best = BEST_OF["builtin"] if preset == "builtin" else preset  # on other models nobody has measured it
    settings = {n: v for n, v in recipe.settings().items() if SETTINGS[n].section in sections or n in HANDED_ON}
    return preset_recipe(best if method in PRESETS[best] else preset, method).replace(**obeyed(method, settings))


def _try_all(trials: Trials) -> tuple[dict[str, Any], HeldOut]:
    """The choice that the trials of all candidates come to, as it is recorded, and what held-out shots tell of it."""
    if trials.has_text and not trials.folds and trials.images >= FEW and trials.recognises_every_shot():
        why = "it recognises every shot, and none can be held out"
        return {"method": ZERO_SHOT, "why": why, "folds": trials.folds, "tried": []}, HeldOut()
    plainest = trials.zero_shot() if trials.has_text else trials.of(PLAINEST[1])
    candidates: tuple[str, ...]
    cheapest_first: tuple[str, ...]
    if trials.has_text and trials.has_several:
        candidates, cheapest_first = EQUALS_OF_SEVERAL, OF_SEVERAL
    elif trials.has_text:
        candidates, cheapest_first = CANDIDATES, tuple(sorted(CANDIDATES, key=CHEAPEST_FIRST.index))
    else:
        candidates = tuple(name for name in WITHOUT_TEXT if METHODS[name].learns_several or not trials.has_several)
        cheapest_first = candidates
    others = {method: trials.of(method) for method in cheapest_first}
    method, why = decided([others[method] for method in candidates], plainest)
    tried = [trial.to_dict() for trial in (plainest, *others.values())]
    chosen = plainest if method == plainest.method else others[method]
    return {"method": method, "why": why, "folds": trials.folds, "tried": tried}, chosen.held_out


def decided(trials: Sequence[Trial], plainest: Trial) -> tuple[str, str]:
    """The method to take, and why.

    Args:
        trials: Of the candidates, of equals the first.
        plainest: That of zero-shot, or of what is in its place.
    """
    tried = [trial for trial in trials if trial.right]
    if not tried:
        return plainest.method, "nothing else could be tried"
    best = tried[0]
    for trial in tried[1:]:
        gain, error = gain_of(trial, best)
        if gain > error:
            best = trial
    gain, error = gain_of(best, plainest)
    if gain < -error or (gain <= 0 and len(best.right) >= FEW):
        return plainest.method, f"nothing was better: {best.method} by {100 * gain:+.1f} points"
    why = f"{100 * gain:+.1f} points against {plainest.method}"
    gains = {trial.method: gain_of(trial, best) for trial in tried if trial is not best}
    equals = [method for method, (gain, error) in gains.items() if abs(gain) <= error]
    return best.method, why + (f", no further from {' and '.join(equals)} than chance may be" if equals else "")


def gain_of(one: Trial, other: Trial) -> tuple[float, float]:
    """Mean difference of their recognition on the images that both have judged, and its standard error."""
    rows = sorted(one.right.keys() & other.right.keys())
    if not rows:
        return 0.0, math.inf
    gains = np.array([one.right[row] - other.right[row] for row in rows])
    return float(gains.mean()), float(gains.std(ddof=1) / math.sqrt(len(rows))) if len(rows) > 1 else math.inf


def _read_choice(file: Path, key: str) -> tuple[dict[str, Any], HeldOut] | None:
    """The choice that a run before this one made of the same; None where there is none, or of something else."""
    if not file.exists():
        return None
    try:
        values = read_json_object(file)
    except InputError:
        return None
    choice = values.get("choice")
    if values.get("of") != key or not isinstance(choice, dict) or not is_choice(choice):
        return None
    try:
        held_out = HeldOut.from_dict(values)
    except InputError:
        return None
    return (choice, held_out) if choice["method"] in {*CANDIDATES, *WITHOUT_TEXT, *OF_SEVERAL, *PLAINEST} else None
