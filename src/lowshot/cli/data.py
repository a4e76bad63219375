"""The command ``lowshot data``: list, prepare, check, draw."""

from __future__ import annotations

import dataclasses
import functools
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from ..errors import InputError, LowshotError, RunError, UnknownNameError
from ..progress import shown
from ..settings import DataConfig, Recipe, TrainingConfig
from .arguments import SplitFolders, source_arguments, source_named
from .parsing import parse
from .printing import print_json, warn, warned

if TYPE_CHECKING:
    from ..data import Task

_SPLITS = ("train", "validation", "test")
_Root = Annotated[
    Path | None,
    tyro.conf.arg(
        metavar="FOLDER",
        help="Folder that holds the data sets; else the one that the environment variable LOWSHOT_DATA names.",
    ),
]


@dataclasses.dataclass(frozen=True)
class _Labels:
    """The number of labels of an image, and how a table separates them."""

    labels_per_image: Literal["one", "several"] = DataConfig.labels_per_image
    """Whether an image is of `one` class, or may show `several` or none; as for `lowshot fit`."""
    label_delimiter: Annotated[str, tyro.conf.arg(metavar="STR")] = DataConfig.label_delimiter
    """What stands between two labels in a cell of a table."""

    @property
    def several(self) -> str | None:
        """The delimiter, where images have several labels; as ``data.load_task`` takes it."""
        return DataConfig(labels_per_image=self.labels_per_image, label_delimiter=self.label_delimiter).several


@dataclasses.dataclass(frozen=True)
class List:
    """The built-in tasks, and the catalogue's data sets: which are installed, incomplete and in what, or absent."""

    root: _Root = None
    json: bool = False
    """Print `[{name, title, classes, train, validation, test, state, images, missing, template, licence, homepage}]`;
    of built-in tasks name, title and state."""

    def act(self) -> int:
        """Print a line for each built-in task and each data set of the catalogue."""
        from ..data import EVERY_TASK
        from ..data.catalogue import CATALOGUE, ROOT_VARIABLE, data_root, state_of

        own = EVERY_TASK
        root = data_root(self.root) if self.root or os.environ.get(ROOT_VARIABLE) else None
        states = {name: state_of(data_set, root) if root else None for name, data_set in CATALOGUE.items()}
        if self.json:
            rows = [
                {
                    "name": name,
                    "title": CATALOGUE[name].title,
                    "classes": CATALOGUE[name].classes,
                    **dataclasses.asdict(CATALOGUE[name].sizes),
                    "state": state.name if state else None,
                    "images": str(state.place.images) if state and state.place else None,
                    "missing": list(state.missing) if state else None,
                    "template": CATALOGUE[name].template,
                    "licence": CATALOGUE[name].licence,
                    "homepage": CATALOGUE[name].homepage,
                }
                for name, state in states.items()
            ]
            builtin = [{"name": name, "title": title, "state": "built in"} for name, title in own.items()]
            print_json([*builtin, *rows])
            return 0
        for name, title in own.items():
            print(f"{name:<16} built in: {title}")
        print()
        print(f"{'name':<16} {'classes':>7} {'train':>10} {'validation':>10} {'test':>7}  state")
        for name, state in states.items():
            sizes = dataclasses.asdict(CATALOGUE[name].sizes)
            train, validation, test = (f"{sizes[split]:,}" if sizes[split] else "-" for split in _SPLITS)
            images = f": {state.place.images}" if state and state.place else ""
            where = "; ".join([f"{state.name}{images}", *state.missing]) if state else "-"
            print(f"{name:<16} {CATALOGUE[name].classes:>7,} {train:>10} {validation:>10} {test:>7}  {where}")
        if root is None:
            print(f"\nnothing was looked for: give --root FOLDER or set {ROOT_VARIABLE}")
        if any(state and state.name == "incomplete" for state in states.values()):
            print("\nlowshot data prepare NAME completes what is incomplete, or says what stands in its way")
        return 0


