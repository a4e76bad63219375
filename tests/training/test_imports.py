"""Files of a room do not import each other in a circle, not even inside functions."""

import ast
import graphlib
from pathlib import Path

import pytest

import lowshot

PACKAGE = Path(lowshot.__file__).parent


def imports_of(path):
    """Names of the files beside a file that it imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            yield from (node.module.split(".")[:1] if node.module else (alias.name for alias in node.names))


@pytest.mark.parametrize("room", ["training", "fitting", "evaluation"])
def test_files_of_a_room_have_an_order(room):
    files = {path.stem: set(imports_of(path)) for path in (PACKAGE / room).glob("*.py")}
    assert len(list(graphlib.TopologicalSorter(files).static_order())) == len(files)
