"""The command ``lowshot recipes``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated

import tyro

from ..errors import InputError
from ..settings import shipped_recipe, shipped_recipes
from .parsing import parse
from .printing import print_json


@dataclasses.dataclass(frozen=True)
class Arguments:
    """The recipes that come with lowshot: what each reproduces, how many runs it is, and what it takes."""

    name: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")] = None
    """Print this recipe's file instead, to change a copy of it: `lowshot recipes NAME > mine.toml`."""
    json: bool = False
    """Print a list of `{name, title, cost, runs, data, path}`."""


def run(arguments: Sequence[str]) -> int:
    """List the recipes, or print one."""
    parsed = parse(Arguments, "recipes", arguments)
    if parsed.name is not None:
        if parsed.json:
            raise InputError("json lists all recipes; leave the name out, or leave out json")
        print(shipped_recipe(parsed.name).path.read_text(encoding="utf-8"), end="")
        return 0
    from ..bench.grid import read_grid

    listed = [(recipe, read_grid(recipe.path)) for recipe in shipped_recipes()]
    if parsed.json:
        print_json(
            [
                {
                    **{name: str(value) for name, value in dataclasses.asdict(recipe).items()},
                    "runs": len(cells),
                    "data": list(dict.fromkeys(cell.data for cell in cells)),
                }
                for recipe, cells in listed
            ]
        )
        return 0
    for recipe, cells in listed:
        print(f"{recipe.name:<32} {len(cells):>5,} runs  {recipe.cost}\n    {recipe.title}")
    print("\nlowshot bench NAME --out RUNS does the runs; lowshot plan NAME says what one of each kind takes here")
    return 0
