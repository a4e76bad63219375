"""Importing: a foreign adapter becomes a lowshot adapter folder, which loads, evaluates and exports like any other."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..adapters import Adapter, adapter_bytes
from ..data import Examples, Prompts, Task, long_prompts_named, prompts_for
from ..errors import AdapterError, DataError, InputError
from ..files import canonical_json, folder_written_aside, refuse_existing, write_bytes, write_text
from ..models import BESIDE, Backbone, load_backbone, load_structure
from ..records import CARD_FILE, RECORD_FILE, RunRecord, provenance
from ..settings import DataConfig, Recipe
from ..tensor_file import TENSORS_FILE, serialized
from ..torch_state import own_torch_state
from ..training.placing import adapt
from ..wording.card import model_card
from .clip_lora import ClipLora, read_clip_lora
from .peft_lora import PeftLora, read_peft_lora
from .source import as_input, class_probabilities, probe_images

_UNKNOWN_TASK = "unknown"


@own_torch_state()
def import_clip_lora(
    file: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    model: str,
    classes: str | os.PathLike[str],
    template: str | Sequence[str] = DataConfig.template,
) -> RunRecord:
    """Turn an adapter that CLIP-LoRA saved into one that ``FewShotClassifier.from_pretrained`` and PEFT load.

    Args:
        file: A ``.pt`` file that its ``save_lora`` wrote. It is read without running anything in it.
        out: Folder for the adapter; must not exist yet.
        model: The backbone it was trained on, in transformers format: the file does not say which.
        classes: Text file, UTF-8, one class name per line in the order of the labels.
        template: Prompt it was trained with, or several; ``{}`` stands for the class name.

    Returns:
        The record. What the file does not say is zero or absent in it, never made up.

    Raises:
        OutputError: ``out`` exists, or cannot be written.
        AdapterError: The file is not such an adapter, or does not fit the backbone.
        DataError: The class names cannot be used.
        InputError: The backbone or the template cannot be used.
    """
    refuse_existing(Path(out))
    words = _Words.of(Path(classes), template)
    return _written(read_clip_lora(Path(file)), model, Path(out), words)


@own_torch_state()
def import_peft(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    classes: str | os.PathLike[str],
    model: str | None = None,
    template: str | Sequence[str] = DataConfig.template,
) -> RunRecord:
    """Turn a LoRA or DoRA adapter that PEFT saved of a CLIP or SigLIP into one that lowshot loads.

    Args:
        folder: What ``PeftModel.save_pretrained`` wrote.
        out: Folder for the adapter; must not exist yet.
        classes: Text file, UTF-8, one class name per line.
        model: The backbone it was trained on; else the one that the folder names.
        template: Prompt it was trained with, or several; ``{}`` stands for the class name.

    Returns:
        The record. What the folder does not say is zero or absent in it, never made up.

    Raises:
        OutputError: ``out`` exists, or cannot be written.
        AdapterError: The folder is not such an adapter, does not fit the backbone, or is one that lowshot's adapters
            cannot be.
        DataError: The class names cannot be used.
        InputError: The backbone or a template cannot be used.
    """
    refuse_existing(Path(out))
    words = _Words.of(Path(classes), template)
    saved = read_peft_lora(Path(folder))
    if not (model or saved.base):
        raise InputError(f"adapter {folder} names no model; say which it was trained on with --model")
    return _written(saved, model or saved.base, Path(out), words)


@dataclasses.dataclass(frozen=True)
class _Words:
    """The classes and their prompts, which a foreign adapter does not have with it."""

    names: tuple[str, ...]
    prompts: Prompts
    template: str | tuple[str, ...]

    @classmethod
    def of(cls, classes: Path, template: str | Sequence[str]) -> _Words:
        names = read_class_names(classes)
        given = template if isinstance(template, str) else tuple(template)
        data = Recipe().replace(template=given).data
        return cls(names, prompts_for(names, data, data=f"classes file {classes}"), given)


def _written(saved: ClipLora | PeftLora, model: str, out: Path, words: _Words) -> RunRecord:
    """The adapter's folder: a fresh adapter of the foreign one's settings, with its factors.

    Args:
        saved: The foreign adapter.
        model: The backbone.
        out: Where to.
        words: What its classes are called.

    Raises:
        InputError: The backbone cannot be loaded, or does not read class names.
        AdapterError: The factors do not fit, or give no numbers.
    """
    if BESIDE in model or not load_structure(model).has_text:
        raise InputError(
            f"adapter {saved.file} is of a model of images and texts, and {model!r} is "
            f"{'two models' if BESIDE in model else 'one of images alone'}; give the backbone it was trained on with "
            "--model"
        )
    backbone = load_backbone(model)
    settings = saved.settings(backbone)
    recipe = Recipe().replace(template=words.template, device="cpu", **settings, model=backbone.identity.id)
    adapter = adapt(backbone, recipe)
    tensors = _with_factors(adapter, saved, backbone)
    with folder_written_aside(out) as aside:
        adapter.save(aside, backbone.identity.id)
        write_bytes(aside / TENSORS_FILE, serialized(tensors))
        adapter.load(aside)
        with long_prompts_named(words.names, words.prompts):
            probe = as_input(probe_images(backbone.image_size)[:1])
            answers = class_probabilities(backbone, words.prompts, probe)
        if not np.isfinite(answers).all():  # finite weights can still be so large that nothing comes out
            raise AdapterError(f"file {saved.file} gives probabilities that are not finite: its training has diverged")
        record = _record(saved, words, recipe, {"model", "quantize", "template", *settings}, backbone, adapter)
        write_text(aside / RECORD_FILE, canonical_json(record.to_dict()))
        write_text(aside / CARD_FILE, model_card(record))
    return record


def _with_factors(adapter: Adapter, saved: ClipLora | PeftLora, backbone: Backbone) -> dict[str, Tensor]:
    """A fresh adapter's tensors with the saved factors; where it has a layer that was not adapted, the update is zero.

    Raises:
        AdapterError: A factor has another shape than its layer needs.
    """
    tensors = {
        name: torch.zeros_like(tensor) if ".lora_B." in name else tensor.clone()
        for name, tensor in adapter.tensors().items()
    }
    for module, parts in saved.factors(backbone).items():
        for part, tensor in parts.items():
            name = next(name for name in tensors if name.startswith(f"base_model.model.{module}.{part}"))
            if tensor.shape != tensors[name].shape:
                raise AdapterError(
                    f"adapter {saved.file}: {part} of {module} is {tuple(tensor.shape)}, but {backbone.identity.id} "
                    f"needs {tuple(tensors[name].shape)}; give the backbone it was trained on with --model"
                )
            tensors[name] = tensor
    return tensors


def read_class_names(path: Path) -> tuple[str, ...]:
    """Class names of a text file, one per line, UTF-8.

    Raises:
        DataError: There is no such file, it is no text, has a line without a name, or names that make one prompt.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"classes file {path} does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"classes file {path} cannot be read as UTF-8 text: {error}") from None
    lines = [line.strip() for line in text.rstrip().split("\n")]
    if "" in lines and lines != [""]:
        raise DataError(f"classes file {path} has no name in line {lines.index('') + 1}; expected one name per line")
    names = tuple(line for line in lines if line)
    nothing = Examples((), np.empty(0, dtype=np.int64), ())
    Task(f"classes file {path}", names, nothing)  # the rules for class names are a task's
    return names


def _record(
    saved: ClipLora | PeftLora,
    words: _Words,
    recipe: Recipe,
    known: Collection[str],
    backbone: Backbone,
    adapter: Adapter,
) -> RunRecord:
    """Record with the known settings alone: what neither the file nor the user gave, all of training too, is absent."""
    origin = {
        "file": saved.file.name,
        "sha256": hashlib.sha256(saved.file.read_bytes()).hexdigest(),
        "format": saved.format,
    }
    sections = {
        section: {name: value for name, value in values.items() if name in known}
        for section, values in recipe.to_dict().items()
    }
    return RunRecord(
        task=_UNKNOWN_TASK,
        method=recipe.method.method,
        quantize="none",
        shots=0,
        seed=0,
        recipe={section: values for section, values in sections.items() if values},
        classes=words.names,
        model=backbone.identity.facts(),
        draw=(),
        prompts=words.prompts,
        trainable_parameters=sum(p.numel() for p in adapter.parameters()),
        total_parameters=backbone.parameters,
        adapter_bytes=adapter_bytes(adapter),
        steps=0,
        train_seconds=0.0,
        peak_memory_bytes=0,
        provenance={**provenance(), "imported": origin},
    )
