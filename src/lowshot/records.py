"""Records of runs: one result with its provenance, as plain JSON. Reports are derived from these alone."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import functools
import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .errors import InputError
from .resizing import Resizing

RECORD_FILE = "lowshot.json"
"""The record in an adapter's folder."""
CARD_FILE = "README.md"
"""The card beside it, for people."""
TENSOR_FILES = (
    *("adapter_config.json", "adapter_model.safetensors", "classifier.safetensors"),
    *("lora_xs_basis.safetensors", "clip_svd_basis.safetensors", "belonging.safetensors"),
)
"""Files that may stand beside the record: what was learnt. Each method writes some of them."""
RECORD_FORMAT = 1
"""Changes when a field changes its meaning."""
_OF_A_CHOICE: Mapping[str, Any] = {"method": str, "why": str, "folds": int, "tried": list}
_OF_A_TRIAL: Mapping[str, Any] = {
    "method": str,
    "images": int,
    "acc1": float | int | None,
    "seconds": float | int,
    "said": str,
}
_ROOT = Path(__file__).resolve().parents[2]  # of the source tree, where lowshot runs from one
_PACKAGES = ("lowshot", "torch", "transformers", "peft", "bitsandbytes", "onnx", "numpy", "pillow", "scikit-learn")


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """One classifier: its settings, its cost, its measures. Accuracies are fractions in [0, 1]."""

    task: str
    """Name of the data."""
    method: str
    """Method that was asked for, or the name of a rival outside lowshot."""
    quantize: str
    """Precision of the frozen weights."""
    shots: int
    """Images per class; 0 where nothing was learnt from images."""
    seed: int
    recipe: Mapping[str, Any]
    """All settings (``Recipe.to_dict()``); empty for a rival."""
    classes: tuple[str, ...]
    """Class names in label order."""
    model: Mapping[str, Any]
    """Backbone: ``id``, ``revision`` and the hashes of ``lowshot.models.Identity``; empty for a rival."""
    draw: tuple[str, ...]
    """Identities of the images learnt from."""
    trainable_parameters: int
    total_parameters: int
    adapter_bytes: int
    """Size of the saved tensors; 0 where none are saved."""
    steps: int
    train_seconds: float
    """Wall time of training alone, without loading and evaluation."""
    peak_memory_bytes: int
    """Peak resident set of the process during training (CPU), or peak allocated on the device (CUDA)."""
    learnt: tuple[str, ...] = ()
    """Content hashes of the images learnt from or calibrated on: they never count as unseen, whatever their names."""
    prompts: tuple[tuple[str, ...], ...] = ()
    """The prompts of each class, in label order; empty for a rival."""
    final_loss: float | None = None
    """Mean training loss over the last tenth of the steps."""
    static_memory_bytes: int = 0
    """Part of the peak in use before the first step; training itself took the rest."""
    reserved_memory_bytes: int = 0
    """Most memory that the CUDA allocator held of the device; 0 on a CPU."""
    labels: tuple[str | int | float, ...] = ()
    """Labels by which callers know the classes, in order, where that is not their names: numbers, or truth values."""
    stopped: str = ""
    """Reason why training ended before its last step; empty where it did not."""
    choice: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """For ``auto``: the ``method`` it chose, which ``recipe`` is of, ``why``, the ``folds`` that shots were held out
    in, and every method that was ``tried`` with its figures; else empty."""
    chosen: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Hyper-parameters that no setting decided, but the shots or their number; see ``docs/concepts/rivals.md``."""
    metrics: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Measures: ``lowshot.evaluation.measures``, ``acc1`` first, or ``several_measures``, ``map`` first, where images
    have several labels; with ``images``, ``classes`` and ``split``; ``others`` has the same of what else the protocol
    judges, see ``lowshot.evaluation.with_others``."""
    evaluation_seconds: float = 0.0
    """Wall time of the judging that ``metrics`` come from, decoding the images included; 0 where there was none."""
    calibration: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """``lowshot.evaluation.Calibration`` as plain values; empty where none was asked for."""
    belonging: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """``lowshot.belonging.HeldOutBelonging`` as plain values: what tells images of none of the classes; empty where
    that was not learnt."""
    on_top: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """``lowshot.on_top.OnTop`` as plain values: the last classes are rows that were set on top of adapted towers; else
    empty."""
    presence: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """``lowshot.several_labels.Presence`` as plain values, where images have several labels; else empty."""
    provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Date, command, versions, hardware and commit, as ``provenance()`` gives them."""
    format: int = RECORD_FORMAT

    @property
    def method_used(self) -> str:
        """The method that learnt: for ``auto`` the one it chose."""
        return str(self.choice.get("method", self.method))

    @property
    def temperature(self) -> float:
        """The divisor of class scores before they are probabilities: 1 without a calibration."""
        return float(self.calibration.get("temperature", self.on_top.get("temperature", 1.0)))

    @property
    def score(self) -> float:
        """The accuracy of a run that was judged; where images have several labels the mean average precision."""
        return float(self.metrics["map" if self.has_several else "acc1"])

    @property
    def has_several(self) -> bool:
        """Whether its images have several labels each, or none."""
        return bool(self.presence)

    def refuse_several(self, what: str, instead: str) -> None:
        """Refuse what is not there for images of several labels.

        Args:
            what: It, as the beginning of a sentence.
            instead: The next step.

        Raises:
            InputError: This is a record of such.
        """
        if self.has_several:
            raise InputError(f"{what} knows images of one label, and this adapter's have several; {instead}")

    def of_classes(self, left: Sequence[int]) -> RunRecord:
        """The record with some of its classes alone, by their numbers, without what was told and measured of all."""
        return dataclasses.replace(
            self,
            classes=tuple(self.classes[label] for label in left),
            labels=tuple(self.labels[label] for label in left) if self.labels else (),
            prompts=tuple(self.prompts[label] for label in left),
            calibration={},
            belonging={},
            metrics={},
        )

    @property
    def reads_text(self) -> bool:
        """Whether its model has a text tower, which gives class vectors; all models had before it was recorded."""
        return bool(self.model.get("reads_text", True))

    @property
    def has_rows(self) -> bool:
        """Whether each class is a row of a classifier in a file beside an adapter of the towers, not its prompts."""
        return bool(self.on_top) or not self.reads_text

    @property
    def tower_classes(self) -> int:
        """How many of its classes the towers were taught: the first ones, before those on top."""
        return len(self.classes) - int(self.on_top.get("classes", 0))

    @property
    def taught_to_towers(self) -> tuple[str, ...]:
        """Identities of the images that the towers were taught with: without those of classes on top."""
        return self.draw[: max(0, len(self.draw) - int(self.on_top.get("images", 0)))]

    @property
    def resizing(self) -> Resizing | None:
        """How images were resized for its model; None in a record that is older than this entry."""
        return Resizing.of(self.model["resizing"]) if "resizing" in self.model else None

    @property
    def learning_seconds(self) -> float:
        """Wall time of training, and of all that ``auto`` tried before it."""
        tried = (float(trial["seconds"]) for trial in self.choice.get("tried", ()))
        return self.train_seconds + sum(tried)

    @property
    def training_memory_bytes(self) -> int:
        """Memory of training at its height, on top of what was there: weights, libraries."""
        return max(0, self.peak_memory_bytes - self.static_memory_bytes)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = dataclasses.asdict(self)
        if not self.labels:
            del values["labels"]  # a lowshot that does not know of labels refuses a record with them
        for name in ("belonging", "on_top", "presence"):
            if not values[name]:
                del values[name]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RunRecord:
        """Read what ``to_dict`` gave.

        Raises:
            InputError: A field is missing or unknown, or the record was written by a newer lowshot.
        """
        if values.get("format") != RECORD_FORMAT:
            raise InputError(f"record has format {values.get('format')!r}; this lowshot reads {RECORD_FORMAT}")
        fields = {field.name: field for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - set(fields))
        required = {n for n, f in fields.items() if f.default is f.default_factory is dataclasses.MISSING}
        missing = sorted(required - set(values))
        if unknown or missing:
            raise InputError(f"record lacks {missing} and has unknown {unknown}; expected the fields of a RunRecord")
        lists = {name: values.get(name, ()) for name in ("classes", "draw", "learnt")}
        for name, items in lists.items():
            if not isinstance(items, list | tuple) or not all(isinstance(item, str) for item in items):
                raise InputError(f"record's {name} is not a list of texts")
        for name in (name for name, field in fields.items() if str(field.type).startswith("Mapping")):
            if not isinstance(values.get(name, {}), Mapping):
                raise InputError(f"record's {name} is {values[name]!r}; expected an object")
        if values.get("choice") and not is_choice(values["choice"]):
            raise InputError(
                "record's choice is not one of method auto; expected method, why, folds and what was tried"
            )
        try:
            Resizing.of(values.get("model", {}).get("resizing", Resizing()))
        except ValueError as error:
            raise InputError(f"record's model is damaged: {error}") from None
        prompts = _prompts(values.get("prompts", ()), len(lists["classes"]))
        labels = _labels(values.get("labels", ()), len(lists["classes"]))
        texts = {name: tuple(items) for name, items in lists.items()}
        return cls(**{**values, **texts, "prompts": prompts, "labels": labels})


def is_choice(value: Any) -> bool:
    """Say whether a value has all that a model card and the command line tell of what ``auto`` chose."""
    return _has(value, _OF_A_CHOICE) and all(_has(trial, _OF_A_TRIAL) for trial in value["tried"])


def _has(value: Any, fields: Mapping[str, Any]) -> bool:
    return isinstance(value, Mapping) and all(n in value and isinstance(value[n], kind) for n, kind in fields.items())


def _prompts(values: Any, classes: int) -> tuple[tuple[str, ...], ...]:
    """One or more texts for each class, or nothing at all."""
    fits = isinstance(values, list | tuple) and len(values) in (0, classes)
    if not fits or not all(isinstance(prompts, list | tuple) and prompts for prompts in values):
        raise InputError("record's prompts is not a list with one or more texts for each class")
    if not all(isinstance(prompt, str) for prompts in values for prompt in prompts):
        raise InputError("record's prompts has something in it that is no text")
    return tuple(tuple(prompts) for prompts in values)


def _labels(values: Any, classes: int) -> tuple[str | int | float, ...]:
    """A label for each class, all of one type, or nothing at all."""
    fits = isinstance(values, list | tuple) and all(isinstance(value, str | int | float) for value in values)
    if not fits or len({type(value) for value in values}) > 1 or len(values) not in (0, classes):
        raise InputError("record's labels is not a list with a label for each class, all of one type")
    if len(set(values)) != len(values):
        raise InputError("record's labels has one twice")
    return tuple(values)


def provenance() -> dict[str, Any]:
    """Date, command, versions, hardware and commit of what is computed now.

    The command line is lowshot's alone: that of a program that merely uses the library is nobody's business.
    """
    program, command = Path(sys.argv[0]).resolve(), "(from Python)"
    if program.name == "lowshot" or program == Path(__file__).resolve().with_name("__main__.py"):
        command = shlex.join(["lowshot", *sys.argv[1:]])
    elif _ROOT in program.parents:
        command = shlex.join(["python", str(program.relative_to(_ROOT)), *sys.argv[1:]])
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "command": command.encode("utf-8", "backslashreplace").decode("utf-8"),  # file names may be other bytes
        **_environment(),
    }


@functools.cache
def _environment() -> dict[str, Any]:
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    torch, accelerator = sys.modules.get("torch"), None  # asking must not be what loads it
    if torch is not None and torch.cuda.is_available():
        accelerator = torch.cuda.get_device_name()
    elif torch is not None and torch.backends.mps.is_available():
        accelerator = "GPU of a Mac (MPS)"
    hardware = {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "accelerator": accelerator,
        "system": platform.platform(),
    }
    return {"versions": versions, "hardware": hardware, **_commit()}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _commit() -> dict[str, Any]:
    """Commit of the source tree lowshot runs from, and whether it was changed since; nulls for an installed package."""
    unknown = {"commit": None, "dirty": None}
    if not (_ROOT / ".git").exists():
        return unknown
    try:
        run = functools.partial(subprocess.run, cwd=_ROOT, capture_output=True, text=True, timeout=10, check=True)
        commit = run(["git", "rev-parse", "HEAD"]).stdout.strip()
        return {"commit": commit, "dirty": bool(run(["git", "status", "--porcelain", "--untracked-files=no"]).stdout)}
    except (OSError, subprocess.SubprocessError):
        return unknown
