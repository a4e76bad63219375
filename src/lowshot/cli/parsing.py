"""From dataclasses to parsed arguments, the same way for every command."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Protocol, TypeVar, cast, get_origin, get_type_hints, runtime_checkable

import tyro
from tyro.constructors import ConstructorRegistry, StructConstructorSpec, StructTypeInfo

from ..methods import method_spec, resolve_alias
from ..settings import (
    SETTINGS,
    Recipe,
    Section,
    default_method,
    obeyed,
    preset_for,
    preset_recipe,
    read_recipe,
    read_toml,
)
from . import UsageError

_Arguments = TypeVar("_Arguments")
_FRAME = 2  # characters of tyro's frame before what is inside


@runtime_checkable
class Checked(Protocol):
    """Arguments of which not all go together."""

    def check(self) -> None:
        """Refuse those that do not.

        Raises:
            InputError: They contradict one another, or one is out of its range.
        """


def parse(
    kind: type[_Arguments],
    command: str,
    arguments: Sequence[str],
    default: _Arguments | None = None,
    registry: ConstructorRegistry | None = None,
) -> _Arguments:
    """Parse a command's arguments into its dataclass.

    A flag with a list of values may be given several times: ``--peft r=4 --peft alpha=8`` is ``--peft r=4 alpha=8``. Of
    any other flag that is given several times the last one holds.

    Raises:
        UsageError: They do not fit; a line for each reason.
        InputError: They do not go together.
    """
    panel = io.StringIO()
    try:
        with contextlib.redirect_stderr(panel):
            parsed = tyro.cli(
                kind,
                prog=f"lowshot {command}",
                args=_gathered(arguments, _list_flags(kind)),
                default=default,
                config=(tyro.conf.OmitArgPrefixes,),
                registry=registry,
            )
    except SystemExit as leaving:
        if leaving.code == 0:  # --help
            raise
        problems = _problems(panel.getvalue())
        raise UsageError(
            "\n".join([*problems[:-1], f"{problems[-1]} (lowshot {command} --help lists the arguments)"])
        ) from None
    if isinstance(parsed, Checked):  # behind tyro, which would break the error's lines and forget its class
        parsed.check()
    return cast(_Arguments, parsed)


def _problems(panel: str) -> list[str]:
    """The problems in tyro's frame, a line for each, without its title, pointers to the help, and parsers' names.

    A frame is of lines, or of blanks where the output has no such characters. Rules divide what is inside into parts.
    The items of a part are indented, and their explanations further.
    """
    lines = re.sub(r"\x1b\[[0-9;]*m", "", panel).splitlines()[1:]
    inner = [line[_FRAME:].rstrip(" │╯") for line in lines]
    problems: list[str] = []
    for part in re.split(r"^[─-]{10,}$", "\n".join(inner), flags=re.MULTILINE):
        headings, *items = re.split(r"\n {4}(?=\S)", "\n" + part.strip("\n"))
        heading = re.sub(r"^Error parsing [\w.]+: ", "", " ".join(headings.split()))
        texts = [" ".join(item.split()) for item in items]
        if not heading or heading.startswith(("For full helptext", "Argument helptext")):
            continue
        if heading.startswith(("Arguments similar", "Perhaps you meant")) and problems:
            problems[-1] += f"; {heading} {', '.join(text.partition(' ')[0] for text in texts)}"
        elif heading.startswith("Missing") and texts:
            problems += [f"{heading} {text}" for text in texts]
        else:
            problems.append(" ".join([heading, *texts]))
    return problems


def _list_flags(kind: type[Any]) -> set[str]:
    """The flags of a dataclass, and of those in it, that take a list of values."""
    flags: set[str] = set()
    for name, hint in get_type_hints(kind).items():
        if dataclasses.is_dataclass(hint):
            flags |= _list_flags(cast(type[Any], hint))
        elif get_origin(hint) is tuple:
            flags.add(f"--{name.replace('_', '-')}")
    return flags


def _gathered(arguments: Sequence[str], flags: set[str]) -> list[str]:
    """The same arguments with all values of each of these flags after one flag, where it is given several times."""
    stop = list(arguments).index("--") if "--" in arguments else len(arguments)
    groups: list[list[str]] = [[]]
    for argument in arguments[:stop]:
        if argument.startswith("--"):
            groups.append([])
        groups[-1].append(argument)
    named = [group[0].partition("=")[0].replace("_", "-") if group else "" for group in groups]
    repeated: dict[str, list[str]] = {flag: [] for flag in named if flag in flags and named.count(flag) > 1}
    others: list[str] = []
    for flag, group in zip(named, groups, strict=True):
        if flag not in repeated:
            others += group
        elif "=" in group[0]:  # where it is repeated, it has that value alone
            repeated[flag].append(group[0].partition("=")[2])
            others += group[1:]
        else:
            repeated[flag] += group[1:]
    together = [argument for flag, values in repeated.items() for argument in (flag, *values)]
    return [*others, *together, *arguments[stop:]]


def parse_with_recipe(
    kind: type[_Arguments],
    command: str,
    arguments: Sequence[str],
    *,
    chooses: bool = False,
    defaults: Mapping[str, Any] | None = None,
) -> _Arguments:
    """Parse arguments that include a recipe's: preset first, then recipe file, then flags.

    Preset and file become the defaults of the flags, so that ``--help`` shows what would really be used and every
    flag that is given wins over them.

    Args:
        kind: A dataclass with a field ``settings`` for the recipe.
        command: The command's name.
        arguments: What the user typed.
        chooses: Whether the command chooses a method where none is named and no recipe given.
        defaults: Settings that the command has of its own, where no recipe is given; flags win over them.
    """
    first, recipe = _of_defaults(), Recipe()
    with contextlib.redirect_stderr(io.StringIO()), contextlib.suppress(SystemExit):
        # A flag without its value ends argparse; the real parser says so better.
        chosen = first.parse_known_args(list(arguments))[0]
        if chosen.method is not None:
            resolve_alias(chosen.method, chosen.quantize)  # refuses a contradiction while both can still be seen
        file = Path(chosen.recipe) if chosen.recipe else None
        sections = read_toml(file) if file else {}
        model = chosen.model or _setting_in(sections, "model") or Recipe().model.model
        preset = preset_for(model, chosen.preset)
        own = dict(defaults or {}) if not file else {}
        unnamed = default_method(preset) if chooses and not file else Recipe().method.method
        method = chosen.method or _setting_in(sections, "method") or own.pop("method", unnamed)
        recipe = preset_recipe(preset, method).replace(**{**own, "method": method, "model": model})
        recipe = read_recipe(file, recipe) if file else recipe
    fields = dataclasses.fields(kind)  # type: ignore[arg-type]
    required = {f.name: tyro.MISSING for f in fields if f.default is f.default_factory is dataclasses.MISSING}
    default = kind(**{**required, "settings": recipe})
    return parse(kind, command, arguments, default, _defaults_that_are_used(recipe))


def _defaults_that_are_used(recipe: Recipe) -> ConstructorRegistry:
    """Have the help show no default for a setting that the recipe's method has no use for."""
    spec = method_spec(recipe.method.method)
    idle = SETTINGS.keys() - obeyed(spec.name, recipe.settings()).keys()
    hint = "(default: that of the chosen method)" if spec.kind == "choice" else f"(not used by {spec.name})"
    registry, asked = ConstructorRegistry(), set[type]()

    @registry.struct_rule
    def section(info: StructTypeInfo) -> StructConstructorSpec | None:
        if info.type in asked or not (isinstance(info.type, type) and issubclass(info.type, Section)):
            return None
        asked.add(info.type)  # so that the others' rules answer
        usual = ConstructorRegistry.get_struct_spec(info)
        asked.remove(info.type)
        assert isinstance(usual, StructConstructorSpec)
        marked = tyro.conf.arg(help_behavior_hint=hint)
        fields: list[Any] = [
            dataclasses.replace(field, type=cast(Any, Annotated[field.type, marked])) if field.name in idle else field
            for field in usual.fields
        ]
        return dataclasses.replace(usual, fields=tuple(fields))

    return registry


