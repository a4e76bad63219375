"""Check that what ``make install`` brings has versions for every Python that pyproject.toml names.

    .venv/bin/python tools/resolve_pins.py

It resolves and installs nothing: the package registry is needed, the other Pythons are not. Where uv cannot ask a
registry that is said, and is no failure: nothing is known of the pins then.
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
    """The packages that ``make install`` installs, as the Makefile has it."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    return re.findall(r"^\$\(INSTALLED\): EXTRAS := (\S+)", makefile, re.MULTILINE)[0].split(",")


def resolution(python: str) -> tuple[bool, str]:
    """Whether the pins are refuted for this Python, and what uv said of them."""
    chosen = [argument for extra in extras() for argument in ("--extra", extra)]
    uv = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--python-version", python]
    command = [*uv, *chosen, "--constraint", "constraints.txt", "pyproject.toml"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if not done.returncode:
        return False, "ok"
    is_refuted = "No solution found" in done.stderr
    return is_refuted, done.stderr if is_refuted else f"not known: {done.stderr}"


if __name__ == "__main__":
    with ThreadPoolExecutor() as pool:  # each waits for the registry
        resolutions = dict(zip(pythons(), pool.map(resolution, pythons()), strict=True))
    for python, (_, text) in resolutions.items():
        print(f"Python {python}: {text}")
    sys.exit(any(refuted for refuted, _ in resolutions.values()))
