"""Install this project with its extras, in the versions of constraints.txt, into the environment of this Python.

    .venv/bin/python tools/install.py dev,docs

uv does it in less than half of pip's time, and asks those that pip is configured to ask. pip does it where uv is not to
be had or fails, and where pip has a setting that uv is not told.
"""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PIP = (sys.executable, "-m", "pip")
UV = (sys.executable, "-m", "uv", "pip", "install", "--python", sys.executable)
PINS = ("-c", "constraints.txt")

VALUES = {
    "cert": "--cert",
    "constraint": "--constraints",
    "extra-index-url": "--extra-index-url",
    "find-links": "--find-links",
    "index-url": "--index-url",
    "trusted-host": "--allow-insecure-host",
}
"""Settings of pip and uv's names of them; each is one value or several."""
FLAGS = {"no-cache-dir": "--no-cache", "no-index": "--no-index"}
DECIDE_NOTHING = {
    *("cache-dir", "default-timeout", "disable-pip-version-check", "no-color", "no-compile", "no-input"),
    *("no-python-version-warning", "no-warn-script-location", "progress-bar", "quiet", "require-virtualenv"),
    *("retries", "root-user-action", "timeout", "verbose"),
}
"""Settings of pip that change neither what is installed nor where it comes from."""


def settings(listing: str) -> dict[str, str]:
    """The settings for ``pip install``, from the output of ``pip config list``.

    A variable of the environment goes before what is written for this command, and that before what is for all.
    """
    values = {}
    for section in ("global", "install", ":env:"):
        for line in listing.splitlines():
            name, _, value = line.partition("=")
            if name.startswith(f"{section}."):
                values[name.removeprefix(f"{section}.")] = ast.literal_eval(value)
    return values


def options(configured: dict[str, str]) -> list[str] | None:
    """The same for uv, or nothing where it cannot be told the same.

    All indexes are equals, as they are to pip.
    """
    if configured.keys() - {*VALUES, *FLAGS, *DECIDE_NOTHING}:
        return None
    flags = ["--index-strategy", "unsafe-best-match"]
    for name, value in configured.items():
        if name in VALUES:
            flags += [part for each in value.split() for part in (VALUES[name], each)]
        elif name in FLAGS and value.lower() in ("1", "on", "t", "true", "y", "yes"):
            flags.append(FLAGS[name])
    return flags


def install(extras: str) -> int:
    """Install; returns the exit status."""

    def run(*command: str, **more: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=ROOT, text=True, **more)

    wanted = (*PINS, "--editable", f".[{extras}]")
    flags = options(settings(run(*PIP, "config", "list", stdout=subprocess.PIPE).stdout))
    if flags is not None:
        uv = run(*PIP, "install", "--quiet", "--only-binary", "uv", *PINS, "uv", stderr=subprocess.DEVNULL)
        if not uv.returncode and not run(*UV, "--quiet", *flags, *wanted).returncode:
            return 0
        print("Not installed by uv; pip tries.", file=sys.stderr)
    return run(*PIP, "install", "--quiet", "--no-compile", "--disable-pip-version-check", *wanted).returncode


if __name__ == "__main__":
    sys.exit(install(sys.argv[1]))
