"""First checks of whoever reads a saved adapter: its record, and whether a backbone is the one it was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from .belonging import HeldOutBelonging
from .calibration import Calibration
from .errors import AdapterError, InputError
from .files import read_json_object
from .models import Backbone, load_backbone, pick_device
from .on_top import OnTop
from .records import RECORD_FILE, RunRecord
from .settings import Recipe
from .several_labels import Presence


def read_record(folder: Path) -> RunRecord:
    """The record of a saved adapter, with everything in it that can be checked without its backbone.

    Raises:
        AdapterError: It is missing or damaged, or was written by a newer lowshot.
    """
    return read_record_and_recipe(folder)[0]


def read_record_and_recipe(folder: Path) -> tuple[RunRecord, Recipe]:
    """The record as ``read_record`` reads it, with the recipe that it holds.

    Raises:
        AdapterError: As for ``read_record``.
    """
    path = folder / RECORD_FILE
    try:
        record = RunRecord.from_dict(read_json_object(path))
        recipe = Recipe.from_dict(record.recipe)
        if record.calibration:
            Calibration.from_dict(record.calibration)
        if record.belonging:
            HeldOutBelonging.from_dict(record.belonging)
        if record.on_top:
            OnTop.from_dict(record.on_top, len(record.classes))
        if record.presence:
            Presence.from_dict(record.presence, len(record.classes))
    except FileNotFoundError:
        raise AdapterError(f"adapter {folder} is incomplete: {RECORD_FILE} is missing") from None
    except (ValueError, TypeError) as error:
        raise AdapterError(f"adapter file {path} is damaged: {error}") from None
    classes = record.classes
    if len(classes) < 2 or len(set(classes)) != len(classes) or not all(classes):
        raise AdapterError(f"adapter file {path} is damaged: its classes are not two or more different names")
    if not record.prompts:
        raise AdapterError(f"adapter file {path} is damaged: it has no prompts; expected some for each class")
    return record, recipe


def opened_here(folder: Path, recipe: Recipe) -> tuple[Recipe, list[str]]:
    """The recipe of a saved adapter with a device that this machine has, and a line on it where that is another."""
    try:
        pick_device(recipe.model.device)
    except InputError:
        note = (
            f"{folder} was fitted on {recipe.model.device}, which this machine has not; it is opened on another device"
        )
        return recipe.replace(device="auto"), [note]
    return recipe, []


def backbone_of(folder: Path, model: str, device: str, *, moved: bool) -> Backbone:
    """Load the backbone of saved adapters.

    Args:
        folder: The adapter's, or the one that holds them.
        model: Where the backbone is.
        device: As for ``load_backbone``.
        moved: Whether it is the caller who says where it is, and not the record.

    Raises:
        InputError: It cannot be loaded; where it may have been moved, how to say so.
    """
    pick_device(device)
    try:
        return load_backbone(model, device)
    except InputError as error:
        if moved or type(error) is not InputError:  # such as a package that is not installed
            raise
        raise InputError(
            f"adapter {folder}: {error}; if its backbone is elsewhere now, --model MODEL says where (model=... from "
            "Python)"
        ) from error


def check_backbone(folder: Path, record: RunRecord, backbone: Backbone) -> list[str]:
    """Refuse a backbone that is not the adapter's; returns what to know of one that is its copy in fewer bits.

    Raises:
        AdapterError: It has other weights or settings than the one that the adapter was trained on, or resizes images
            otherwise.
    """
    identity = backbone.identity
    known, here = record.model.get("rounded_sha256"), identity.rounded_sha256.items()
    of_both = (name for name, digest in here if known.get(name) == digest) if isinstance(known, Mapping) else iter(())
    rounded = next(of_both, None)  # the type that both weights round to
    for part, field in (("weights", "weights_sha256"), ("settings", "settings_sha256")):
        expected, own = str(record.model.get(field)), getattr(identity, field)
        alike = rounded if part == "weights" else expected in identity.equal_settings_sha256
        if own != expected and not alike:
            raise AdapterError(
                f"adapter {folder} was trained on {record.model.get('id')} with {part} {expected[:12]}..., "
                f"but {identity.id} has {own[:12]}...; load it with the model it was trained on: --model MODEL says "
                "where that is (model=... from Python)"
            )
    learnt = backbone.recorded_resizing(record.resizing)
    if learnt != backbone.resizing:
        raise AdapterError(
            f"adapter {folder} learnt images with {learnt}, but here {identity.id} judges them with "
            f"{backbone.resizing}; serve it from a folder of its own"
        )
    if identity.weights_sha256 == record.model.get("weights_sha256"):
        return []
    return [
        f"{identity.id} has the weights that {folder} was trained on, rounded to {rounded} in one of the two: "
        "predictions differ by that rounding"
    ]
