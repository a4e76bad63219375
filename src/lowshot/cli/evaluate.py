"""The command ``lowshot evaluate``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from ..errors import InputError
from ..progress import shown
from .arguments import SplitFolders, parse, print_json, source_named, warn


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Accuracy of a saved adapter, on images it has not learnt from."""

    adapter: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="ADAPTER")]
    """Folder written by `lowshot fit`."""
    data: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")] = ""
    """A built-in task, a data set of the catalogue, a folder or a table, with the classes that the adapter was fitted
    on (under base-to-new all of them, the new ones too); its test split counts if it has one."""
    folders: SplitFolders = dataclasses.field(default_factory=SplitFolders)
    new_classes: bool = False
    """Judge DATA in its own classes instead, whichever they are: by prompts of their names."""
    targets: tuple[str, ...] = ()
    """Data sets to judge the adapter of a transfer on as well, if not those that it was fitted with."""
    root: Annotated[str | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Folder that holds the data sets of the catalogue, if not where it was; else the one that LOWSHOT_DATA names."""
    on_bad_image: Literal["error", "skip", "error-damaged", "skip-damaged"] | None = None
    """An image that cannot be read: stop, or leave it out and say so; or do so with damaged ones too; if not as the
    adapter was fitted."""
    model: Annotated[str | None, tyro.conf.arg(metavar="MODEL")] = None
    """Where the adapter's backbone is now, if not where it was: a folder or a Hub id."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda` or `cuda:N`."""
    coverage: Annotated[float | None, tyro.conf.arg(metavar="SHARE")] = None
    """Judge sets of classes too, which are to hold the true class of this share of images, such as 0.9: how many do,
    and how large they are. Of an adapter fitted with `--calibration-folds`."""
    json: bool = False
    """Print all measures as JSON, `acc1` first: fractions and plain numbers."""


def run(arguments: Sequence[str]) -> int:
    """Evaluate and print."""
    parsed = parse(Arguments, "evaluate", arguments)
    source = parsed.folders.source("evaluate", parsed.data)
    if parsed.new_classes and parsed.targets:
        raise InputError("new-classes judges DATA alone; leave targets out, or leave out new-classes")
    from ..classifier import saved_adapter

    where: dict[str, Any] = {"model": parsed.model, "device": parsed.device, "root": parsed.root}
    judged = {"targets": parsed.targets or None, "on_bad_image": parsed.on_bad_image}
    classifier = saved_adapter(parsed.adapter, **where, **judged)
    try:
        metrics = classifier.evaluate(source, new_classes=parsed.new_classes, coverage=parsed.coverage, track=shown)
    finally:  # where it failed, what was left out may be the reason
        warn(classifier.warnings_)
    if parsed.json:
        print_json({"adapter": str(parsed.adapter), "data": source_named(source), **metrics})
        return 0
    from ..wording.protocols import protocol_table
    from ..wording.quantities import accuracy_line

    print(accuracy_line(metrics))
    print(
        f"mean class recall {100 * metrics['mean_class_recall']:.1f} %, "
        f"calibration error {100 * metrics['ece']:.1f} %, "
        f"negative log-likelihood {metrics['nll']:.3f}, Brier score {metrics['brier']:.3f}"
    )
    if sets := metrics.get("sets"):
        print(
            f"sets at {100 * sets['coverage']:g} % hold the true class of {100 * sets['covered']:.1f} % of the images; "
            f"they have {sets['mean_set_size']:.2f} classes on average"
        )
    if metrics.get("others"):
        print(f"\n{protocol_table(classifier.record_.task, metrics)}")
    return 0
