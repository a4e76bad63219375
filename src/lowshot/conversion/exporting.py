"""Exporting: write aside, read back by the road its user will take, compare, and only then let it appear."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..adapters import Adapter
from ..errors import InputError, MissingExtraError, UnknownNameError
from ..files import canonical_json, folder_written_aside, refuse_existing
from ..methods import method_spec
from ..models import Backbone
from ..torch_state import own_torch_state
from . import merged, onnx_graph, peft_folder
from .readme import readme
from .source import Source, as_input, class_probabilities, largest_difference, open_source, trained_model

CLASSES_FILE = "classes.json"
README_FILE = "README.md"
TOLERANCE = 1e-4
"""Largest accepted difference of a probability between the classifier and what was exported."""


class Format(Protocol):
    """Functions that the module of a format has."""

    @property
    def PACKAGES(self) -> tuple[str, ...]:  # noqa: N802 - a constant of the module
        """Packages of an extra of the format's name, without which it cannot be written."""

    def write(self, source: Source, backbone: Backbone, adapter: Adapter | None, folder: Path) -> None:
        """Write the format's own files; the model may be changed.

        Args:
            source: Where the adapter comes from.
            backbone: The float32 backbone with the adapter in it.
            adapter: The adapter; None where nothing was trained.
            folder: Exists, and is renamed into place by the caller.

        Raises:
            InputError: The adapter cannot be had in this format.
        """

    def read_back(self, source: Source, folder: Path) -> NDArray[np.float32] | None:
        """Probabilities of the probes ``(PROBES, C)``, read as the files' user will; None if that needs a package."""


FORMATS: dict[str, Format] = {"peft": peft_folder, "merged": merged, "onnx": onnx_graph}
"""Format -> its module."""


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


@own_torch_state()
def export(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    format: str,  # noqa: A002 - as on the command line
    model: str | None = None,
) -> Export:
    """Write a saved adapter in a form that works without lowshot.

    Args:
        folder: A saved adapter.
        out: Folder for the export; must not exist yet. It appears whole and checked, or not at all.
        format: ``peft``, ``merged`` or ``onnx``.
        model: Where the adapter's backbone is now, if not where it was: a folder or a Hub id.

    Raises:
        UnknownNameError: There is no such format.
        OutputError: ``out`` exists, or cannot be written.
        MissingExtraError: The format needs a package that is not installed.
        AdapterError: The adapter cannot be loaded.
        InputError: The adapter's method cannot be had in this format.
        RunError: The files do not compute what the adapter does.
    """
    if format not in FORMATS:
        raise UnknownNameError("format", format, FORMATS)
    module = FORMATS[format]
    for package in module.PACKAGES:
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, format, f"format {format}")
    refuse_existing(Path(out))
    source = open_source(folder, model)
    method = source.recipe.method.method
    if not method_spec(method).is_mergeable:
        raise InputError(
            f"method {method} classifies by more than the backbone's weights and class prompts; expected a method "
            "that trains weights, or zero-shot (lowshot methods lists them)"
        )
    with folder_written_aside(Path(out)) as aside:
        expected = _write(source, format, aside)
        table = module.read_back(source, aside)
        if table is not None:
            # A classifier computed in bfloat16, or on 8-bit weights, differs from any float32 model by its own
            # rounding. What is exported is then held against the float32 model that it was made from.
            source.refuse_difference(table, f"{format} export", TOLERANCE, None if source.is_float32 else expected)
        files = tuple(sorted(path.name for path in aside.iterdir()))
    notes = []
    if source.quantize != "none":
        notes.append(f"the base was {source.quantize}: the export is float32 and made of that base's rounded values")
    if not source.is_float32:
        notes.append("the classifier rounds its arithmetic, the export computes in float32: that is the difference")
    if table is None:
        notes.append("onnxruntime is not installed: the export was not compared with the classifier")
    difference = None if table is None else largest_difference(table, source.probabilities)
    return Export(Path(out), format, files, difference, tuple(notes))


def _write(source: Source, name: str, aside: Path) -> NDArray[np.float32]:
    """Write all files; returns the float32 model's answers to the probes, before anything was changed in it."""
    backbone, adapter = trained_model(source)
    prompts, templates = source.record.prompts, source.recipe.data.template
    expected = class_probabilities(backbone, prompts, as_input(source.probes), source.temperature)
    FORMATS[name].write(source, backbone, adapter, aside)
    classes = {
        "classes": list(source.record.classes),
        "template": templates[0] if len(templates) == 1 else templates,
        "prompts": [texts[0] for texts in prompts] if all(len(texts) == 1 for texts in prompts) else prompts,
        "image_size": backbone.image_size,
    }
    (aside / CLASSES_FILE).write_text(canonical_json(classes), encoding="utf-8")
    (aside / README_FILE).write_text(readme(source.record, name), encoding="utf-8")
    return expected
