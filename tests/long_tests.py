"""Which tests take long: those that are marked, and those that long.txt lists; see tools/list_long_tests.py.

``LONG_SECONDS`` bounds the time of a run: tests that have not begun by then are skipped, and the summary counts them.
``LONG_ORDER``, any text such as a commit, decides which files come first, so that all have their turn. The notebooks
come before all others, since they are what newcomers run.

A report in JUnit's format has the ``processor_seconds`` of each test, without those of fixtures, which tests share.
"""

import gc
import hashlib
import os
import re
import time
from pathlib import Path

import pytest

HERE = Path(__file__).parent
LONG = frozenset((HERE / "long.txt").read_text(encoding="utf-8").split())
FILES = frozenset(HERE.parent / name.partition("::")[0] for name in LONG)
ALL_OF_THEM = re.compile(r"^pytestmark = \[?[^]]*pytest\.mark\.long\b", re.MULTILINE)


def is_left_out(path, asked):
    """Whether no test of this file is asked for by this expression of marks, as far as its text tells."""
    if asked.startswith("long"):
        return path not in FILES and "mark.long" not in path.read_text(encoding="utf-8")
    return asked.startswith("not long") and bool(ALL_OF_THEM.search(path.read_text(encoding="utf-8")))


def pytest_ignore_collect(collection_path, config):
    """Such a file is not imported: every process of pytest-xdist imports all that it collects, for half a minute."""
    if collection_path.match("test_*.py") and is_left_out(collection_path, config.option.markexpr):
        return True
    return None


gc.disable()  # what is imported and collected stays: looking through it again and again is an eighth of collecting


def pytest_collection_finish():
    gc.freeze()
    gc.set_threshold(
        5_000, 20, 20
    )  # looked through as often as is usual, what tests make takes a twentieth of their time
    gc.enable()


@pytest.hookimpl(tryfirst=True)  # before those that were not asked for are left out
def pytest_collection_modifyitems(items):
    for item in items:
        if item.nodeid.partition("[")[0] in LONG:
            item.add_marker(pytest.mark.long)
    if order := os.environ.get("LONG_ORDER"):
        turn = {path: hashlib.sha256(f"{order} {path.name}".encode()).digest() for path in {i.path for i in items}}
        items.sort(key=lambda item: (item.path.name != "test_notebooks.py", turn[item.path]))


def processor_seconds():
    """Those of this process and of its children that have ended: however busy the machine is."""
    return sum(os.times()[:4])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    begun = processor_seconds()
    try:
        return (yield)
    finally:
        item.user_properties.append(("processor_seconds", round(processor_seconds() - begun, 2)))


STARTED = time.monotonic()


@pytest.hookimpl(tryfirst=True)  # before fixtures are made
def pytest_runtest_setup(item):
    seconds = os.environ.get("LONG_SECONDS")
    if seconds and item.get_closest_marker("long") and time.monotonic() - STARTED > float(seconds):
        pytest.skip(f"the {seconds} seconds of LONG_SECONDS are over")
