"""The list of tests that take long names tests that there are: a renamed one would be long for everybody again."""

import ast
import runpy
from pathlib import Path

import pytest

import long_tests
from long_tests import is_left_out

TESTS = Path(__file__).parent
LONG_TESTS = runpy.run_path(str(TESTS.parent / "tools" / "list_long_tests.py"))["long_tests"]


def test_every_test_that_is_listed_as_long_is_there():
    listed = (TESTS / "long.txt").read_text(encoding="utf-8").split()
    assert listed == sorted(set(listed))
    for name in listed:
        path, function = name.split("::")
        tree = ast.parse((TESTS.parent / path).read_text(encoding="utf-8"))
        assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, name


def test_a_file_without_a_test_that_is_asked_for_is_not_read(tmp_path):
    texts = {
        "some": "@pytest.mark.long\ndef test_it(): ...\n",
        "none": "pytestmark = pytest.mark.usefixtures('long')\n",
        "all": "pytestmark = pytest.mark.long\n",
        "all_of_several": "pytestmark = [\n    pytest.mark.browser,\n    pytest.mark.long,  # Chromium\n]\n",
    }
    for name, text in texts.items():
        (tmp_path / f"{name}.py").write_text(text)

    def left_out(asked):
        return {name for name in texts if is_left_out(tmp_path / f"{name}.py", asked)}

    assert left_out("long and not slow and not gpu") == {"none"}
    assert left_out("not long and not slow and not gpu") == {"all", "all_of_several"}
    assert left_out("") == left_out("slow") == left_out("gpu") == set()
    assert not any(is_left_out(TESTS / "test_classifier.py", asked) for asked in ("long", "not long"))  # it is listed


def test_what_is_listed_is_what_takes_the_processor_long_and_what_was_not_run(tmp_path):
    cases = {"slow[1]": 0.2, "slow[2]": 0.9, "fast": 0.1, "waits": 0.0}
    properties = '<properties><property name="processor_seconds" value="{}" /></properties>'
    lines = [
        f'<testcase classname="tests.room.test_it" name="{name}" time="9">{properties.format(seconds)}</testcase>'
        for name, seconds in cases.items()
    ]
    skipped = '<testcase classname="tests.room.test_it" name="skipped" time="0"><skipped /></testcase>'
    (tmp_path / "times.xml").write_text(f"<testsuites><testsuite>{''.join(lines)}{skipped}</testsuite></testsuites>")
    listed = {f"tests/room/test_it.py::{name}" for name in ("fast", "not_run", "skipped")}
    found = LONG_TESTS(str(tmp_path / "times.xml"), listed)
    assert found == [f"tests/room/test_it.py::{name}" for name in ("not_run", "skipped", "slow")]


class Item:
    """As much of a test as these hooks look at."""

    def __init__(self, name, marks=("long",)):
        self.path = TESTS / name
        self.nodeid = f"tests/{name}::test_it"
        self.marks = marks

    def get_closest_marker(self, name):
        return name in self.marks or None


def test_long_tests_that_have_not_begun_in_time_are_skipped(monkeypatch):
    long_tests.pytest_runtest_setup(Item("a.py"))
    monkeypatch.setenv("LONG_SECONDS", "1000000")
    long_tests.pytest_runtest_setup(Item("a.py"))
    monkeypatch.setenv("LONG_SECONDS", "0")
    long_tests.pytest_runtest_setup(Item("a.py", marks=()))
    with pytest.raises(pytest.skip.Exception, match="LONG_SECONDS are over"):
        long_tests.pytest_runtest_setup(Item("a.py"))


def test_every_order_has_all_files_each_in_one_piece(monkeypatch):
    names = [*(f"test_{number}.py" for number in range(20)), "test_notebooks.py"]
    orders = set()
    for order in ("one", "another"):
        monkeypatch.setenv("LONG_ORDER", order)
        items = [Item(name) for name in names for _ in range(2)]
        long_tests.pytest_collection_modifyitems(items)
        found = [item.path.name for item in items]
        assert found[::2] == found[1::2]
        assert sorted(found[::2]) == sorted(names)
        assert found[0] == "test_notebooks.py"
        orders.add(tuple(found))
    assert len(orders) == 2
