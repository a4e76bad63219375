"""Settings, output and the page of cards of the commands that help a person with labels."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import tyro

from ..errors import InputError
from ..files import claimed
from ..settings import Recipe
from .arguments import PresetName, RecipeFile, refuse_without_server, the_given
from .parsing import names_model, parse_with_recipe
from .printing import note, print_csv, print_json

if TYPE_CHECKING:
    from ..cards import Look, Place

_Arguments = TypeVar("_Arguments", bound="ForLabels")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ForLabels:
    """Arguments of a command about labels."""

    preset: PresetName = None
    recipe: RecipeFile = None
    settings: Annotated[Recipe, tyro.conf.arg(name="")] = dataclasses.field(default_factory=Recipe)
    csv: bool = False
    json: bool = False
    page: Annotated[Path | None, tyro.conf.arg(metavar="FILE|DIR")] = None
    port: int = 8001
    """Port of the page, on this machine alone; 0 for any that is free."""


def parse_for_labels(kind: type[_Arguments], command: str, arguments: Sequence[str]) -> _Arguments:
    """Parse the arguments of a command about labels; the method is ``gda`` on central crops if none is named.

    Raises:
        UsageError: They do not fit.
        InputError: Two ways to answer are asked for.
        MissingExtraError: The page is asked for, and packages for it are not installed.
    """
    # Random views help a head a little, and would be encoded anew for each fold.
    parsed = parse_with_recipe(kind, command, arguments, defaults={"method": "gda", "views": None})
    the_given(parsed, "csv", "json", "page")
    if parsed.page is not None:
        parsed.settings.data.refuse_several(f"{command} --page")
        refuse_without_server(f"lowshot {command} --page")
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
    note(f"photographs, and no --model: took {model}, as fit does")
    return parse_for_labels(type(parsed), command, [*arguments, "--model", model])


def print_answers(
    parsed: ForLabels, answers: object, header: Sequence[str], rows: Iterable[Sequence[object]], lines: Iterable[str]
) -> None:
    """Print what a command has to say in the format that is asked for.

    Args:
        parsed: The command's arguments.
        answers: In values of JSON.
        header: Names of the columns of CSV.
        rows: Its lines.
        lines: For people.
    """
    if parsed.json:
        print_json(answers)
    elif parsed.csv:
        print_csv(header, rows)
    else:
        for line in lines:
            print(line)


def is_table(page: Path) -> bool:
    """Tell whether labels go to a table, and not to folders.

    Raises:
        InputError: It is neither, by its name.
    """
    if page.suffix.lower() in (".csv", ".jsonl"):
        return True
    if page.suffix and not page.is_dir():
        raise InputError(f"page is {page}; expected a file that ends in .csv or .jsonl, or a folder that is there")
    return False


def show_cards(
    parsed: ForLabels,
    kind: str,
    place: Place,
    look: Look,
    about: Mapping[str, Any],
    classes: Sequence[str],
) -> int:
    """Serve the page of cards until a signal ends it; returns the exit status.

    Args:
        parsed: The command's arguments, with a page.
        kind: ``suggest``, ``doubt`` or ``copies``.
        place: Where the labels go.
        look: Looks for the cards of each round.
        about: What was asked for, in values of JSON; a page that was begun with something else is left alone.
        classes: Names of the classes.
    """
    from ..cards import Decisions, Session
    from ..cards.app import serve_cards
    from ..serving.server import listening_socket, url_of

    assert parsed.page is not None
    with (
        listening_socket("127.0.0.1", parsed.port, None) as listening,
        claimed(parsed.page),
        Decisions(place, {"kind": kind, **about}) as decisions,
    ):
        then = f"lowshot fit {shlex.quote(str(parsed.page))}"
        session = Session(decisions, look, kind=kind, where=str(parsed.page.absolute()), then=then)
        session.begin(classes)
        count = len(decisions.cards)

        def announce() -> None:
            cards = f"{count:,} card{'' if count == 1 else 's'}"
            print(f"{cards} at {url_of(listening)}, labels go to {parsed.page} (Ctrl-C stops)", flush=True)

        serve_cards(session, listening, announce)
    return 0
