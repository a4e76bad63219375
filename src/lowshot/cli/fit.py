"""The command ``lowshot fit``."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from ..config import Recipe
from ..errors import DataError, RunError
from ..files import refuse_existing
from ..methods import display_name
from ..progress import shown, silent
from .arguments import parse_with_recipe, print_json, warn

if TYPE_CHECKING:
    from ..classifier import FewShotClassifier
    from ..data import Task


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Learn classes from a few images each, and save the adapter."""

    data: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
    """A built-in task, a data set of the catalogue, a folder (`<class>/*` or `{train,val,test}/<class>/*`), a table
    (CSV, JSONL, Parquet), tar shards, or `hf:ID`."""
    out: Path
    """Folder for the adapter; must not exist yet."""
    preset: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Where settings come from that are not given: `paper` or `builtin` (the default for the built-in model)."""
    recipe: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """TOML file with settings; they win over the preset, flags win over them."""
    json: bool = False
    """Print the record as JSON."""
    settings: Annotated[Recipe, tyro.conf.arg(name="")] = dataclasses.field(default_factory=Recipe)


def run(arguments: Sequence[str]) -> int:
    """Fit, evaluate on what was held back, save, say."""
    parsed = parse_with_recipe(Arguments, "fit", arguments)
    refuse_existing(parsed.out)
    from ..classifier import FewShotClassifier
    from ..training.processes import is_first_process

    classifier = FewShotClassifier.from_recipe(parsed.settings)
    checkpoint = parsed.out.with_name(f"{parsed.out.name}.training.safetensors")
    try:
        task = classifier.task(parsed.data)
        _fit(classifier, task, checkpoint)
        if not is_first_process():
            return 0
        try:
            classifier.evaluate(task, track=shown)
        except DataError as error:
            classifier.warnings_.append(f"accuracy not measured: {error}")
        finally:  # whatever happens while measuring, what was learnt is kept
            classifier.save_pretrained(parsed.out)
            checkpoint.unlink(missing_ok=True)
    finally:  # where it failed, what was left out may be the reason
        warn(classifier.warnings_)
    record = classifier.record_.to_dict()
    if parsed.json:
        print_json(record)
    else:
        print(_said(record, parsed.out))
    if record["stopped"]:
        raise RunError(f"{record['stopped']}; {parsed.out} has the weights of step {record['steps']}")
    return 0


def _fit(classifier: FewShotClassifier, task: Task, checkpoint: Path) -> None:
    """Train; what stops early leaves its last good weights, what is interrupted its state."""
    from ..training.processes import is_first_process

    first = is_first_process()
    if first and checkpoint.exists():
        sys.stderr.write(f"lowshot: going on from {checkpoint}\n")
    try:
        classifier.fit(task, checkpoint=checkpoint, track=shown if first else silent)
    except RunError:
        if not classifier.is_fitted:
            raise
    except KeyboardInterrupt:
        if first and checkpoint.exists():
            sys.stderr.write(f"lowshot: the state of training is in {checkpoint}: the same command goes on from it\n")
        raise


def _said(record: dict[str, Any], out: Path) -> str:
    name = display_name(record["method"], record["quantize"])
    learnt = f"{len(record['draw'])} images of {len(record['classes'])} classes"
    cost = f"{record['trainable_parameters']:,} parameters, {record['steps']} steps, {record['train_seconds']:.1f} s"
    lines = [f"{name} learnt {learnt} from {record['task']}: {cost}"]
    metrics = record["metrics"]
    if metrics:
        kind = "the test split" if metrics["split"] == "test" else "images it has not learnt from"
        lines.append(f"accuracy {metrics['accuracy']:.1%} on {metrics['images']} images: {kind}")
    lines.append(
        f"saved to {out} ({record['adapter_bytes'] / 1000:.1f} KB of adapter); next: lowshot predict {out} IMAGE..."
    )
    return "\n".join(lines)
