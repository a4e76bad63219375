"""The command line. The parser is a table; each command is a short file that calls one thing and prints.

Nothing heavy is imported before a command needs it, so that ``--help`` is instant.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import NoReturn

from ..errors import InputError, LowshotError, UnknownNameError
from ..progress import quiet

COMMANDS = {
    "demo": "the main job, offline: every method on handwritten digits, table and report",
    "init": "look at a folder of images and write a recipe to begin with",
    "fit": "learn classes from a few images each: one adapter",
    "predict": "labels and probabilities of images, from a saved adapter",
    "sort": "images of a folder into folders of their classes, by a saved adapter",
    "explain": "which parts of an image spoke for a class, as a picture",
    "suggest": "which images to label next, of those that nobody has labelled",
    "doubt": "training images whose label may be wrong, and what they look like",
    "evaluate": "accuracy of a saved adapter",
    "add": "classes more, or more images of them, into a saved adapter without starting over",
    "remove": "classes out of a saved adapter",
    "rename": "another name for a class of a saved adapter",
    "serve": "many adapters at once: a page in the browser and an HTTP interface",
    "export": "a saved adapter for PEFT, transformers, onnxruntime, a browser, or as a Hugging Face Space",
    "import": "an adapter that CLIP-LoRA or plain PEFT saved, as an adapter folder",
    "bench": "every run of a grid from one recipe file, one record each; goes on where it ended",
    "recipes": "the recipes that come with lowshot: what each reproduces, and what it takes",
    "report": "tables and a page from the records of a grid, beside published figures",
    "data": "data sets: which there are, whether every image is well, how to install one",
    "methods": "the methods there are",
    "models": "models to begin with: size, licence, accuracy without training, memory",
    "params": "how many parameters a method trains on a model, and how large its adapter is",
    "plan": "memory and time that a recipe will take on this machine",
    "completion": "a script that completes commands and flags in bash, zsh or fish",
    "doctor": "what this machine can do, in a minute too, and what stands in the way",
}
"""Command -> what it does. The command's module has its name and a function ``run(arguments) -> exit status``."""


class UsageError(InputError):
    """Arguments of a command that do not fit: a line for each of the reasons."""


class Terminated(KeyboardInterrupt):
    """SIGTERM: whatever keeps its state when a person presses Ctrl-C keeps it then too."""


@contextlib.contextmanager
def _termination_raised() -> Iterator[None]:
    """Let SIGTERM raise ``Terminated``; Python allows that in the main thread alone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(*_: object) -> NoReturn:
        raise Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def usage() -> str:
    """The text of ``lowshot --help``."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {summary}" for name, summary in COMMANDS.items()]
    return "\n".join(
        [
            "usage: lowshot COMMAND [ARGUMENTS]",
            "",
            "Teach CLIP your classes from a handful of images, with an adapter of a few kilobytes.",
            "",
            *lines,
            "",
            "lowshot COMMAND --help says more. -q, --quiet: nothing but answers, warnings and errors.",
            "Exit status: 0 done, 1 failed, 2 bad input.",
        ]
    )


def _run(arguments: list[str]) -> int:
    """Run one command, quietly where that is asked for anywhere before ``--``."""
    stop = arguments.index("--") if "--" in arguments else len(arguments)
    others = [argument for argument in arguments[:stop] if argument not in ("-q", "--quiet")]
    name, *rest = [*others, *arguments[stop:]] or ["help"]
    if name in ("-h", "--help", "help"):
        print(usage())
        return 0
    if name == "--version":
        from .. import __version__

        print(f"lowshot {__version__}")
        return 0
    if name not in COMMANDS:
        raise UnknownNameError("command", name, COMMANDS)
    with _termination_raised(), quiet(len(others) < stop):
        status: int = importlib.import_module(f".{name}", __package__).run(rest)
    return status


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    for stream in (sys.stdout, sys.stderr):
        # A character that a terminal lacks is written as \u732b, instead of failing at a name. Where a byte of a file's
        # name is passed through as it is, only UTF-8 has all other characters too.
        if isinstance(stream, io.TextIOWrapper) and (
            stream.errors == "strict" or (stream.errors == "surrogateescape" and stream.encoding.lower() != "utf-8")
        ):
            stream.reconfigure(errors="backslashreplace")
    # bitsandbytes logs on import that a faster kernel could be downloaded, and once per layer that it casts.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    try:
        return _run(list(sys.argv[1:] if arguments is None else arguments))
    except LowshotError as error:
        lines = str(error).splitlines() if isinstance(error, UsageError) else [" ".join(str(error).split())]
        sys.stderr.writelines(f"lowshot: error: {line}\n" for line in lines)
        return error.exit_status
    except Terminated:
        sys.stderr.write("lowshot: terminated\n")
        return 128 + signal.SIGTERM
    except KeyboardInterrupt:
        sys.stderr.write("lowshot: interrupted\n")
        return 128 + signal.SIGINT
    except BrokenPipeError:  # the reader of our output, such as head, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:  # the disk is full, a file went away: not the user's mistake, and no traceback either
        sys.stderr.write(f"lowshot: error: {error}\n")
        return 1
