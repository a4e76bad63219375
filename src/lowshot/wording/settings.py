"""Settings of a record as text."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Mapping
from typing import Any

from ..errors import UnknownNameError
from ..records import RunRecord
from ..settings import SETTINGS, Decides, obeyed

_COLUMNS_OF_ROWS = ("method", "quantize", "shots", "seed")
"""Settings that rows have columns of, or are the mean over."""


def shown_settings(record: RunRecord) -> dict[str, str]:
    """Settings of a record's recipe as text, by name; without those that every run of a grid has for itself."""
    return settings_as_text(record.recipe)


def telling_settings(record: RunRecord) -> dict[str, str]:
    """Those of the shown settings that mean something for the record's method.

    That are how it learns, the words of the classes, and what else is not as by default.
    """
    values = {name: value for section in record.recipe.values() for name, value in section.items()}
    with contextlib.suppress(UnknownNameError):  # a record of a method that this version does not know
        values = obeyed(record.method_used, values)
    return {
        name: text for name, text in shown_settings(record).items() if name in values and _tells(name, values[name])
    }


def _tells(name: str, value: Any) -> bool:
    """Whether a setting's value is one, and how the classifier was learnt, its words, or not the default."""
    if value is None or value in ([], ()):
        return False
    row = SETTINGS.get(name)
    if row is None:
        return True
    default = list(row.default) if isinstance(row.default, tuple) else row.default
    is_learning = row.section in ("method", "training") and row.decides is Decides.RESULT
    return is_learning or row.decides is Decides.WORDS or value != default


def settings_as_text(sections: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Settings of a recipe's sections as text, by name; without those that every run of a grid has for itself."""
    texts = {}
    for name, value in ((name, value) for section in sections.values() for name, value in section.items()):
        values = list(map(str, value)) if isinstance(value, (list, tuple)) else [str(value)]
        if name not in _COLUMNS_OF_ROWS:  # as on a command line: of several, one with spaces in it stands in quotes
            texts[name] = values[0] if len(values) == 1 else shlex.join(values)
    return texts
