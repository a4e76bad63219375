"""The command ``lowshot rename``."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Sequence
from typing import Annotated

import tyro

from .arguments import AdapterFolder
from .changing import Changed
from .parsing import parse


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Call a class of a saved adapter by another name; all that it answers stays.

    The model is not loaded. The class's prompts are those that it was taught with: to say something else of it, fit.
    """

    adapter: AdapterFolder
    old: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="OLD")]
    """Its name now."""
    new: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NEW")]
    """Its name from then on."""
    changed: Changed = dataclasses.field(default_factory=Changed)


def run(arguments: Sequence[str]) -> int:
    """Rename, save, say."""
    parsed = parse(Arguments, "rename", arguments)
    place = parsed.changed.place(parsed.adapter)
    from ..classifier import write_record
    from ..fitting import renamed
    from ..hub import adapter_folder
    from ..saved import read_record
    from ..serving.examples import carry_examples

    folder = adapter_folder(parsed.adapter)
    before = read_record(folder)
    record = renamed(before, parsed.old, parsed.new)
    with parsed.changed.written(parsed.adapter) as aside:
        for path in folder.iterdir():
            if path.is_file():
                shutil.copyfile(path, aside / path.name)
        write_record(aside, record)
        carry_examples(folder, aside, dict(zip(before.classes, record.classes, strict=True)))
    answer = {"classes": list(record.classes), "renamed": {parsed.old: parsed.new}}
    parsed.changed.tell(place, answer, f"{parsed.old} is called {parsed.new} now; saved to {place}")
    return 0
