"""The command ``lowshot evaluate``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from ..progress import shown
from .arguments import parse, print_json, warn


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Accuracy of a saved adapter, on images it has not learnt from."""

    adapter: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="ADAPTER")]
    """Folder written by `lowshot fit`."""
    data: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
    """A built-in task, a data set of the catalogue, a folder or a table, with the adapter's classes; its test split
    counts if it has one."""
    root: Annotated[str | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Folder that holds the data sets of the catalogue, if not where it was; else the one that LOWSHOT_DATA names."""
    model: Annotated[str | None, tyro.conf.arg(metavar="MODEL")] = None
    """Where the adapter's backbone is now, if not where it was: a folder or a Hub id."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda` or `cuda:N`."""
    json: bool = False
    """Print `accuracy` (a fraction), `images` and `split` as JSON."""


def run(arguments: Sequence[str]) -> int:
    """Evaluate and print."""
    parsed = parse(Arguments, "evaluate", arguments)
    from ..classifier import saved_adapter

    classifier = saved_adapter(parsed.adapter, model=parsed.model, device=parsed.device, root=parsed.root)
    metrics = classifier.evaluate(parsed.data, track=shown)
    warn(classifier.warnings_)
    if parsed.json:
        print_json({"adapter": str(parsed.adapter), "data": parsed.data, **metrics})
    else:
        print(f"accuracy {metrics['accuracy']:.1%} on {metrics['images']} images ({metrics['split']})")
    return 0