@dataclasses.dataclass(frozen=True)
class Check:
    """Look at every image: is it there, can it be decoded, is it anywhere twice? Exit status 1 if not all is well."""

    data: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")] = ""
    """A data set of the catalogue, or anything else that `lowshot fit` takes."""
    folders: SplitFolders = dataclasses.field(default_factory=SplitFolders)
    root: _Root = None
    labels: _Labels = dataclasses.field(default_factory=_Labels)
    json: bool = False
    """Print `{data, classes, train, validation, test, missing, corrupt, sizes, copies, damaged, ok}`."""

    def act(self) -> int:
        """Decode every image and print what is wrong."""
        from ..data import check_images
        from ..data.catalogue import CATALOGUE, wrong_sizes

        source = self.folders.source("data check", self.data)
        task, warnings = _loaded(source, "later", self.root, self.labels.several)
        sizes = wrong_sizes(CATALOGUE[self.data], task) if self.data in CATALOGUE else []
        warn([line for line in warnings if line not in sizes])
        checked = check_images(task, shown)
        missing, corrupt, copies, damaged = checked.missing, checked.corrupt, checked.copies, checked.damaged
        well = not (missing or corrupt or sizes)
        if self.json:
            lists = {"missing": missing, "corrupt": corrupt, "sizes": sizes, "copies": copies, "damaged": damaged}
            print_json(
                {"data": source_named(source), "classes": len(task.class_names), **_sizes(task), **lists, "ok": well}
            )
        else:
            lists = {"missing": missing, "corrupt": corrupt, "damaged": damaged, "size": sizes, "copies": copies}
            for kind, lines in lists.items():
                for line in lines:
                    print(f"{kind}: {line}")
            counts = f"{len(missing):,} missing, {len(corrupt):,} corrupt, {len(damaged):,} damaged, "
            counts += f"{len(copies):,} more than once"
            print(f"{task.name}: {_counts(task)}: {counts}")
        return 0 if well else 1


