"""The command ``lowshot completion``: what a shell needs to complete commands and flags.

The script is plain text made from the commands' own arguments, so that completing starts no Python.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import tyro

from . import COMMANDS
from .arguments import parse


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Print a script that completes commands, flags and files in your shell.

    bash: `eval "$(lowshot completion bash)"` in ~/.bashrc; zsh: the same with zsh in ~/.zshrc, behind `compinit`; fish:
    `lowshot completion fish | source` in ~/.config/fish/config.fish.
    """

    shell: Annotated[Literal["bash", "zsh", "fish"], tyro.conf.Positional]
    """The shell."""


def run(arguments: Sequence[str]) -> int:
    """Print the script."""
    parsed = parse(Arguments, "completion", arguments)
    words = {command: [*_actions(command), *_flags_of(command), "--help"] for command in COMMANDS}
    print(_fish(words) if parsed.shell == "fish" else _bash(words, is_zsh=parsed.shell == "zsh"))
    return 0


def _actions(command: str) -> list[str]:
    """The words that may follow a command that does several things."""
    return list(getattr(importlib.import_module(f".{command}", __package__), "ACTIONS", ()))


def _flags_of(command: str) -> list[str]:
    """The flags of a command, of all of its actions if it has some."""
    module = importlib.import_module(f".{command}", __package__)
    kinds = getattr(module, "ACTIONS", {"": getattr(module, "Arguments", None)}).values()
    return sorted({flag for kind in kinds for flag in _flags(kind)})


def _flags(kind: type[Any]) -> Iterator[str]:
    """The flags of a dataclass and of those in it, as tyro spells them."""
    for name, hint in get_type_hints(kind, include_extras=True).items():
        inner, *notes = get_args(hint) if get_origin(hint) is Annotated else (hint,)
        if dataclasses.is_dataclass(inner) and isinstance(inner, type):
            yield from _flags(inner)
        elif tyro.conf.Positional not in notes:
            names = (getattr(note, "name", None) for note in notes)
            flag = next((given for given in names if isinstance(given, str)), name).replace("_", "-")
            yield f"--{flag}"
            if inner is bool:
                yield f"--no-{flag}"


def _bash(words: Mapping[str, Sequence[str]], *, is_zsh: bool) -> str:
    """A function for bash, which zsh can call."""
    cases = "\n".join(f'        {command}) words="{" ".join(each)}" ;;' for command, each in words.items())
    return f"""{"autoload -U bashcompinit && bashcompinit" if is_zsh else "# lowshot in bash"}
_lowshot() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" words=""
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W "{" ".join(words)} --help --version --quiet" -- "$word"))
        return
    fi
    case "${{COMP_WORDS[1]}}" in
{cases}
    esac
    COMPREPLY=($(compgen -W "$words" -- "$word") $(compgen -f -- "$word"))
}}
complete -o filenames -F _lowshot lowshot"""


def _fish(words: Mapping[str, Sequence[str]]) -> str:
    """A line for each command and for each of its flags."""
    lines = [
        f"complete -c lowshot -n __fish_use_subcommand -f -a {command} -d {_quoted(COMMANDS[command])}"
        for command in words
    ]
    for command, each in words.items():
        seen = f"complete -c lowshot -n '__fish_seen_subcommand_from {command}'"
        lines += [f"{seen} -l {w.removeprefix('--')}" if w.startswith("--") else f"{seen} -a {w}" for w in each]
    return "\n".join(lines)


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
