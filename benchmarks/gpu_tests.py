"""The part ``correct`` of ``gpu.py``: the tests marked gpu."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from gpu_run import Row, Run

ROOT = Path(__file__).resolve().parents[1]
FIRST_TESTS = ROOT / "tests" / "test_gpu_devices.py"
"""Tests marked gpu that are about devices alone; others are found by their mark."""
SMOKE_TEST = f"{FIRST_TESTS}::test_crops_are_those_of_the_cpu[cpu]"


class Verdicts:
    """The verdict of each test as a row; a plugin of pytest.

    Args:
        run: Where the rows go.
    """

    def __init__(self, run: Run) -> None:
        self.run = run

    def pytest_runtest_setup(self, item: Any) -> None:
        """Begin no test where there is no time for it."""
        if time.monotonic() > self.run.part_ends:
            item.session.shouldstop = "no time left"

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Note a verdict."""
        if report.when == "call" or report.outcome != "passed":
            self.run.add({"variant": report.nodeid, "row_seconds": report.duration, **verdict(report)})

    def pytest_collectreport(self, report: Any) -> None:
        """Note a file that cannot be imported."""
        if report.failed:
            self.run.add({"variant": report.nodeid, **verdict(report)})


def verdict(report: Any) -> Row:
    """A report of pytest as a row has it."""
    if report.failed:
        return {"failed": report.longreprtext[-1500:]}
    return {"left_out": str(report.longrepr[-1])} if report.skipped else {"passed": 1}


def correct_part(run: Run) -> None:
    """The tests marked gpu, in this process: torch is imported once. On a CPU one of those that run there too."""
    import pytest

    files = [path for path in sorted(ROOT.glob("tests/**/test_*.py")) if "mark.gpu" in path.read_text(encoding="utf-8")]
    others = [str(path) for path in files if path != FIRST_TESTS]
    chosen = [SMOKE_TEST] if run.smoke else ["-m", "gpu", str(FIRST_TESTS), *others]
    quiet = ["-q", "--no-header", "--no-summary", "-p", "no:cacheprovider", "-p", "pytest_timeout", "--timeout=60"]
    project = ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT), "--continue-on-collection-errors"]
    environment = dict(os.environ)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # the machine's own plugins may warn, and a warning is an error
    try:
        status = int(pytest.main([*quiet, *project, *chosen], plugins=[Verdicts(run)]))
    finally:
        os.environ.clear()
        os.environ.update(environment)
    run.result["parts"]["correct"]["exit_status"] = status
    if status and not any("failed" in row for row in run.rows):
        run.add({"variant": "pytest", "failed": f"exit status {status}"})
