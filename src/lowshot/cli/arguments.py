"""Arguments that several commands have, and the checks that they share."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import tyro

from ..errors import InputError, MissingExtraError
from ..settings import PRESETS
from .printing import warned

_SERVER_PACKAGES = {"fastapi": "fastapi", "uvicorn": "uvicorn", "python_multipart": "python-multipart"}

AdapterFolder: TypeAlias = Annotated[
    Path, tyro.conf.Positional, tyro.conf.arg(metavar="ADAPTER", help="Folder written by `lowshot fit`.")
]
RecipeFile: TypeAlias = Annotated[
    Path | None,
    tyro.conf.arg(metavar="FILE", help="TOML file with settings; they win over the preset, flags win over them."),
]


@dataclasses.dataclass(frozen=True)
class SplitFolders:
    """A folder or a table for each split, in place of DATA; folders in a folder are classes, whatever their names."""

    train: Annotated[Path | None, tyro.conf.arg(metavar="PATH")] = None
    """Folder with a folder of images per class, or a table (CSV, JSONL, Parquet), to learn from, in place of DATA."""
    validation: Annotated[Path | None, tyro.conf.arg(metavar="PATH")] = None
    """The same for the validation split."""
    test: Annotated[Path | None, tyro.conf.arg(metavar="PATH")] = None
    """The same for the test split."""

    def source(self, command: str, data: str) -> str | dict[str, Path]:
        """The source of the command's images: DATA, or the folder or table of each split.

        Args:
            command: The command, for messages.
            data: DATA; empty if it is not given.

        Raises:
            InputError: Neither DATA nor a train folder is given, or both.
        """
        folders = {split: folder for split, folder in vars(self).items() if folder is not None}
        if not folders and data:
            return data
        if data:
            given = ", ".join(f"--{split}" for split in folders)
            raise InputError(f"DATA is {data!r} and {given} is given too; expected one of the two")
        if "train" not in folders:
            raise InputError(f"{command} needs DATA, or --train with a folder of images per class or a table")
        return folders


@dataclasses.dataclass(frozen=True)
class OpenedOn:
    """The model and device with which a saved adapter is opened."""

    model: Annotated[str | None, tyro.conf.arg(metavar="MODEL")] = None
    """Where the adapter's backbone is now, if not where it was: a folder or a Hub id."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:N`, or `mps`, the GPU of a Mac."""


@dataclasses.dataclass(frozen=True)
class OpenedAs(OpenedOn):
    """The model, device and precision with which a saved adapter is opened."""

    precision: Annotated[Literal["fp32", "bf16", "fp16"] | None, tyro.conf.arg(metavar="TYPE")] = None
    """Compute in `fp32`, `bf16` or `fp16`, if not as the adapter was trained: most CPUs are fast in fp32 alone."""


def source_named(source: str | dict[str, Path]) -> str | dict[str, str]:
    """The source of a command's images, in values of JSON."""
    return source if isinstance(source, str) else {split: str(folder) for split, folder in source.items()}


def source_arguments(source: str | dict[str, Path]) -> list[str]:
    """The arguments that give a source to another command."""
    if isinstance(source, str):
        return [source]
    return [word for split, folder in source.items() for word in (f"--{split}", str(folder))]


PresetName: TypeAlias = Annotated[
    str | None,
    tyro.conf.arg(
        metavar="NAME",
        help=f"Where settings come from that are not given: {', '.join(PRESETS)}. "
        "For the built-in model builtin is the default, for others paper.",
    ),
]


def refuse_below(least: int, **counts: int | None) -> None:
    """Refuse counts that are too small; None is one that is not given.

    Raises:
        InputError: One is, which is named as its flag is.
    """
    for name, count in counts.items():
        if count is not None and count < least:
            raise InputError(f"{name} is {count}; expected {least} or more")


def the_given(arguments: object, *flags: str) -> str | None:
    """The one of these flags that is given; None where none is.

    Raises:
        InputError: Several are.
    """
    given = [flag for flag in flags if getattr(arguments, flag)]
    if len(given) > 1:
        raise InputError(f"--{' and --'.join(given)} are given; expected one of them")
    return given[0] if given else None


def refuse_two_formats(format: str, *, json: bool) -> None:  # noqa: A002 - the flag's own word
    """Refuse a format beside ``--json``, which is one.

    Raises:
        InputError: Another than JSON is given.
    """
    if json and format not in ("text", "json"):
        raise InputError(f"format is {format}, and --json is given too; leave one out")


def refuse_without_server(asker: str) -> None:
    """Refuse to serve a page where packages for it are not installed.

    Args:
        asker: The command, with the flag that asks for a page.

    Raises:
        MissingExtraError: One is not.
    """
    for module, package in _SERVER_PACKAGES.items():
        if importlib.util.find_spec(module) is None:
            raise MissingExtraError(package, "serve", asker)


def refuse_no_image(path: Path) -> None:
    """Refuse the path of an image where there is no file; whether it is an image is seen when it is read.

    Raises:
        InputError: There is none.
    """
    if not path.is_file():
        raise InputError(f"image {path} {'is not a file' if path.exists() else 'does not exist'}")


def images_in(folder: Path) -> list[Path]:
    """The image files below a folder, at any depth; warns of other files in it."""
    from ..data import images_below

    with warned([]) as warnings:
        return images_below(folder, warnings)
