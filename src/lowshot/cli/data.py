"""The command ``lowshot data``: list, prepare, check, draw."""

from __future__ import annotations

import collections
import dataclasses
import functools
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from ..errors import InputError, LowshotError, RunError, UnknownNameError
from ..progress import shown
from ..settings import DataConfig, Recipe, TrainingConfig
from .arguments import parse, print_json, warn

if TYPE_CHECKING:
    from ..data import Checked, Task
    from ..data.catalogue import DataSet

_Root = Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")]


@dataclasses.dataclass(frozen=True)
class List:
    """The data sets of the catalogue: which are installed, which are incomplete and in what, which are absent."""

    root: _Root = None
    """Folder that holds the data sets; else the one that the environment variable LOWSHOT_DATA names."""
    json: bool = False
    """Print `[{name, title, classes, train, validation, test, state, images, missing, template, licence, homepage}]`"""


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


@dataclasses.dataclass(frozen=True)
class Draw:
    """Which images a fit would learn from, without a fit: how many of each class, their hash, and their names."""

    data: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
    """A data set of the catalogue, or anything else that `lowshot fit` takes."""
    shots: int | None = None
    """Images per class; all of them if not given."""
    seed: int = TrainingConfig.seed
    """Which of a rule's draws."""
    draw: str = DataConfig.draw
    """`lowshot`, `coop`, `clip-lora`, a file `.jsonl`, or the folder of an adapter; as for `lowshot fit`."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """File to list the images in, for `lowshot fit --draw FILE`; must not exist yet."""
    root: _Root = None
    """Folder that holds the data sets; else the one that the environment variable LOWSHOT_DATA names."""
    json: bool = False
    """Print `{data, draw, seed, shots, images, classes, sha256}`, `classes` with the number of images of each."""


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
    print(f"{'name':<16} {'classes':>7} {'train':>10} {'validation':>10} {'test':>7}  state")
    for row in rows:
        counts = (f"{row[split]:,}" if row[split] else "-" for split in ("train", "validation", "test"))
        train, validation, test = counts
        print(f"{row['name']:<16} {row['classes']:>7,} {train:>10} {validation:>10} {test:>7}  {_where(row)}")
    if root is None:
        print(f"\nnothing was looked for: give --root FOLDER or set {ROOT_VARIABLE}")
    if any(row["state"] == "incomplete" for row in rows):
        print("\nlowshot data prepare NAME completes what is incomplete, or says what stands in its way")
    return 0


def _row(data_set: DataSet, root: Path | None) -> dict[str, Any]:
    from ..data.catalogue import state_of

    state = state_of(data_set, root) if root else None
    return {
        "name": data_set.name,
        "title": data_set.title,
        "classes": data_set.classes,
        **dataclasses.asdict(data_set.sizes),
        "state": state.name if state else None,
        "images": str(state.place.images) if state and state.place else None,
        "missing": list(state.missing) if state else None,
        "template": data_set.template,
        "licence": data_set.licence,
        "homepage": data_set.homepage,
    }


def _where(row: dict[str, Any]) -> str:
    images = [row["images"]] if row["images"] else []
    return "; ".join([": ".join([row["state"] or "-", *images]), *(row["missing"] or ())])


# -- prepare ----------------------------------------------------------------------------------------------------------


def _prepare(parsed: Prepare) -> int:
    from ..data.catalogue import data_set
    from ..data.catalogue.preparing import prepare

    if not parsed.names:
        raise InputError("no data set is named; expected one or more (lowshot data list has them)")
    for name in parsed.names:
        data_set(name)  # refuses a misspelt one before hours are spent on those before it
    said = functools.partial(print, file=sys.stderr if parsed.json else None, flush=True)
    tasks, failed = [], {}
    for name in parsed.names:
        warned: list[str] = []
        try:
            task = prepare(name, parsed.root, parsed.archives, say=said, warn=warned, track=shown)
        except LowshotError as error:
            if len(parsed.names) == 1:
                raise
            failed[name] = error  # the others may go well
            continue
        finally:
            warn(warned)
        tasks.append({"name": name, "classes": len(task.class_names), **_sizes(task)})
        root = [] if parsed.root is None else ["--root", str(parsed.root)]
        said(f"{name} is installed: {_counts(task)}; next: {shlex.join(['lowshot', 'data', 'check', name, *root])}")
    if parsed.json:
        print_json(tasks)
    if failed:
        raise RunError("; ".join(f"{name} is not installed: {error}" for name, error in failed.items()))
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
    return {name: len(examples) for name, examples in task.splits().items()}


def _counts(task: Task) -> str:
    sizes = _sizes(task)
    splits = ", ".join(f"{count:,} in {split}" for split, count in sizes.items() if count)
    return f"{sum(sizes.values()):,} images of {len(task.class_names):,} classes ({splits})"


def _report(task: Task, found: Checked, sizes: Sequence[str]) -> list[str]:
    lists = {"missing": found.missing, "corrupt": found.corrupt, "size": sizes, "copies": found.copies}
    lines = [f"{kind}: {line}" for kind, entries in lists.items() for line in entries]
    counts = f"{len(found.missing):,} missing, {len(found.corrupt):,} corrupt, {len(found.copies):,} more than once"
    return [*lines, f"{task.name}: {_counts(task)}: {counts}"]


# -- draw --------------------------------------------------------------------------------------------------------------


def _draw(parsed: Draw) -> int:
    from ..data import draw_from, draw_sha256, load_task, write_draw

    Recipe().replace(shots=parsed.shots, seed=parsed.seed, draw=parsed.draw)  # refuses what a fit would
    said: list[str] = []
    task = load_task(parsed.data, warn=said, root=parsed.root)
    drawn = draw_from(task, parsed.shots, parsed.seed, parsed.draw)
    warn([*said, *drawn.warnings(task.class_names)])
    of_label = collections.Counter(task.train.labels[drawn.indices].tolist())
    counts = {name: of_label[label] for label, name in enumerate(task.class_names)}
    sha256 = draw_sha256([task.train.identities[index] for index in drawn.indices])
    if parsed.out is not None:
        write_draw(parsed.out, task, drawn)
    if parsed.json:
        asked = {"data": parsed.data, "draw": parsed.draw, "seed": parsed.seed, "shots": drawn.shots}
        print_json({**asked, "images": len(drawn.indices), "classes": counts, "sha256": sha256})
    else:
        print("\n".join(_drawn_said(task, counts, sha256)))
        if parsed.out is not None:
            root = [] if parsed.root is None else ["--root", str(parsed.root)]
            fit = shlex.join(["lowshot", "fit", parsed.data, *root, "--draw", str(parsed.out), "--out", "adapter"])
            print(f"listed in {parsed.out}; next: {fit}")
    return 0


def _drawn_said(task: Task, counts: dict[str, int], sha256: str) -> list[str]:
    """One line for all classes if they have equally many images, else one for each."""
    sizes = set(counts.values())
    each = f", {min(sizes):,} of each" if len(sizes) == 1 else ""
    head = f"{task.name}: {sum(counts.values()):,} images of {len(counts):,} classes{each}"
    lines = [] if each else [f"{count:>9,}  {name}" for name, count in counts.items()]
    return [head, *lines, f"sha256 {sha256}"]


ACTIONS: dict[str, tuple[type, Callable[[Any], int]]] = {
    "list": (List, _list),
    "prepare": (Prepare, _prepare),
    "check": (Check, _check),
    "draw": (Draw, _draw),
}
"""Action -> its arguments, and what does it."""
