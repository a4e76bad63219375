"""The recipes that come with lowshot, which commands take by their names as they take a recipe's path."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from ..errors import InputError, UnknownNameError

FOLDER = Path(__file__).parents[1] / "recipes"


@dataclasses.dataclass(frozen=True)
class ShippedRecipe:
    """A recipe that comes with lowshot, as the comment at its head describes it."""

    name: str
    path: Path
    title: str
    """A sentence on what it reproduces."""
    cost: str
    """A sentence on the time that it takes, or on what it needs."""


def shipped_recipes() -> tuple[ShippedRecipe, ...]:
    """The recipes that come with lowshot, sorted by name."""
    recipes = []
    for path in sorted(FOLDER.glob("*.toml")):
        head = path.read_text(encoding="utf-8").partition("\n[")[0].splitlines()
        lines = [line.removeprefix("#").strip() for line in head if not line.startswith("#    ")]  # commands
        sentences = re.split(r"(?<=\.)\s+", " ".join(lines))
        cost = next(sentence for sentence in sentences if sentence.startswith(("Takes ", "Needs ")))
        recipes.append(ShippedRecipe(path.stem, path, sentences[0], cost))
    return tuple(recipes)


def shipped_recipe(name: str) -> ShippedRecipe:
    """One of the recipes that come with lowshot.

    Raises:
        UnknownNameError: There is none of this name.
    """
    recipes = {recipe.name: recipe for recipe in shipped_recipes()}
    if name not in recipes:
        raise UnknownNameError("recipe", name, recipes)
    return recipes[name]


def recipe_file(path: Path) -> Path:
    """The file that a path or the name of a shipped recipe stands for. A file that is there comes first.

    Raises:
        InputError: There is no such file, and no shipped recipe of this name.
    """
    shipped = FOLDER / f"{path.stem}.toml"
    if path.is_file():
        return path
    if str(path) == path.stem and shipped.is_file():
        return shipped
    if shipped.is_file():
        raise InputError(f"recipe {path} does not exist; the one that comes with lowshot is {path.stem}, without path")
    raise InputError(f"recipe {path} does not exist; expected a TOML file, or a name that lowshot recipes lists")
