"""Data sets of the catalogue installed in tests, and rows of it that are changed for them."""

import dataclasses

from lowshot.data.catalogue import CATALOGUE
from lowshot.data.catalogue.preparing import prepare


def row_with(name, monkeypatch, change):
    """The catalogue's row with every file changed."""
    row = CATALOGUE[name]
    needs = tuple(tuple(change(file) for file in need) for need in row.needs)
    monkeypatch.setitem(CATALOGUE, name, dataclasses.replace(row, needs=needs))


def install(name, root, archives=None):
    """The task, and what was said and warned of."""
    lines, warned = [], []
    return prepare(name, root, archives, say=lines.append, warn=warned), lines, warned


def files_below(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
