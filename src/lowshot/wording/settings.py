"""Settings of a record as text."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from ..records import RunRecord

_COLUMNS_OF_ROWS = ("method", "quantize", "shots", "seed")
"""Settings that rows have columns of, or are the mean over."""


def shown_settings(record: RunRecord) -> dict[str, str]:
    """Settings of a record's recipe as text, by name; without those that every run of a grid has for itself."""
    return settings_as_text(record.recipe)


def settings_as_text(sections: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Settings of a recipe's sections as text, by name; without those that every run of a grid has for itself."""
    texts = {}
    for name, value in ((name, value) for section in sections.values() for name, value in section.items()):
        values = list(map(str, value)) if isinstance(value, (list, tuple)) else [str(value)]
        if name not in _COLUMNS_OF_ROWS:  # as on a command line: of several, one with spaces in it stands in quotes
            texts[name] = values[0] if len(values) == 1 else shlex.join(values)
    return texts
