"""The command ``lowshot evaluate``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from ..errors import InputError
from ..progress import shown
from .arguments import AdapterFolder, OpenedAs, SplitFolders, images_in, refuse_two_formats, source_named
from .parsing import parse
from .printing import print_csv, print_json, warned

_COLUMNS = (
    *("data", "split", "images", "classes", "acc1", "acc1_low", "acc1_high", "acc5", "mean_class_recall"),
    *("ece", "nll", "brier", "coverage", "covered", "mean_set_size"),
    *("auroc", "accepted_at_95", "turned_away", "known_turned_away"),
    *("map", "micro_f1", "macro_f1", "exact_match"),
)
"""Columns of CSV, always the same, so that files can be put together; a measure that was not taken is empty."""


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Accuracy of a saved adapter, on images it has not learnt from."""

    adapter: AdapterFolder
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
    opened: OpenedAs = dataclasses.field(default_factory=OpenedAs)
    coverage: Annotated[float | None, tyro.conf.arg(metavar="SHARE")] = None
    """Judge sets of classes too, which are to hold the true class of this share of images, such as 0.9: how many do,
    and how large they are. Of an adapter fitted with `--calibration-folds`."""
    guaranteed: bool = False
    """Judge the sets with a guarantee for the images of every class that `lowshot predict --guaranteed` makes."""
    format: Annotated[Literal["text", "csv", "json"], tyro.conf.arg(metavar="FORMAT")] = "text"
    """`text`; `csv`: a line for the classes that were learnt and one for each other label space, below a line with the
    names of the columns; `json`: all measures, those of each class too. Fractions and plain numbers."""
    unknown: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    """A folder of images of none of the classes, at any depth: how well they are told from those of DATA. Of an adapter
    fitted with `--reject`."""
    json: bool = False
    """The same as `--format json`."""

    def check(self) -> None:
        """See ``Checked``."""
        if self.new_classes and self.targets:
            raise InputError("new-classes judges DATA alone; leave targets out, or leave out new-classes")
        refuse_two_formats(self.format, json=self.json)


def run(arguments: Sequence[str]) -> int:
    """Evaluate and print."""
    parsed = parse(Arguments, "evaluate", arguments)
    source = parsed.folders.source("evaluate", parsed.data)
    folder = parsed.unknown
    if folder is not None and not folder.is_dir():
        raise InputError(f"unknown is {folder}, which {'is no folder' if folder.exists() else 'does not exist'}")
    from ..classifier import saved_adapter

    overrides = {"root": parsed.root, "targets": parsed.targets or None, "on_bad_image": parsed.on_bad_image}
    classifier = saved_adapter(parsed.adapter, **vars(parsed.opened), **overrides)
    with warned(classifier.warnings_):
        metrics = classifier.evaluate(
            source,
            new_classes=parsed.new_classes,
            coverage=parsed.coverage,
            guaranteed=parsed.guaranteed,
            unknown=None if folder is None else images_in(folder),
            track=shown,
        )
    if parsed.json or parsed.format == "json":
        print_json({"adapter": str(parsed.adapter), "data": source_named(source), **metrics})
    elif parsed.format == "csv":
        data = source if isinstance(source, str) else str(source.get("test", source["train"]))
        rows = []
        for name, figures in {data: metrics, **metrics.get("others", {})}.items():
            low, high = figures.get("acc1_interval", ("", ""))
            apart = {**figures.get("unknown", {}), **figures.get("sets", {})}
            cells = {**apart, **figures, "data": name, "acc1_low": low, "acc1_high": high}
            rows.append([cells.get(column, "") for column in _COLUMNS])
        print_csv(_COLUMNS, rows)
    else:
        _print_text(classifier.record_.task, metrics)
    return 0


def _print_text(task: str, metrics: dict[str, Any]) -> None:
    """Print what a person wants to know."""
    from ..wording.protocols import protocol_table
    from ..wording.quantities import accuracy_line, labels_line, unknown_line

    print(accuracy_line(metrics))
    if "map" in metrics:
        print(labels_line(metrics))
        return
    print(
        f"mean class recall {100 * metrics['mean_class_recall']:.1f} %, "
        f"calibration error {100 * metrics['ece']:.1f} %, "
        f"negative log-likelihood {metrics['nll']:.3f}, Brier score {metrics['brier']:.3f}"
    )
    if sets := metrics.get("sets"):
        print(
            f"sets at {100 * sets['coverage']:g} % hold the true class of {100 * sets['covered']:.1f} % of the images, "
            f"{100 * sets['least_covered']:.1f} % in the class where they do least; they have "
            f"{sets['mean_set_size']:.2f} classes on average"
        )
    if told := metrics.get("unknown"):
        print(unknown_line(told))
    if metrics.get("others"):
        print(f"\n{protocol_table(task, metrics)}")
