"""pytest-xdist's processes import the same for a quarter of a minute, and the first time compile it for another half.

The one that only distributes tests imports none of it. Of the others every second one begins at the other end, so that
they read what another has compiled.
"""

import contextlib
import importlib
import os

import pytest

NEED_NO_TORCH = ("sympy", "networkx", "scipy.stats", "pandas", "sklearn", "fastapi", "datasets")
"""Of what tests import, that which takes as long to compile as torch and what needs it."""
IS_SECOND = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 2 == 1


def pytest_configure(config):
    """Import what most tests need."""
    if not hasattr(config, "workerinput") and config.getoption("dist", "no") != "no":
        return
    if IS_SECOND:
        for name in NEED_NO_TORCH:
            with contextlib.suppress(ImportError):  # of an extra that is not installed
                importlib.import_module(name)
    from hypothesis import settings

    import lowshot  # noqa: F401 - before a test imports transformers: see torchvision_guard

    # Property tests draw the same examples every time, and none fails because the machine is busy.
    settings.register_profile("deterministic", deadline=None, derandomize=True)
    settings.load_profile("deterministic")
    for plugin in ("open_clip_layout", "tiny_models", "read_once"):
        config.pluginmanager.import_plugin(plugin)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    report = yield
    if IS_SECOND and isinstance(collector, pytest.Directory | pytest.Session):
        report.result.reverse()
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """All have them in the same order."""
    items.sort(key=lambda item: item.path.parts)
