"""The command ``lowshot init``."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from ..files import refuse_existing, write_text
from ..progress import is_quiet, shown
from .parsing import parse
from .printing import print_json


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Look at images and write a recipe to begin with: model, method and shots, with the reasons as comments."""

    data: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
    """A folder of images, or anything else that `lowshot fit` takes."""
    out: Annotated[Path, tyro.conf.arg(metavar="FILE")] = Path("lowshot.toml")
    """The recipe's file; must not exist yet."""
    root: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Folder that holds the data sets of the catalogue; else the one that LOWSHOT_DATA names."""
    json: bool = False
    """Print `{data, recipe, splits, classes, sides, unreadable, copies, warnings, model, shots, on_bad_image}`."""


def run(arguments: Sequence[str]) -> int:
    """Look, propose, write."""
    parsed = parse(Arguments, "init", arguments)
    refuse_existing(parsed.out)
    from ..data import check_images, load_task
    from ..fitting.proposal import look_at, proposed, recipe_text

    checked = check_images(load_task(parsed.data, "later", root=parsed.root), shown)
    warnings: list[str] = []
    task = load_task(parsed.data, "skip" if checked.corrupt or checked.missing else "error", warnings, parsed.root)
    look = look_at(task, checked)
    proposal = proposed(task, look)
    root = [] if parsed.root is None else ["--root", str(parsed.root)]
    command = shlex.join(["lowshot", "fit", parsed.data, *root, "--recipe", str(parsed.out), "--out", "adapter"])
    text = recipe_text(parsed.data, look, warnings, proposal, command)
    write_text(parsed.out, text)
    if parsed.json:
        told = {"model": proposal.model, "shots": proposal.shots, "on_bad_image": proposal.on_bad_image}
        seen = {**dataclasses.asdict(look), "warnings": warnings}
        print_json({"data": parsed.data, "recipe": str(parsed.out), **seen, **told})
    elif not is_quiet():
        print(f"{text}\nwritten to {parsed.out}; next: {command}")
    return 0
