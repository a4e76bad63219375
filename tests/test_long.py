"""The list of tests that take long names tests that there are: a renamed one would be long for everybody again."""

import ast
from pathlib import Path

TESTS = Path(__file__).parent


def test_every_test_that_is_listed_as_long_is_there():
    listed = (TESTS / "long.txt").read_text(encoding="utf-8").split()
    assert listed == sorted(set(listed))
    for name in listed:
        path, function = name.split("::")
        tree = ast.parse((TESTS.parent / path).read_text(encoding="utf-8"))
        assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, name
