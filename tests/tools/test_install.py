"""``make install``: uv is told what pip is configured to do, and pip installs where uv cannot."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

INSTALL = Path(__file__).parents[2] / "tools" / "install.py"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("install", INSTALL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def commands(tool, monkeypatch):
    """What would be run; a command of which one of these words is a part fails."""

    def commands(*failing, configured=""):
        ran = []

        def run(command, **options):
            ran.append(list(command))
            return subprocess.CompletedProcess(command, int(any(each in command for each in failing)), configured)

        monkeypatch.setattr(subprocess, "run", run)
        return ran

    return commands


def by_pip(command):
    return command[1:3] == ["-m", "pip"]


def test_uv_installs_the_pinned_versions_into_the_environment_that_runs_it(tool, commands):
    ran = commands()
    assert tool.install("dev,docs") == 0
    listing, getting, installing = ran
    assert by_pip(listing) and by_pip(getting)
    assert getting[-3:] == ["-c", "constraints.txt", "uv"]
    assert installing[1:7] == ["-m", "uv", "pip", "install", "--python", sys.executable]
    assert installing[-4:] == ["-c", "constraints.txt", "--editable", ".[dev,docs]"]


@pytest.mark.parametrize("failing", ["uv", "--python"], ids=["it cannot be had", "it fails"])
def test_pip_installs_where_uv_does_not(tool, commands, failing):
    ran = commands(failing)
    assert tool.install("dev") == 0
    assert by_pip(ran[-1]) and ran[-1][-1] == ".[dev]"


def test_that_pip_fails_is_told(tool, commands):
    commands("uv", "--editable")
    assert tool.install("dev") == 1


def test_pip_alone_installs_where_it_has_a_setting_that_uv_is_not_told(tool, commands):
    ran = commands(configured="global.only-binary=':all:'\n")
    assert tool.install("dev") == 0
    assert len(ran) == 2 and all(by_pip(command) for command in ran)


def test_the_environment_goes_before_files_and_the_command_before_all_commands(tool):
    listing = "\n".join(
        [
            ":env:.index-url='https://environment'",
            "global.index-url='https://all'",
            "global.find-links='/all'",
            "install.find-links='/install'",
            "freeze.find-links='/freeze'",
        ]
    )
    assert tool.settings(listing) == {"index-url": "https://environment", "find-links": "/install"}


def test_uv_asks_those_that_pip_would_ask(tool):
    configured = {
        "extra-index-url": "\nhttps://a/simple\nhttps://b/simple",
        "no-index": "0",
        "no-cache-dir": "true",
        "timeout": "60",
        "constraint": "/etc/caps.txt",
    }
    assert tool.options(configured) == [
        *("--index-strategy", "unsafe-best-match"),
        *("--extra-index-url", "https://a/simple", "--extra-index-url", "https://b/simple"),
        "--no-cache",
        *("--constraints", "/etc/caps.txt"),
    ]


def test_each_option_is_one_that_uv_has(tool):
    help_text = subprocess.run([*tool.UV, "--help"], capture_output=True, text=True, check=True).stdout
    assert {*tool.VALUES.values(), *tool.FLAGS.values()} <= set(help_text.split())
