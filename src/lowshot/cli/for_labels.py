"""What the commands that help a person with labels share: their settings, how they print, and the page of cards."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, TypeVar

import tyro

from ..errors import InputError
from ..settings import Recipe
from .arguments import PresetName, names_model, parse_with_recipe

_Arguments = TypeVar("_Arguments", bound="ForLabels")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ForLabels:
    """Arguments of a command about labels."""

    preset: PresetName = None
    recipe: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """TOML file with settings; they win over the preset, flags win over them."""
    settings: Annotated[Recipe, tyro.conf.arg(name="")] = dataclasses.field(default_factory=Recipe)
    csv: bool = False
    json: bool = False


def parse_for_labels(kind: type[_Arguments], command: str, arguments: Sequence[str]) -> _Arguments:
    """Parse the arguments of a command about labels; the method is ``gda`` on central crops if none is named.

    Raises:
        UsageError: They do not fit.
        InputError: Two ways to print are asked for.
    """
    # Random views help a head a little, and would be encoded anew for each fold.
    parsed = parse_with_recipe(kind, command, arguments, defaults={"method": "gda", "views": None})
    if parsed.csv and parsed.json:
        raise InputError("--csv and --json are both given; expected one of them")
    return parsed


def with_usual_model(
    parsed: _Arguments, command: str, arguments: Sequence[str], usual_model: Callable[[], str]
) -> _Arguments:
    """The same arguments, with the model that ``fit`` takes for such images where none is named, which is said.

    Args:
        parsed: By ``parse_for_labels``.
        command: The command's name.
        arguments: What the user typed.
        usual_model: Looks at the images; it is asked where no model is named.
    """
    if names_model(arguments) or (model := usual_model()) == parsed.settings.model.model:
        return parsed
    sys.stderr.write(f"lowshot: photographs, and no --model: took {model}, as fit does\n")
    return parse_for_labels(type(parsed), command, [*arguments, "--model", model])
