"""Write tests/long.txt, the tests that ``make test`` leaves to ``make test-long``, from the times of a run.

    .venv/bin/python -m pytest --numprocesses auto -m 'not slow and not gpu' --junitxml times.xml
    .venv/bin/python tools/list_long_tests.py times.xml

What counts is the processor's time, so that the machine may be busy meanwhile. A test that was not run, as those that
are listed are not where ``-m`` is left out, stays where it is.
"""

import sys
from collections import defaultdict
from pathlib import Path
from statistics import mean
from xml.etree import ElementTree

LIST = Path(__file__).parents[1] / "tests" / "long.txt"
SECONDS = 0.32
"""The mean over a test's parameters from which on it is long."""
OF_CHECK = "tests/test_architecture.py"
"""What ``make check`` runs, all of it."""


def long_tests(times: str, listed: set[str]) -> list[str]:
    """The names of functions that take long, sorted, from a report in JUnit's format, and of those that are not in it.

    Args:
        times: The report.
        listed: Names of those that took long before.
    """
    seconds = defaultdict(list)
    for case in ElementTree.parse(times).iter("testcase"):
        path = case.attrib["classname"].replace(".", "/")
        used = case.find("properties/property[@name='processor_seconds']")
        if used is not None:
            name = f"{path}.py::{case.attrib['name'].partition('[')[0]}"
            seconds[name].append(float(used.attrib["value"]))
    long = {name for name, each in seconds.items() if mean(each) >= SECONDS and not name.startswith(OF_CHECK)}
    return sorted(long | (listed - seconds.keys()))


if __name__ == "__main__":
    listed = set(LIST.read_text(encoding="utf-8").split())
    LIST.write_text("".join(f"{name}\n" for name in long_tests(sys.argv[1], listed)), encoding="utf-8")
