"""The command ``lowshot demo``."""

from __future__ import annotations

import dataclasses
import functools
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from ..errors import InputError, MissingExtraError
from ..extras import absent, install_command
from ..files import canonical_json, claimed, refuse_existing, write_text
from ..methods import ALIASES, PIXEL_REGRESSION, display_name, method_spec
from ..progress import is_quiet, shown
from ..records import RunRecord
from ..settings import default_preset
from .arguments import refuse_below
from .parsing import parse
from .printing import print_json, warn

if TYPE_CHECKING:
    from ..classifier import FewShotClassifier
    from ..data import Task

METHODS = ("zero-shot", PIXEL_REGRESSION, "lora", "lora-xs", "dora", "qlora")
METHODS_OF_PHOTOS = (PIXEL_REGRESSION, "nearest-mean", "linear-probe", "proker")
"""Methods that are compared on photographs: the model for them reads no class names, and has no blocks to adapt."""
RESULTS_FILE = "demo.json"
"""Marks a folder as the demo's own: it may be written again."""


@dataclasses.dataclass(frozen=True)
class Arguments:
    """The main job, offline: every method on one built-in task, beside logistic regression on raw pixels."""

    task: str = "digits"
    """A built-in task."""
    photos: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Photographs of your own in place of a task, by the model `photos`: a folder of images per class, or `train` and
    `test` with such folders."""
    methods: tuple[str, ...] = METHODS
    """What to compare. Of these six, what is not installed is left out; photographs have four of their own."""
    shots: tuple[int, ...] = (1, 4, 16)
    """Images per class."""
    seeds: tuple[int, ...] = (1, 2)
    """Each draws its own shots and trains anew."""
    threads: int = 1
    """CPU threads. The built-in model is so small that more only wait for each other when the machine is busy."""
    out: Path = Path("report")
    """Folder for the page, the records and one adapter; an earlier demo's is replaced."""
    json: bool = False
    """Print one JSON object with `rows`."""

    def check(self) -> None:
        """See ``Checked``."""
        for name in ("methods", "shots", "seeds"):
            if not getattr(self, name):
                raise InputError(f"{name} is empty; expected at least one")
        refuse_below(1, shots=min(self.shots), threads=self.threads)
        for method in set(self.methods) - {PIXEL_REGRESSION}:
            method_spec(method)  # refuses what is none


def run(arguments: Sequence[str]) -> int:
    """Show the main job, in a place that is nobody else's meanwhile."""
    parsed = parse(Arguments, "demo", arguments)
    if parsed.methods == METHODS and parsed.photos is not None:
        parsed = dataclasses.replace(parsed, methods=METHODS_OF_PHOTOS)
    elif parsed.methods == METHODS and absent("quantize"):
        left_out = ", ".join(method for method in METHODS if method in ALIASES)
        warn([f"{left_out} is left out: its base in 4 bits needs {install_command('quantize')}"])
        parsed = dataclasses.replace(parsed, methods=tuple(method for method in METHODS if method not in ALIASES))
    if absent("quantize") and (aliases := [method for method in parsed.methods if method in ALIASES]):
        raise MissingExtraError("bitsandbytes", "quantize", aliases[0])
    if not (parsed.out / RESULTS_FILE).exists():
        refuse_existing(parsed.out)
    with claimed(parsed.out):
        _show(parsed)
    return 0


def _show(parsed: Arguments) -> None:
    """Run the grid, show the table, write the report, predict with a saved adapter."""
    import torch

    from ..bench import demo
    from ..data import builtin_task, draw_from
    from ..models import PHOTOS, PHOTOS_PACKAGE, is_photos_installed
    from ..report.summary import format_table, summarize

    if parsed.photos is not None and not is_photos_installed():
        raise MissingExtraError(PHOTOS_PACKAGE, "photos", "the demo on photographs")
    torch.set_num_threads(parsed.threads)
    model = "builtin" if parsed.photos is None else PHOTOS
    grid = demo.cells(parsed.methods, parsed.shots, parsed.seeds)
    for cell in grid:
        demo.recipe_of(cell, model)  # refuses what is out of range before the first second is spent
    task = builtin_task(parsed.task) if parsed.photos is None else demo.photographs(parsed.photos, warn)
    for shots in sorted(set(parsed.shots)):
        if short := draw_from(task, shots, seed=0).short:
            warn([f"{len(short)} class(es) have fewer than {shots} images to learn from; all of theirs are used"])
    tell = functools.partial(print, file=sys.stderr if parsed.json else sys.stdout, flush=True)
    say: Callable[[str], None] = (lambda _line: None) if is_quiet() else tell
    started = time.monotonic()
    preset = default_preset(model)
    say(f"{task.name}: {task.summary}; {len(task.class_names)} classes; settings: preset {preset}\n")

    records, classifiers, candidates = [], [], demo.candidates(grid)
    for cell, record, classifier in demo.run(task, grid, model=model, track=shown):
        records.append(record)
        name = display_name(record.method, record.quantize)
        draw = f"{record.shots:>2} shots, seed {record.seed}" if record.shots else "nothing learnt"
        say(f"{name:<17} {draw:<16}  {record.metrics['acc1']:6.1%}  {record.train_seconds:5.1f} s")
        if classifier is not None and cell in candidates:
            classifiers.append(classifier)
    rows = summarize(records)
    tell("\n" + format_table(rows, style="text"))
    _write(parsed.out, task, records, demo.showcased(rows, classifiers), say)
    say(f"{time.monotonic() - started:.0f} s in all")
    if parsed.json:
        print_json({"task": task.name, "rows": [row.to_dict() for row in rows]})


def _write(
    out: Path,
    task: Task,
    records: Sequence[RunRecord],
    classifier: FewShotClassifier | None,
    say: Callable[[str], None],
) -> None:
    """Write the records, an adapter that is tried at once, and the page."""
    from ..bench import demo
    from ..report.page import write_report

    for leftover in ("index.html", RESULTS_FILE):  # an earlier demo's, and nothing else that lies there
        (out / leftover).unlink(missing_ok=True)
    shutil.rmtree(out / "adapter", ignore_errors=True)
    write_text(out / RESULTS_FILE, canonical_json({"records": [record.to_dict() for record in records]}))
    if classifier is not None:
        classifier.save_pretrained(out / "adapter")
        say(f"saved {out / 'adapter'}; of three test images it says:")
        for answer, truth in demo.three_predictions(out / "adapter", task):
            say(f"  {answer}" + ("" if answer == truth else f"  (wrong: it is {truth})"))
    showcase = demo.showcase(classifier, task) if classifier is not None else None
    say(f"report: {write_report(out, records, showcase, title=f'lowshot demo: {task.name}')}")
