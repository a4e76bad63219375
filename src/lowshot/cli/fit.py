"""The command ``lowshot fit``."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import tyro

from ..errors import DataError, ImageError, LowshotError, RunError
from ..files import canonical_json, claimed, refuse_existing, remove, write_text
from ..methods import display_name
from ..progress import Track, is_quiet, shown, silent
from ..settings import Recipe, changes_of
from .arguments import PresetName, RecipeFile, SplitFolders, source_arguments, source_named
from .parsing import names_model, parse_with_recipe
from .printing import note, print_json, warn
from .states import beside, furthest, interruption_told

if TYPE_CHECKING:
    from ..classifier import FewShotClassifier
    from ..data import Task


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Learn classes from a few images each, and save the adapter."""

    out: Path
    """Folder for the adapter; must not exist yet."""
    data: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")] = ""
    """A built-in task, a data set of the catalogue, a folder (`<class>/*` or `{train,val,test}/<class>/*`), a table
    (CSV, JSONL, Parquet), tar shards, or `hf:ID`."""
    folders: SplitFolders = dataclasses.field(default_factory=SplitFolders)
    preset: PresetName = None
    recipe: RecipeFile = None
    json: bool = False
    """Print the record as JSON."""
    settings: Annotated[Recipe, tyro.conf.arg(name="")] = dataclasses.field(default_factory=Recipe)


def run(arguments: Sequence[str]) -> int:
    """Fit, evaluate on what was held back, save, say."""
    parsed = parse_with_recipe(Arguments, "fit", arguments, chooses=True)
    suited = (
        None
        if names_model(arguments)
        else lambda model: parse_with_recipe(Arguments, "fit", [*arguments, "--model", model], chooses=True)
    )
    source = parsed.folders.source("fit", parsed.data)
    unjudged = _Unjudged(parsed.out, canonical_json([source_named(source), parsed.settings.to_dict()]))
    if not unjudged.is_there():
        refuse_existing(parsed.out)
    from ..training.processes import is_first_process

    if not is_first_process():
        if not unjudged.is_there():  # the first process writes what all of them train
            from ..classifier import FewShotClassifier

            classifier = FewShotClassifier.from_recipe(parsed.settings)
            task = classifier.task(source)
            classifier = _on_suited_model(classifier, task, suited)
            _fit(classifier, task, _states(classifier, parsed.out), silent)
        return 0
    if parsed.preset is not None and not is_quiet() and (changes := changes_of(parsed.preset, parsed.settings)):
        texts = (f"{name.replace('_', '-')} {value} (not {paper})" for name, (value, paper) in changes.items())
        note(f"preset {parsed.preset}: {', '.join(texts)}")
    with claimed(parsed.out):
        record = _learnt_and_judged(parsed, source, unjudged, suited)
    if parsed.json:
        print_json(record)
    elif not is_quiet():
        print("\n".join(_summary(record, parsed.out)))
    if record["stopped"]:
        raise RunError(f"{record['stopped']}; {parsed.out} has the weights of step {record['steps']}")
    return 0


@dataclasses.dataclass(frozen=True)
class _Unjudged:
    """A note beside an adapter whose command was interrupted while it judged it.

    Args:
        out: The adapter's folder.
        command: What was asked for.
    """

    out: Path
    command: str

    @property
    def path(self) -> Path:
        """The note's file."""
        return beside(self.out, "unjudged.json")

    def is_there(self) -> bool:
        """Tell whether this very command has left it."""
        if not (self.out.is_dir() and self.path.is_file()):
            return False
        return self.path.read_bytes() == self.command.encode("utf-8", "backslashreplace")  # as ``write_text`` does


_Suited: TypeAlias = Callable[[str], Arguments] | None
"""Gives the same arguments with a model; None where they name one themselves."""


def _on_suited_model(classifier: FewShotClassifier, task: Task, suited: _Suited) -> FewShotClassifier:
    """The classifier, or one on the model that suits the task's images where the arguments name none."""
    from ..classifier import FewShotClassifier

    model = classifier.recipe.model.model if suited is None else classifier.default_model(task)
    if suited is None or model == classifier.recipe.model.model:
        return classifier
    note(
        f"photographs, and no --model: took {model} (EfficientNet-Lite0, trained on ImageNet; it reads no class "
        "names). A CLIP, which does, is 600 MB from the Hub: --model openai/clip-vit-base-patch16"
    )
    other = FewShotClassifier.from_recipe(suited(model).settings)
    other.warnings_.extend(classifier.warnings_)
    return other


