"""Exporting: write aside, read back by the road its user will take, compare, and only then let it appear."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..data import BUILTIN_TASKS
from ..errors import InputError, MissingExtraError, UnknownNameError
from ..files import canonical_json, folder_written_aside, refuse_existing, write_text
from ..methods import MethodSpec, method_spec
from ..models.writing import is_in_transformers_format
from ..progress import Track, silent
from ..torch_state import own_torch_state
from . import merged, onnx_graph, onnx_precision, page, peft_folder
from .measured import Accuracy, accuracy
from .readme import page_facts, readme
from .source import Source, as_input, largest_difference, open_source
from .trained import Trained, trained_model
from .web_runtime import web_runtime

CLASSES_FILE = "classes.json"
README_FILE = "README.md"
TOLERANCE = 1e-4
"""Largest accepted difference of a probability between the classifier and what was exported in float32."""


class Format(NamedTuple):
    """A form that an adapter can be exported to, by functions of its module."""

    why_not: Callable[[MethodSpec], str]
    """Why a method cannot be had in this format; empty where it can."""
    write: Callable[[Source, Trained, Path], None]
    """Writes the format's own files into a folder, which is renamed into place later; the float32 model with the
    adapter in it may be changed. An adapter that cannot be had in this format is an InputError."""
    read_back: Callable[[Source, Path], NDArray[np.float32] | None]
    """Gives probabilities of the probes ``(PROBES, C)``, read as the files' user will; None if that needs a package."""
    packages: tuple[str, ...] = ()
    """Those of the extra ``onnx`` without which it cannot be written."""


_GRAPH = Format(
    lambda spec: spec.why_not_in_graph, onnx_graph.write, onnx_graph.read_back, packages=("onnx", "onnxscript")
)
FORMATS = {
    "peft": Format(lambda spec: spec.why_not_in_peft, peft_folder.write, peft_folder.read_back),
    "merged": Format(lambda spec: spec.why_not_merged, merged.write, merged.read_back),
    "onnx": _GRAPH,
    "page": _GRAPH,  # whose files the page then replaces
}
GRAPHS = tuple(name for name, each in FORMATS.items() if each is _GRAPH)
"""Formats that hold an ONNX file, which can be had in fewer bits."""


@dataclasses.dataclass(frozen=True)
class Export:
    """A folder that was written, and how near it is to the classifier."""

    folder: Path
    format: str
    files: tuple[str, ...]
    largest_difference: float | None
    """Largest difference of a probability between classifier and export, over the probes; None if not read back."""
    notes: tuple[str, ...]
    """Facts that a person should know, one line each."""
    precision: str = "fp32"
    """Of the image tower: ``fp32``, ``fp16`` or ``int8``."""
    accuracy: Accuracy | None = None
    """On a task, before and after; None where none was given or known."""


@own_torch_state()
def export(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    format: str,  # noqa: A002 - as on the command line
    model: str | None = None,
    precision: str = "fp32",
    data: Any = None,
    onnxruntime_web: str | os.PathLike[str] | None = None,
    track: Track = silent,
) -> Export:
    """Write a saved adapter in a form that works without lowshot.

    Args:
        folder: A saved adapter.
        out: Folder for the export; must not exist yet. It appears whole and checked, or not at all.
        format: ``peft``, ``merged``, ``onnx`` or ``page``.
        model: Where the adapter's backbone is now, if not where it was: a folder or a Hub id.
        precision: Of an ONNX file's image tower: ``fp32``, or ``fp16`` or ``int8``, which round it.
        data: What an ONNX file and the classifier are judged on: a task, or the name or folder of one. If not given,
            what is rounded is judged on the built-in task that the adapter has learnt.
        onnxruntime_web: For a page, npm's package of that name as a file; else it is fetched once, to the user's cache.
        track: Shows how fetching and judging go.

    Raises:
        UnknownNameError: There is no such format or precision.
        OutputError: ``out`` exists, or cannot be written.
        MissingExtraError: The format needs a package that is not installed.
        AdapterError: The adapter cannot be loaded.
        InputError: The adapter's method cannot be had in this format.
        DataError: The data cannot be used.
        RunError: The files do not compute what the adapter does, or what runs a page cannot be fetched.
    """
    _refuse_unusable(format, precision, data, onnxruntime_web)
    refuse_existing(Path(out))
    source = open_source(folder, model)
    record = source.record
    _refuse_adapter(source, format)
    package = None if onnxruntime_web is None else Path(onnxruntime_web)
    runtime = web_runtime(package, track) if format == "page" else None
    with folder_written_aside(Path(out)) as aside:
        trained = trained_model(source)
        table = _write(source, trained, format, aside)
        if precision != "fp32":  # what was held against the classifier is rounded, and all that differs is rounding
            onnx_precision.lower(source, trained, aside, precision)
            table = onnx_graph.read_back(source, aside)
        judged = data
        if data is None and precision != "fp32" and record.task in BUILTIN_TASKS:
            judged = record.task
        shares = None
        if judged is not None and table is not None:
            shares = accuracy(source, judged, onnx_graph.opened(aside), trained.backbone.resizing, track)
        is_readable = format != "peft" or is_in_transformers_format(trained.backbone.identity.id)
        write_text(aside / README_FILE, readme(record, format, precision, shares, is_readable=is_readable))
        if runtime is not None:
            classes, facts = list(record.classes), page_facts(record, precision, shares)
            several = record.has_several
            page.bundle(aside, runtime, title=source.name, classes=classes, facts=facts, has_several=several)
        files = tuple(sorted(path.name for path in aside.iterdir()))
    difference = None if table is None else largest_difference(table, source.probabilities)
    notes = _notes(source, precision, table is not None, judged is not None)
    return Export(Path(out), format, files, difference, notes, precision, shares)


