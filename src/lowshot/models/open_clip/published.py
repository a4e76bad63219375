"""The models that open_clip publishes: names of models and weights, their configurations and their repositories.

The table is read off the package by ``tools/list_open_clip.py``; ``VERSION`` is the package's.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import InputError
from .configuration import shortfalls

_FILE = Path(__file__).parent / "published.json"
TWIN = "-quickgelu"
"""End of the name of a configuration that is another with QuickGELU."""


@dataclasses.dataclass(frozen=True)
class Published:
    """Weights that open_clip has a name for.

    Args:
        model: Name of the configuration, such as ``ViT-B-16``.
        tag: Name of the weights, such as ``datacomp_xl_s13b_b90k``.
        config: open_clip's ``model_cfg``.
        repository: Where the weights are on the Hub.
        file: Their file's name, if it is not one of open_clip's usual.
        quick_gelu: Whether they were trained with QuickGELU.
        pixels: open_clip's ``preprocess_cfg``, as far as it is not the usual one.
    """

    model: str
    tag: str
    config: Mapping[str, Any]
    repository: str
    file: str | None
    quick_gelu: bool
    pixels: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Their name for a user: ``MODEL:TAG``."""
        return f"{self.model}:{self.tag}"

    @property
    def shortfalls(self) -> list[str]:
        """Reasons why lowshot cannot read them; empty where it reads them."""
        return shortfalls(self.config)

    @property
    def contradicts_itself(self) -> bool:
        """Whether the configuration has another activation than the weights were trained with."""
        return bool(self.config.get("quick_gelu", False)) != self.quick_gelu

    def refuse_contradiction(self) -> None:
        """Refuse weights whose configuration has another activation.

        Raises:
            InputError: They would lose accuracy, and nothing else would fail.
        """
        if self.contradicts_itself:
            trained, has = ("QuickGELU", "GELU") if self.quick_gelu else ("GELU", "QuickGELU")
            base = self.model.removesuffix(TWIN)
            raise InputError(
                f"model {self.name!r} has {has} and weights that were trained with {trained}, and would lose by it "
                f"in silence; expected {base + TWIN if self.quick_gelu else base}:{self.tag}"
            )


@functools.cache
def _table() -> dict[str, Any]:
    table: dict[str, Any] = json.loads(_FILE.read_text(encoding="utf-8"))
    return table


def version() -> str:
    """The version of the package that the table was read off."""
    return str(_table()["open_clip"])


@functools.cache
def published() -> tuple[Published, ...]:
    """Everything that open_clip publishes: one row for each MODEL:TAG that it knows, those of twins too."""
    rows = []
    for model, entry in _table()["models"].items():
        for tag, weights in entry["weights"].items():
            pixels = {name: value for name, value in weights.items() if name in _PIXELS}
            quick = weights.get("quick_gelu", False)
            row = Published(model, tag, entry["config"], weights["repository"], weights.get("file"), quick, pixels)
            rows.append(row)
    return tuple(rows)


_PIXELS = ("mean", "std", "interpolation", "resize_mode")


def distinct() -> list[Published]:
    """Weights that open_clip publishes, once each: of two twins the one whose activation is that of the weights."""
    names = {each.name for each in published()}
    return [each for each in published() if not (each.contradicts_itself and f"{each.model}{TWIN}:{each.tag}" in names)]


def by_name(name: str) -> Published | None:
    """The weights that a name means; None where it is not one of open_clip's.

    Args:
        name: ``MODEL:TAG``; a slash in MODEL is a dash, and a tag may be written with dashes, as in open_clip.

    Raises:
        InputError: MODEL is open_clip's, and TAG is none of its weights; or TAG is missing.
    """
    model, colon, tag = name.partition(":")
    model = model.replace("/", "-").replace("@", "-").removesuffix("px")
    weights = [each for each in published() if each.model == model]
    if not weights:
        return None
    tag = tag.lower().replace("-", "_")
    for each in weights:
        if each.tag == tag:
            return each
    base = model.removesuffix(TWIN)
    names = [each.name for each in distinct() if each.model.removesuffix(TWIN) == base]
    problem = f"{tag!r} is none of its weights" if colon else "which says no weights"
    few = ", ".join(names[:4]) + (f" or one of {len(names) - 4} more" if len(names) > 4 else "")
    raise InputError(f"model {name!r} is open_clip's name, {'but ' if colon else ''}{problem}; expected {few}")


def trained_with_quick_gelu(repository: str) -> Published | None:
    """The weights in a repository that were trained with QuickGELU; None where there are none."""
    return next((each for each in distinct() if each.repository == repository and each.quick_gelu), None)
