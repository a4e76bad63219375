"""Check that what ``make install`` brings has versions for every Python that pyproject.toml names.

    .venv/bin/python tools/resolve_pins.py

It resolves and installs nothing: the package registry is needed, the other Pythons are not.
"""

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[1]


def pythons() -> list[str]:
    """The versions of Python in the classifiers."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return re.findall(r'"Programming Language :: Python :: (3\.\d+)"', text)


def extras() -> list[str]:
    """What ``make install`` installs, as the Makefile has it."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    return re.findall(r"^\$\(INSTALLED\): EXTRAS := (\S+)", makefile, re.MULTILINE)[0].split(",")


def problem(python: str) -> str:
    """Why the pins cannot be resolved for this Python; empty if they can."""
    chosen = [argument for extra in extras() for argument in ("--extra", extra)]
    uv = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--python-version", python]
    command = [*uv, *chosen, "--constraint", "constraints.txt", "pyproject.toml"]
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True).stderr


if __name__ == "__main__":
    with ThreadPoolExecutor() as pool:  # each waits for the registry
        problems = dict(zip(pythons(), pool.map(problem, pythons()), strict=True))
    for python, text in problems.items():
        print(f"Python {python}: {text or 'ok'}")
    sys.exit(1 if any(problems.values()) else 0)
