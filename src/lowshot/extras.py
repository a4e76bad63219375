"""The packages that some work needs besides what lowshot is installed with, as this installation's metadata has them.

Hints name these packages and never lowshot itself: its name belongs to nobody on the package registry, and whoever
registers it there would be installed.
"""

from __future__ import annotations

import importlib.metadata

DISTRIBUTION = "lowshot"


def names() -> tuple[str, ...]:
    """The extras there are; none where lowshot runs from its source without having been installed."""
    try:
        return tuple(importlib.metadata.metadata(DISTRIBUTION).get_all("Provides-Extra") or ())
    except importlib.metadata.PackageNotFoundError:
        return ()


def packages(extra: str) -> tuple[str, ...]:
    """The packages of an extra for this Python, as pip takes them, such as ``uvicorn>=0.50``.

    Empty if there is no such extra, or where lowshot runs from its source without having been installed.
    """
    from packaging.requirements import Requirement

    try:
        listed = importlib.metadata.requires(DISTRIBUTION) or ()
    except importlib.metadata.PackageNotFoundError:
        return ()
    markers = [(each, each.marker) for each in map(Requirement, listed) if each.marker]
    return tuple(
        f"{each.name}{each.specifier}"
        for each, marker in markers
        if marker.evaluate({"extra": extra}) and not marker.evaluate({"extra": ""})  # without it, it is there anyway
    )


def absent(extra: str) -> tuple[str, ...]:
    """Those packages of an extra that are not installed, or in a version that does not fit."""
    from packaging.requirements import Requirement

    def is_there(package: str) -> bool:
        requirement = Requirement(package)
        try:
            return requirement.specifier.contains(importlib.metadata.version(requirement.name), prereleases=True)
        except importlib.metadata.PackageNotFoundError:
            return False

    return tuple(package for package in packages(extra) if not is_there(package))


def install_command(extra: str, package: str = "") -> str:
    """The command that installs an extra wherever this copy of lowshot came from.

    Args:
        extra: The extra.
        package: What to install where the packages of the extra are not known.
    """
    names = packages(extra) or (package or extra,)
    return " ".join(["pip install", *(f'"{name}"' if set(name) & set("<>=!~,") else name for name in names)])
