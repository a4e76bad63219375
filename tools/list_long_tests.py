"""Write tests/long.txt, the tests that ``make test`` leaves to ``make test-long``, from the times of a run.

    .venv/bin/python -m pytest --numprocesses auto -m 'not slow and not gpu' --junitxml times.xml
    .venv/bin/python tools/list_long_tests.py times.xml

Run it with the machine to itself: what else is at work makes every test longer.
"""

import sys
from collections import defaultdict
from pathlib import Path
from statistics import mean
from xml.etree import ElementTree

LIST = Path(__file__).parents[1] / "tests" / "long.txt"
SECONDS = 0.45
"""The mean over a test's parameters from which on it is long."""
OF_CHECK = "tests/test_architecture.py"
"""What ``make check`` runs, all of it."""


def long_tests(times: str) -> list[str]:
    """The names of functions that take long, sorted, from a report in JUnit's format."""
    seconds = defaultdict(list)
    for case in ElementTree.parse(times).iter("testcase"):
        path = case.attrib["classname"].replace(".", "/")
        seconds[f"{path}.py::{case.attrib['name'].partition('[')[0]}"].append(float(case.attrib["time"]))
    return sorted(name for name, each in seconds.items() if mean(each) >= SECONDS and not name.startswith(OF_CHECK))


if __name__ == "__main__":
    LIST.write_text("".join(f"{name}\n" for name in long_tests(sys.argv[1])), encoding="utf-8")