def _learnt_and_judged(
    parsed: Arguments, source: str | dict[str, Path], unjudged: _Unjudged, suited: _Suited
) -> dict[str, Any]:
    """Learn, judge and save, or judge alone where that is what is left of this command; returns the record."""
    from ..classifier import FewShotClassifier, saved_adapter

    is_learnt = unjudged.is_there()  # asked once more: another process may have been at it until now
    if is_learnt:
        note(f"{parsed.out} is learnt: what is left is to judge it")
        classifier = saved_adapter(parsed.out, device=parsed.settings.model.device)
    else:
        refuse_existing(parsed.out)
        classifier = FewShotClassifier.from_recipe(parsed.settings)
    states = _states(classifier, parsed.out)
    try:
        task = classifier.task(source)
        if not is_learnt:
            classifier = _on_suited_model(classifier, task, suited)
            _fit(classifier, task, states, shown)
        try:
            _judge(classifier, task, ["lowshot", "evaluate", str(parsed.out), *source_arguments(source)])
        except KeyboardInterrupt:
            write_text(unjudged.path, unjudged.command)
            note(f"{parsed.out} has what was learnt: the same command judges it")
            raise
        else:
            remove(unjudged.path)
        finally:  # whatever happens while judging, what was learnt is kept
            if is_learnt:
                classifier.write_record(parsed.out)
            else:
                classifier.save_pretrained(parsed.out)
            for state in states:
                remove(state)
    finally:  # where it failed, what was left out may be the reason
        warn(classifier.warnings_)
    return classifier.record_.to_dict()


def _judge(classifier: FewShotClassifier, task: Task, again: Sequence[str]) -> None:
    """Measure the accuracy; where the images do not allow it, warn, with the command that would do it once more."""
    from ..data import skipping

    try:
        classifier.evaluate(task, track=shown)
    except DataError as error:
        measure = "accuracy of other classes" if classifier.record_.metrics else "accuracy"
        command = shlex.join([*again, "--on-bad-image", skipping(classifier.recipe.data.on_bad_image)])
        way_out = f"; to measure it on the others: {command}" if isinstance(error, ImageError) else ""
        classifier.warnings_.append(f"{measure} not measured: {error}{way_out}")
        return
    try:
        classifier.warnings_.extend(classifier.shortfalls(task))
    except (LowshotError, MemoryError, RuntimeError) as error:  # such as no memory for a second model
        classifier.warnings_.append(f"not compared with what is simpler: {error}")


def _states(classifier: FewShotClassifier, out: Path) -> list[Path]:
    """The files in which training keeps its state until its adapter is saved."""
    return classifier.training_states(beside(out, "training.safetensors"))


def _fit(classifier: FewShotClassifier, task: Task, states: Sequence[Path], track: Track) -> None:
    """Train; what stops early leaves its last good weights, what is interrupted its state."""
    from ..training.processes import is_first_process

    told = states if is_first_process() else ()
    if state := furthest(told):
        note(f"going on from {state}")
    try:
        with interruption_told(told):
            classifier.fit(task, checkpoint=states[-1], track=track)
    except RunError:
        if not classifier.is_fitted:
            raise


def _summary(record: dict[str, Any], out: Path) -> list[str]:
    """Lines on what was chosen and why, what was learnt at what cost, how well it does, and what comes next."""
    lines, choice = [], record["choice"]
    if tried := choice.get("tried"):
        judged = f"shots held out in {choice['folds']} folds" if choice["folds"] else "shots, by other crops of them"
        judged += ", how well their labels are ranked" if "presence" in record else ""
        lines.append(f"auto tried, on {tried[0]['images']} {judged}:")
        for trial in tried:
            accuracy = "-" if trial["acc1"] is None else f"{trial['acc1']:.1%}"
            remark = f"  {trial['said']}" if trial["said"] else ""
            lines.append(f"  {trial['method']:<12} {accuracy:>6}  {trial['seconds']:>6.1f} s{remark}")
    if choice:
        lines.append(f"it took {choice['method']}: {choice['why']}")
    name = display_name(record["recipe"]["method"]["method"], record["quantize"])
    learnt = f"{len(record['draw'])} images of {len(record['classes'])} classes"
    cost = f"{record['trainable_parameters']:,} parameters, {record['steps']} steps, {record['train_seconds']:.1f} s"
    lines.append(f"{name} learnt {learnt} from {record['task']}: {cost}")
    if record["metrics"].get("others"):
        from ..wording.protocols import protocol_table

        lines.append(protocol_table(record["task"], record["metrics"]))
    elif record["metrics"]:
        from ..wording.quantities import accuracy_line, labels_line

        lines.append(accuracy_line(record["metrics"]))
        if "map" in record["metrics"]:
            lines.append(labels_line(record["metrics"]))
    if calibration := record["calibration"]:
        folds = f", in {calibration['folds']} folds" if calibration["folds"] else ""
        held_out = f"{calibration['images']} images held out{folds}"
        lines.append(f"calibrated on {held_out}: temperature {calibration['temperature']:.3g}")
    if belonging := record.get("belonging"):
        lines.append(
            f"tells images of none of these: {belonging['reject']:.1%} of known ones may be turned away, by "
            f"{len(belonging['scores'])} images held out"
        )
    kilobytes = record["adapter_bytes"] / 1000
    return [*lines, f"saved to {out} ({kilobytes:.1f} KB of adapter); next: lowshot predict {out} IMAGE..."]