def names_model(arguments: Sequence[str]) -> bool:
    """Tell whether arguments that ``parse_with_recipe`` has read name a model, or a preset, which is for a model."""
    chosen = _of_defaults().parse_known_args(list(arguments))[0]
    sections = read_toml(Path(chosen.recipe)) if chosen.recipe else {}
    return bool(chosen.model or chosen.preset or _setting_in(sections, "model"))


def _of_defaults() -> argparse.ArgumentParser:
    """The parser of those flags that decide the defaults of the others."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for flag in ("--model", "--method", "--quantize", "--preset", "--recipe"):
        parser.add_argument(flag)
    return parser


def with_first_as(flag: str, arguments: Sequence[str]) -> list[str]:
    """The same arguments, with the first as the value of a flag where it is no flag itself.

    Raises:
        UsageError: The flag is given too.
    """
    if not arguments or arguments[0].startswith("-"):
        return list(arguments)
    if any(argument.partition("=")[0] == flag for argument in arguments):
        raise UsageError(f"{arguments[0]!r} and {flag} are given; expected one of the two")
    return [flag, *arguments]


def _setting_in(sections: Mapping[str, Any], name: str) -> str | None:
    """Value, in a recipe file, of the setting that is called as its section is; whether it fits is looked at later."""
    section = sections.get(name)
    value = section.get(name) if isinstance(section, Mapping) else None
    return value if isinstance(value, str) else None
