"""The command ``lowshot data``: list, prepare, check."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from ..errors import InputError, UnknownNameError
from ..progress import shown
from .arguments import parse, print_json, warn

if TYPE_CHECKING:
    from ..data import Checked, Task
    from ..data.catalogue import DataSet

_Root = Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")]


@dataclasses.dataclass(frozen=True)
class List:
    """The data sets of the catalogue, and which of them are installed."""

    root: _Root = None
    """Folder that holds the data sets; else the one that the environment variable LOWSHOT_DATA names."""
    json: bool = False
    """Print a list of `{name, title, classes, train, validation, test, images, lacks, template, licence, homepage}`."""


@dataclasses.dataclass(frozen=True)
class Check:
    """Look at every image: is it there, can it be decoded, is it anywhere twice? Exit status 1 if not all is well."""

    data: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
    """A data set of the catalogue, or anything else that `lowshot fit` takes."""
    root: _Root = None
    """Folder that holds the data sets; else the one that the environment variable LOWSHOT_DATA names."""
    json: bool = False
    """Print `{data, classes, train, validation, test, missing, corrupt, sizes, copies, ok}`."""


@dataclasses.dataclass(frozen=True)
class Prepare:
    """Install data sets: fetch what may be fetched, take the rest from archives you have, check and unpack it."""

    names: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="NAME")]
    """Data sets of the catalogue."""
    root: _Root = None
    """Folder that holds the data sets, made if need be; else the one that LOWSHOT_DATA names."""
    archives: Annotated[Path | None, tyro.conf.arg(name="from", metavar="FOLDER")] = None
    """Folder with files that you have already, under the names they are published by."""
    json: bool = False
    """Print a list of `{name, classes, train, validation, test}`."""


def run(arguments: Sequence[str]) -> int:
    """Do what the first argument says."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage())
        raise SystemExit(0)
    action, *rest = arguments
    if action not in ACTIONS:
        raise UnknownNameError("action of lowshot data", action, ACTIONS)
    kind, act = ACTIONS[action]
    return act(parse(kind, f"data {action}", rest))


def _usage() -> str:
    lines = [f"  {name:<8} {str(kind.__doc__).splitlines()[0]}" for name, (kind, _) in ACTIONS.items()]
    return "\n".join(
        ["usage: lowshot data ACTION [ARGUMENTS]", "", *lines, "", "lowshot data ACTION --help says more."]
    )


# -- list --------------------------------------------------------------------------------------------------------------


def _list(parsed: List) -> int:
    from ..data.catalogue import CATALOGUE, ROOT_VARIABLE, data_root

    root = data_root(parsed.root) if parsed.root or os.environ.get(ROOT_VARIABLE) else None
    rows = [_row(data_set, root) for data_set in CATALOGUE.values()]
    if parsed.json:
        print_json(rows)
        return 0
    print(f"{'name':<16} {'classes':>7} {'train':>10} {'validation':>10} {'test':>7}  where")
    for row in rows:
        counts = (f"{row[split]:,}" if row[split] else "-" for split in ("train", "validation", "test"))
        train, validation, test = counts
        print(f"{row['name']:<16} {row['classes']:>7,} {train:>10} {validation:>10} {test:>7}  {_where(row)}")
    if root is None:
        print(f"\nnothing was looked for: give --root FOLDER or set {ROOT_VARIABLE}")
    return 0


def _row(data_set: DataSet, root: Path | None) -> dict[str, Any]:
    from ..data.catalogue import find, lacks

    place = find(data_set, root) if root else None
    return {
        "name": data_set.name,
        "title": data_set.title,
        "classes": data_set.classes,
        **dataclasses.asdict(data_set.sizes),
        "images": str(place.images) if place else None,
        "lacks": lacks(data_set, place) if place else None,
        "template": data_set.template,
        "licence": data_set.licence,
        "homepage": data_set.homepage,
    }


def _where(row: dict[str, Any]) -> str:
    if row["images"] is None:
        return "-"
    return f"{row['images']}, but without {', '.join(row['lacks'])}" if row["lacks"] else str(row["images"])


# -- prepare ----------------------------------------------------------------------------------------------------------


def _prepare(parsed: Prepare) -> int:
    from ..data.catalogue import data_set
    from ..data.catalogue.preparing import prepare

    if not parsed.names:
        raise InputError("no data set is named; expected one or more (lowshot data list has them)")
    for name in parsed.names:
        data_set(name)  # refuses a misspelt one before hours are spent on those before it
    said: Callable[[str], None] = (lambda _: None) if parsed.json else functools.partial(print, flush=True)
    tasks = []
    for name in parsed.names:
        warned: list[str] = []
        try:
            task = prepare(name, parsed.root, parsed.archives, say=said, warn=warned, track=shown)
        finally:
            warn(warned)
        tasks.append({"name": name, "classes": len(task.class_names), **_sizes(task)})
        said(f"{name} is installed: {_counts(task)}; next: lowshot data check {name}")
    if parsed.json:
        print_json(tasks)
    return 0


# -- check -------------------------------------------------------------------------------------------------------------


def _check(parsed: Check) -> int:
    from ..data import CATALOGUE, check_images, load_task
    from ..data.catalogue import wrong_sizes

    said: list[str] = []
    task = load_task(parsed.data, "later", said, parsed.root)
    sizes = wrong_sizes(CATALOGUE[parsed.data], task) if parsed.data in CATALOGUE else []
    warn([line for line in said if line not in sizes])
    found = check_images(task, shown)
    well = not (found.missing or found.corrupt or sizes)
    if parsed.json:
        lists = {"missing": found.missing, "corrupt": found.corrupt, "sizes": sizes, "copies": found.copies}
        print_json({"data": parsed.data, "classes": len(task.class_names), **_sizes(task), **lists, "ok": well})
    else:
        print("\n".join(_report(task, found, sizes)))
    return 0 if well else 1


def _sizes(task: Task) -> dict[str, int]:
    splits = {"train": task.train, "validation": task.validation, "test": task.test}
    return {name: len(examples) for name, examples in splits.items() if examples is not None}


def _counts(task: Task) -> str:
    sizes = _sizes(task)
    splits = ", ".join(f"{count:,} in {split}" for split, count in sizes.items() if count)
    return f"{sum(sizes.values()):,} images of {len(task.class_names):,} classes ({splits})"


def _report(task: Task, found: Checked, sizes: Sequence[str]) -> list[str]:
    lists = {"missing": found.missing, "corrupt": found.corrupt, "size": sizes, "copies": found.copies}
    lines = [f"{kind}: {line}" for kind, entries in lists.items() for line in entries]
    counts = f"{len(found.missing):,} missing, {len(found.corrupt):,} corrupt, {len(found.copies):,} more than once"
    return [*lines, f"{task.name}: {_counts(task)}: {counts}"]


ACTIONS: dict[str, tuple[type, Callable[[Any], int]]] = {
    "list": (List, _list),
    "prepare": (Prepare, _prepare),
    "check": (Check, _check),
}
"""Action -> its arguments, and what does it."""
