"""What is missing is named so that installing it works wherever this copy of lowshot came from."""

import importlib.metadata
import re
from pathlib import Path

import pytest

from lowshot import extras

ROOT = Path(__file__).parents[1]
LISTED = (
    "torch>=2",
    'fastapi>=0.160; extra == "serve"',
    'uvicorn; extra == "serve"',
    'tomli>=2; python_version < "3"',
    'backport>=1; python_version < "3" and extra == "serve"',
    'ray>=2.54; extra == "ray"',
)


@pytest.fixture
def listed(monkeypatch):
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: list(LISTED))


def test_the_packages_of_an_extra_are_those_that_it_adds_on_this_python(listed):
    assert extras.packages("serve") == ("fastapi>=0.160", "uvicorn")
    assert extras.packages("nothing") == ()


def test_the_command_names_the_packages_and_quotes_what_a_shell_would_read(listed):
    assert extras.install_command("serve") == 'pip install "fastapi>=0.160" uvicorn'


def test_packages_that_are_absent_or_too_old_are_told(listed, monkeypatch):
    versions = {"fastapi": "0.161", "uvicorn": "0.50"}

    def version(name):
        if name not in versions:
            raise importlib.metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert (extras.absent("serve"), extras.absent("ray")) == ((), ("ray>=2.54",))
    versions["fastapi"] = "0.1"
    assert extras.absent("serve") == ("fastapi>=0.160",)


def test_a_source_that_was_never_installed_names_the_package_itself(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", missing)
    assert extras.install_command("serve", "fastapi") == "pip install fastapi"
    assert extras.absent("serve") == ()


@pytest.mark.parametrize("extra", ["serve", "quantize", "heic", "onnx", "ray", "datasets", "wandb", "mlflow"])
def test_this_installation_knows_its_extras(extra):
    assert extras.packages(extra)
    assert "lowshot" not in extras.install_command(extra)


def test_nothing_tells_anybody_to_install_lowshot_by_its_name():
    """The name is nobody's on the package registry: a stranger could take it."""
    files = [*(ROOT / "src").rglob("*.py"), *(ROOT / "docs").rglob("*.md"), ROOT / "README.md"]
    by_name = re.compile(r"""pip install\s+(-\S+\s+)*['"]?lowshot\b(?!\S* @)|lowshot\[[^\]]*\]['"=]""")
    assert not [path for path in files if by_name.search(path.read_text(encoding="utf-8"))]
