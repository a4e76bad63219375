"""Each setting with another value than its default, in a recipe that obeys it."""

import dataclasses
from typing import Literal, get_args, get_origin

from lowshot.methods import METHODS
from lowshot.settings import SETTINGS, preset_recipe

WORDS = ("bottom", "2GB", "tensorboard", "coop", "a {}.", "q", "r=1", "dora")
"""One of them is a value for any setting that is a text, or a list of texts."""


def another_value(row):
    """A value that the row allows, other than its default."""
    if get_origin(row.kind) is Literal:
        candidates = get_args(row.kind)
    elif bool in row.types:
        candidates = (not row.default,)
    elif int in row.types or float in row.types:
        candidates = ((row.default or 0) + 1, (row.default or 0) + 2, (row.default or 1) / 2)
    elif tuple in row.types:
        candidates = tuple((word,) for word in WORDS)
    else:
        candidates = WORDS
    return next(value for value in candidates if value != row.default and allows(row, value))


def allows(row, value):
    try:
        two_recipes(row, value)
    except ValueError:
        return False
    return True


def two_recipes(row, value):
    """A recipe of a method that obeys the setting, as it is by default and with the value."""
    method = "peft:oft" if row.name == "peft" else "lora"
    if row.section == "method" and row.name not in ("method", "peft"):
        method = next(name for name, spec in METHODS.items() if row.name in spec.settings)
    usual = dataclasses.replace(preset_recipe("paper", method))
    if row.name == "quantize_projection":
        usual = usual.replace(quantize="nf4")
    if row.name == "targets":
        usual = usual.replace(protocol="cross-dataset")
    if row.name == "label_delimiter":
        usual = usual.replace(labels_per_image="several")
    return usual.replace(**{row.name: row.default}), usual.replace(**{row.name: value})


EVERY_ROW = list(SETTINGS.values())
NAMES = list(SETTINGS)
