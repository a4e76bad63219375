"""The command ``lowshot completion``: what a shell needs to complete commands and flags.

The script is plain text made from the commands' own arguments, so that completing starts no Python.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import tyro

from . import COMMANDS
from .parsing import parse

_OF_ALL = ("--help", "--version", "--quiet")
"""Flags in the place of a command."""


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Print a script that completes commands, flags and files in your shell.

    bash: `eval "$(lowshot completion bash)"` in ~/.bashrc; zsh: the same with zsh in ~/.zshrc; fish: `lowshot
    completion fish | source` in ~/.config/fish/config.fish.
    """

    shell: Annotated[Literal["bash", "zsh", "fish"], tyro.conf.Positional]
    """The shell."""


def run(arguments: Sequence[str]) -> int:
    """Print the script."""
    parsed = parse(Arguments, "completion", arguments)
    words = {command: words_of(importlib.import_module(f".{command}", __package__)) for command in COMMANDS}
    print({"bash": _bash, "zsh": _zsh, "fish": _fish}[parsed.shell](words))
    return 0


def words_of(command: ModuleType) -> list[str]:
    """The words that may follow a command: its actions, or an argument's few values, and the flags of all actions."""
    actions: Mapping[str, type[Any]] = getattr(command, "ACTIONS", {})
    kinds = tuple(actions.values()) or (command.Arguments,)
    choices = list(actions)
    if not actions:
        hints = get_type_hints(command.Arguments, include_extras=True).values()
        positional = [get_args(hint)[0] for hint in hints if tyro.conf.Positional in get_args(hint)]
        choices = [word for kind in positional if get_origin(kind) is Literal for word in get_args(kind)]
    return [*choices, *sorted({flag for kind in kinds for flag in _flags(kind)}), "--help"]


def _flags(kind: type[Any]) -> Iterator[str]:
    """The flags of a dataclass and of those in it, as tyro spells them."""
    for name, hint in get_type_hints(kind, include_extras=True).items():
        inner, *notes = get_args(hint) if get_origin(hint) is Annotated else (hint,)
        if dataclasses.is_dataclass(inner) and isinstance(inner, type):
            yield from _flags(inner)
        elif tyro.conf.Positional not in notes:
            names = (getattr(note, "name", None) for note in notes)
            flag = next((renamed for renamed in names if isinstance(renamed, str)), name).replace("_", "-")
            yield f"--{flag}"
            if inner is bool:
                yield f"--no-{flag}"


def _bash(words: Mapping[str, Sequence[str]]) -> str:
    """A function that compares what is typed with the words of the command."""
    cases = "\n".join(f'        {command}) words="{" ".join(each)}" ;;' for command, each in words.items())
    return f"""# lowshot in bash
_lowshot() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" words=""
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W "{" ".join((*words, *_OF_ALL))}" -- "$word"))
        return
    fi
    case "${{COMP_WORDS[1]}}" in
{cases}
    esac
    COMPREPLY=($(compgen -W "$words" -- "$word") $(compgen -f -- "$word"))
}}
complete -o filenames -F _lowshot lowshot"""


def _zsh(words: Mapping[str, Sequence[str]]) -> str:
    """A function of zsh's own completion, which is begun where it has not been."""
    commands = "\n".join(f"        {_quoted(f'{command}:{summary}')}" for command, summary in COMMANDS.items())
    cases = "\n".join(f"        {command}) possible=({' '.join(each)}) ;;" for command, each in words.items())
    return f"""# lowshot in zsh
(( $+functions[compdef] )) || {{ autoload -U compinit && compinit }}
_lowshot() {{
    local -a commands possible
    commands=(
{commands}
    )
    if (( CURRENT == 2 )); then
        [[ $PREFIX == -* ]] && compadd -- {" ".join(_OF_ALL)} || _describe command commands
        return
    fi
    case $words[2] in
{cases}
    esac
    if [[ $PREFIX == -* ]]; then
        compadd -- ${{(M)possible:#-*}}
    else
        (( CURRENT == 3 )) && compadd -- ${{possible:#-*}}
        _files
    fi
}}
compdef _lowshot lowshot"""


def _fish(words: Mapping[str, Sequence[str]]) -> str:
    """A line for each command, and for each of the words that may follow it."""
    lines = [f"complete -c lowshot -n __fish_use_subcommand -l {flag.removeprefix('--')}" for flag in _OF_ALL]
    lines += [
        f"complete -c lowshot -n __fish_use_subcommand -f -a {command} -d {_quoted(COMMANDS[command])}"
        for command in words
    ]
    for command, each in words.items():
        seen = f"complete -c lowshot -n '__fish_seen_subcommand_from {command}'"
        choices = [word for word in each if not word.startswith("--")]
        lines += [f"{seen} -l {word.removeprefix('--')}" for word in each if word not in choices]
        if choices:
            first = f"__fish_seen_subcommand_from {command}; and not __fish_seen_subcommand_from {' '.join(choices)}"
            lines.append(f"complete -c lowshot -n '{first}' -f -a '{' '.join(choices)}'")
    return "\n".join(lines)


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