@dataclasses.dataclass(frozen=True)
class Prepare:
    """Install data sets: fetch what may be fetched, take the rest from archives you have, check and unpack it."""

    names: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="NAME")]
    """Data sets of the catalogue."""
    root: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Folder that holds the data sets, made if need be; else the one that LOWSHOT_DATA names."""
    archives: Annotated[Path | None, tyro.conf.arg(name="from", metavar="FOLDER")] = None
    """Folder with files that you have already, under the names they are published by."""
    json: bool = False
    """Print a list of `{name, classes, train, validation, test}`."""

    def act(self) -> int:
        """Install one data set after the other; one that fails does not keep the others."""
        from ..data.catalogue import data_set
        from ..data.catalogue.preparing import prepare

        if not self.names:
            raise InputError("no data set is named; expected one or more (lowshot data list has them)")
        for name in self.names:
            data_set(name)  # refuses a misspelt one before hours are spent on those before it
        say = functools.partial(print, file=sys.stderr if self.json else None, flush=True)
        installed, failed = [], {}
        for name in self.names:
            try:
                with warned([]) as warnings:
                    task = prepare(name, self.root, self.archives, say=say, warn=warnings, track=shown)
            except LowshotError as error:
                if len(self.names) == 1:
                    raise
                failed[name] = error
                continue
            installed.append({"name": name, "classes": len(task.class_names), **_sizes(task)})
            root = [] if self.root is None else ["--root", str(self.root)]
            say(f"{name} is installed: {_counts(task)}; next: {shlex.join(['lowshot', 'data', 'check', name, *root])}")
        if self.json:
            print_json(installed)
        if failed:
            raise RunError("; ".join(f"{name} is not installed: {error}" for name, error in failed.items()))
        return 0


@dataclasses.dataclass(frozen=True)
class Draw:
    """Which images a fit would learn from, without a fit: how many of each class, their hash, and their names."""

    data: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")] = ""
    """A data set of the catalogue, or anything else that `lowshot fit` takes."""
    folders: SplitFolders = dataclasses.field(default_factory=SplitFolders)
    shots: int | None = None
    """Images per class; all of them if not given."""
    seed: int = TrainingConfig.seed
    """Which of a rule's draws."""
    draw: str = DataConfig.draw
    """`lowshot`, `coop`, `clip-lora`, a file `.jsonl`, or the folder of an adapter; as for `lowshot fit`."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """File to list the images in, for `lowshot fit --draw FILE`; must not exist yet."""
    root: _Root = None
    labels: _Labels = dataclasses.field(default_factory=_Labels)
    json: bool = False
    """Print `{data, draw, seed, shots, images, classes, sha256}`, `classes` with the number of images of each."""

    def act(self) -> int:
        """Draw as a fit would, and print or list the images."""
        from ..data import draw_from, draw_sha256, write_draw

        Recipe().replace(shots=self.shots, seed=self.seed, draw=self.draw)  # refuses what a fit would
        source = self.folders.source("data draw", self.data)
        task, warnings = _loaded(source, "error", self.root, self.labels.several)
        drawn = draw_from(task, self.shots, self.seed, self.draw)
        warn([*warnings, *drawn.warnings(task.class_names)])
        numbers = task.train.subset(drawn.indices).counts(len(task.class_names)).tolist()
        counts = dict(zip(task.class_names, numbers, strict=True))
        sha256 = draw_sha256([task.train.identities[index] for index in drawn.indices])
        if self.out is not None:
            write_draw(self.out, task, drawn)
        if self.json:
            rule = {"data": source_named(source), "draw": self.draw, "seed": self.seed, "shots": drawn.shots}
            print_json({**rule, "images": len(drawn.indices), "classes": counts, "sha256": sha256})
            return 0
        equally_many = len(set(counts.values())) == 1
        each = f", {min(counts.values()):,} of each" if equally_many else ""
        print(f"{task.name}: {len(drawn.indices):,} images of {len(counts):,} classes{each}")
        for name, count in counts.items() if not equally_many else ():
            print(f"{count:>9,}  {name}")
        print(f"sha256 {sha256}")
        if self.out is not None:
            root = [] if self.root is None else ["--root", str(self.root)]
            drawn_from = [*source_arguments(source), *root, "--draw", str(self.out)]
            fit = shlex.join(["lowshot", "fit", *drawn_from, "--out", "adapter"])
            print(f"listed in {self.out}; next: {fit}")
        return 0


ACTIONS: dict[str, type[List | Prepare | Check | Draw]] = {
    "list": List,
    "prepare": Prepare,
    "check": Check,
    "draw": Draw,
}
"""Action -> its arguments, and what does it."""


def run(arguments: Sequence[str]) -> int:
    """Do what the first argument says."""
    if not arguments or arguments[0] in ("-h", "--help"):
        lines = [f"  {name:<8} {str(action.__doc__).splitlines()[0]}" for name, action in ACTIONS.items()]
        print("\n".join(["usage: lowshot data ACTION [ARGUMENTS]", "", *lines, ""]))
        print("lowshot data ACTION --help says more.")
        raise SystemExit(0)
    name, *rest = arguments
    if name not in ACTIONS:
        raise UnknownNameError("action of lowshot data", name, ACTIONS)
    return parse(ACTIONS[name], f"data {name}", rest).act()


def _loaded(
    source: str | dict[str, Path], on_bad_image: str, root: Path | None, several: str | None
) -> tuple[Task, list[str]]:
    """Return a task and what is to be known of it, which is written at once where it cannot be used."""
    from ..data import load_task

    warnings: list[str] = []
    try:
        return load_task(source, on_bad_image, warnings, root, several), warnings
    except LowshotError:
        warn(warnings)
        raise


def _sizes(task: Task) -> dict[str, int]:
    return {name: len(examples) for name, examples in task.splits().items()}


def _counts(task: Task) -> str:
    sizes = _sizes(task)
    splits = ", ".join(f"{count:,} in {split}" for split, count in sizes.items() if count)
    return f"{sum(sizes.values()):,} images of {len(task.class_names):,} classes ({splits})"
