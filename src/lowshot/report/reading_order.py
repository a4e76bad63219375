"""The order of records in tables."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..methods import METHODS
from ..records import RunRecord
from ..wording.settings import shown_settings
from .published import ELEVEN, whole_of


def in_reading_order(records: Sequence[RunRecord]) -> tuple[RunRecord, ...]:
    """Records as a table has them; files are named by hashes, so that their own order means nothing.

    The papers' data sets come in the papers' order, then others by name; what learns nothing comes first, then
    rivals, then lowshot's methods; settings by size, shots and seeds ascending.
    """
    methods = list(METHODS)

    def place(record: RunRecord) -> tuple[object, ...]:
        whole = whole_of(record.task)
        data = ELEVEN.index(whole) if whole in ELEVEN else len(ELEVEN)
        is_known = record.method in METHODS
        method = methods.index(record.method) if is_known else len(methods) if record.recipe else 0.5
        settings = [_natural_key(f"{name} {value}") for name, value in shown_settings(record).items()]
        return data, record.task, method, record.method, record.quantize != "none", settings, record.shots, record.seed

    return tuple(sorted(records, key=place))


def _natural_key(text: str) -> list[tuple[float, str]]:
    """Key of an order of texts in which 2 comes before 16."""
    parts = re.split(r"(\d+(?:\.\d+)?)", text)
    return [(float(part), "") if i % 2 else (-1.0, part) for i, part in enumerate(parts)]