def _refuse_unusable(name: str, precision: str, data: Any, runtime: Any) -> None:
    """Refuse what cannot be had whatever the adapter is."""
    if name not in FORMATS:
        raise UnknownNameError("format", name, FORMATS)
    onnx_precision.refuse_unknown(precision)
    for option, value, usual in (("precision", precision, "fp32"), ("data", data, None)):
        if name not in GRAPHS and value != usual:
            raise InputError(f"{option} is of ONNX files, and format {name} has none; expected {' or '.join(GRAPHS)}")
    if runtime is not None and name != "page":
        raise InputError(f"onnxruntime-web runs a page, and format {name} has none; leave it out, or use --format page")
    for package in FORMATS[name].packages:
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, "onnx", f"format {name}")


def _refuse_adapter(source: Source, name: str) -> None:
    """Refuse an adapter that cannot be had in a format, and name one that it can be had in."""
    if name not in GRAPHS:
        source.record.refuse_several(f"format {name}", "--format onnx and page say all labels of an image")
    method = source.recipe.method.method
    spec = method_spec(method)
    if source.record.has_rows:
        spec = spec.with_classifier()
    if why := FORMATS[name].why_not(spec):
        others = [other for other, form in FORMATS.items() if not form.why_not(spec)]
        advice = f"use --format {others[0]}" if others else "no format has it: predict and evaluate do"
        raise InputError(f"method {method} cannot be had in format {name}: {why}; {advice}")


def _write(source: Source, trained: Trained, name: str, aside: Path) -> NDArray[np.float32] | None:
    """Write a format's files in float32; returns their answers to the probes, None where nobody could ask."""
    prompts, templates = source.record.prompts, source.recipe.data.template
    expected = trained.probabilities(as_input(source.probes))
    FORMATS[name].write(source, trained, aside)
    classes = {
        "classes": list(source.record.classes),
        "template": templates[0] if len(templates) == 1 else templates,
        "prompts": [texts[0] for texts in prompts] if all(len(texts) == 1 for texts in prompts) else prompts,
        "image_size": trained.backbone.image_size,
    }
    write_text(aside / CLASSES_FILE, canonical_json(classes))
    table = FORMATS[name].read_back(source, aside)
    if table is not None:
        # A classifier computed in bfloat16, or on 8-bit weights, differs from any float32 model by its own
        # rounding. What is exported is then held against the float32 model that it was made from.
        source.refuse_difference(table, f"{name} export", TOLERANCE, None if source.is_float32 else expected)
    return table


def _notes(source: Source, precision: str, is_read_back: bool, is_judged: bool) -> tuple[str, ...]:
    notes = []
    if source.quantize != "none":
        notes.append(f"the base was {source.quantize}: the export is float32 and made of that base's rounded values")
    if not source.is_float32:
        notes.append("the classifier rounds its arithmetic, the export computes in float32: that is the difference")
    if not is_read_back:
        notes.append("onnxruntime is not installed: the export was not compared with the classifier")
    if precision != "fp32" and not is_judged:
        notes.append(f"what {precision} costs in accuracy was not measured: say on which images with --data DATA")
    return tuple(notes)
