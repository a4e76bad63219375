"""The command ``lowshot import``."""

# ruff: noqa: N999 - a command's module has its name, and nobody imports this one but ``cli`` itself, by that name
from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from ..errors import InputError
from ..settings import DataConfig
from .parsing import parse
from .printing import print_json, warn


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Turn an adapter that CLIP-LoRA (a .pt file) or PEFT (a folder) saved into an adapter folder."""

    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """What CLIP-LoRA's `--save_path` wrote, nothing in which is ever run, or the folder of PEFT's `save_pretrained`."""
    classes: Path
    """Text file, one class name per line, in the order of the labels it was trained with."""
    out: Path
    """Folder for the adapter; must not exist yet."""
    model: Annotated[str | None, tyro.conf.arg(metavar="MODEL")] = None
    """The backbone it was trained on, a Hub id or a folder: a file of CLIP-LoRA's does not say which; a folder of
    PEFT's may."""
    template: tuple[str, ...] = DataConfig.template
    """Prompt it was trained with, or several; `{}` stands for the class name."""
    json: bool = False
    """Print the record as JSON."""


def run(arguments: Sequence[str]) -> int:
    """Import and say what was found."""
    parsed = parse(Arguments, "import", arguments)
    from ..conversion import import_clip_lora, import_peft

    classes, template = parsed.classes, parsed.template
    if parsed.file.is_dir():
        record = import_peft(parsed.file, parsed.out, model=parsed.model, classes=classes, template=template)
    elif parsed.model is None:
        raise InputError("a file of CLIP-LoRA's does not say which model it was trained on: give it with --model")
    else:
        record = import_clip_lora(parsed.file, parsed.out, model=parsed.model, classes=classes, template=template)
    warn(["what it was trained on is unknown: measure it on a test split, not on the images it may have learnt from"])
    if parsed.json:
        print_json(record.to_dict())
        return 0
    method = record.recipe["method"]
    where = f"{'/'.join(method['projections'])} of {method['encoder']}, position {method['position']}"
    print(f"imported {record.method} of rank {method['rank']} on {where}: {record.trainable_parameters:,} parameters")
    print(f"saved to {parsed.out} for {len(record.classes)} classes; next: lowshot evaluate {parsed.out} DATA")
    return 0
