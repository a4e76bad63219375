"""Importing: a foreign adapter becomes a lowshot adapter folder, which loads, evaluates and exports like any other."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..adapters import Adapter, adapter_bytes, layers_at
from ..classifier import CARD_FILE
from ..data import Examples, Prompts, Task, long_prompts_named, prompts_for
from ..errors import AdapterError, DataError, InputError
from ..files import canonical_json, folder_written_aside, refuse_existing, write_bytes, write_text
from ..methods import PROJECTIONS
from ..models import BESIDE, Backbone, load_backbone, load_structure
from ..records import RECORD_FILE, RunRecord, provenance
from ..settings import TOWERS, DataConfig, Recipe, Tower
from ..tensor_file import TENSORS_FILE, serialized
from ..torch_state import own_torch_state
from ..training.placing import adapt
from ..wording.card import model_card
from .clip_lora import NAME, ClipLora, read_clip_lora
from .peft_lora import MERGE, PeftLora, read_peft_lora
from .peft_lora import NAME as PEFT_NAME
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
    file, out = Path(file), Path(out)
    refuse_existing(out)
    words = _Words.of(Path(classes), template)
    saved = read_clip_lora(file)
    backbone = _reader_of_texts(model, file)
    layers = _layers(file, saved, backbone)
    settings = {
        "method": "lora",
        "rank": saved.rank,
        "alpha": saved.alpha,
        "scaling": "sqrt-rank",
        "encoder": saved.encoder,
        "projections": saved.projections,
        "position": _position(saved.position, layers, backbone),
    }
    origin = {"file": file.name, "sha256": _sha256(file), "format": NAME}
    return _written(
        out, words, backbone, settings, origin, lambda adapter: _tensors(file, saved, layers, backbone, adapter)
    )


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
    folder, out = Path(folder), Path(out)
    refuse_existing(out)
    words = _Words.of(Path(classes), template)
    saved = read_peft_lora(folder)
    if not (model or saved.base):
        raise InputError(f"adapter {folder} names no model; say which it was trained on with --model")
    backbone = _reader_of_texts(model or saved.base, folder)
    settings = _settings_of(folder, saved, backbone)
    origin = {"file": TENSORS_FILE, "sha256": _sha256(folder / TENSORS_FILE), "format": PEFT_NAME}
    return _written(out, words, backbone, settings, origin, lambda adapter: _peft_tensors(folder, saved, adapter))


def _reader_of_texts(model: str, adapter: Path) -> Backbone:
    """A backbone that such adapters are made of: one model, which reads class names.

    Raises:
        InputError: It is another, or cannot be loaded.
    """
    if BESIDE in model or not load_structure(model).has_text:
        raise InputError(
            f"adapter {adapter} is of a model of images and texts, and {model!r} is "
            f"{'two models' if BESIDE in model else 'one of images alone'}; give the backbone it was trained on with "
            "--model"
        )
    return load_backbone(model)


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


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


def _written(
    out: Path,
    words: _Words,
    backbone: Backbone,
    settings: Mapping[str, Any],
    origin: Mapping[str, str],
    tensors_of: Callable[[Adapter], Mapping[str, Tensor]],
) -> RunRecord:
    """The adapter's folder: a fresh adapter of these settings, with the foreign one's tensors.

    Args:
        out: Where to.
        words: What its classes are called.
        backbone: Adapted in place.
        settings: Those of the recipe that are known.
        origin: Where it comes from, for the record.
        tensors_of: What is to be in the adapter's file, given the fresh adapter.

    Raises:
        AdapterError: The tensors do not fit, or give no numbers.
    """
    recipe = Recipe().replace(template=words.template, device="cpu", **settings, model=backbone.identity.id)
    adapter = adapt(backbone, recipe)
    tensors = tensors_of(adapter)
    with folder_written_aside(out) as aside:
        adapter.save(aside, backbone.identity.id)
        write_bytes(aside / TENSORS_FILE, serialized(tensors))
        adapter.load(aside)
        with long_prompts_named(words.names, words.prompts):
            probe = as_input(probe_images(backbone.image_size)[:1])
            answers = class_probabilities(backbone, words.prompts, probe)
        if not np.isfinite(answers).all():  # finite weights can still be so large that nothing comes out
            raise AdapterError(
                f"file {origin['file']} gives probabilities that are not finite: its training has diverged"
            )
        known = {"model", "quantize", "template", *settings}
        record = _record(origin, words, recipe, known, backbone, adapter)
        write_text(aside / RECORD_FILE, canonical_json(record.to_dict()))
        write_text(aside / CARD_FILE, model_card(record))
    return record


def _settings_of(folder: Path, saved: PeftLora, backbone: Backbone) -> dict[str, Any]:
    """The recipe's settings of the smallest place that has all layers of the adapter.

    Raises:
        AdapterError: It adapts something that lowshot has no adapter for, or that the backbone has not.
    """
    places = {
        backbone.module_name(tower, layer, projection): (tower, layer, projection)
        for tower in TOWERS
        for layer in range(backbone.depths[tower])
        for projection in PROJECTIONS
    }
    strange = sorted(saved.layers.keys() - places.keys())
    if strange:
        raise AdapterError(
            f"adapter {folder} adapts {strange[0]}; in {backbone.identity.id} lowshot adapts the linear layers of "
            f"transformer blocks, such as {next(iter(places))}: {MERGE}"
        )
    adapted = [places[name] for name in saved.layers]
    towers = [tower for tower in TOWERS if any(tower == each for each, _, _ in adapted)]
    layers = {tower: sorted({layer for each, layer, _ in adapted if each == tower}) for tower in towers}
    numbers = sorted(set().union(*layers.values()))
    is_whole = all(len(layers[tower]) == backbone.depths[tower] for tower in towers)
    fits_all = numbers[-1] < min(backbone.depths[tower] for tower in towers)
    return {
        "method": "dora" if saved.is_dora else "lora",
        "rank": saved.rank,
        "alpha": saved.alpha,
        "scaling": "sqrt-rank" if saved.is_rank_stabilised else "rank",
        "encoder": "both" if len(towers) == len(TOWERS) else towers[0],
        "projections": tuple(p for p in PROJECTIONS if any(p == each for _, _, each in adapted)),
        "position": ",".join(map(str, numbers)) if fits_all and not is_whole else "all",
    }


def _peft_tensors(folder: Path, saved: PeftLora, adapter: Adapter) -> dict[str, Tensor]:
    """The saved factors by PEFT's names; where the recipe has a layer that was not adapted, its update is zero.

    Raises:
        AdapterError: A factor has another shape than its layer needs.
    """
    tensors = {
        name: torch.zeros_like(tensor) if ".lora_B." in name else tensor.clone()
        for name, tensor in adapter.tensors().items()
    }
    for module, parts in saved.layers.items():
        for part, tensor in parts.items():
            name = next(name for name in tensors if name.startswith(f"base_model.model.{module}.{part}"))
            if tensor.shape != tensors[name].shape:
                raise AdapterError(
                    f"adapter {folder}: {part} of {module} is {tuple(tensor.shape)}, but the model needs "
                    f"{tuple(tensors[name].shape)}; give the backbone it was trained on with --model"
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


def _layers(file: Path, saved: ClipLora, backbone: Backbone) -> dict[Tower, tuple[int, ...]]:
    """Layers of each tower that the file has, in its order.

    Raises:
        AdapterError: There are more or fewer than the position has in this backbone.
    """
    towers = [tower for tower in TOWERS if saved.encoder in ("both", tower)]
    readings = {tower: [layers_at(saved.position, backbone.depths[tower])] for tower in towers}
    if backbone.depths["vision"] == 24 and "vision" in towers:
        # CLIP-LoRA lists the layers of ViT-L/14's 24 by hand: ``all`` are the first 21, and other names mean the layers
        # that they mean for a depth of 12. Its ``top3`` does not exist there.
        readings["vision"].append(tuple(range(21)) if saved.position == "all" else layers_at(saved.position, 12))
    for reading in itertools.product(*readings.values()):
        if sum(map(len, reading)) == len(saved.layers):
            return dict(zip(towers, reading, strict=True))
    expected = " and ".join(f"{len(options[0])} of the {tower} tower" for tower, options in readings.items())
    raise AdapterError(
        f"file {file} has {len(saved.layers)} layers, but {backbone.identity.id} has {expected} at position "
        f"{saved.position}; give the backbone it was trained on with --model"
    )


def _position(position: str, layers: Mapping[Tower, tuple[int, ...]], backbone: Backbone) -> str:
    """The recipe's position: the same name, a list of layers, or a name that has more layers, whose update is zero."""
    named = {tower: layers_at(position, backbone.depths[tower]) for tower in layers}
    if named != dict(layers) and len(set(layers.values())) == 1:
        return ",".join(map(str, next(iter(layers.values()))))
    return position


def _tensors(
    file: Path,
    saved: ClipLora,
    layers: Mapping[Tower, tuple[int, ...]],
    backbone: Backbone,
    adapter: Adapter,
) -> dict[str, Tensor]:
    """The file's factors by PEFT's names; zero where the recipe has a layer that the file leaves out.

    Raises:
        AdapterError: A factor has another shape than its layer needs.
    """
    tensors = {name: torch.zeros_like(tensor) for name, tensor in adapter.tensors().items()}
    places = [(tower, layer) for tower, chosen in layers.items() for layer in chosen]
    for number, ((tower, layer), factors) in enumerate(zip(places, saved.layers, strict=True)):
        for projection, pair in factors.items():
            module = backbone.module_name(tower, layer, projection)
            for factor, tensor in zip(("lora_A", "lora_B"), pair, strict=True):
                name = f"base_model.model.{module}.{factor}.weight"
                if tensor.shape != tensors[name].shape:
                    raise AdapterError(
                        f"file {file}: w_{factor} of {projection} in layer_{number} is {tuple(tensor.shape)}, but "
                        f"{module} of {backbone.identity.id} needs {tuple(tensors[name].shape)}; give the backbone it "
                        "was trained on with --model"
                    )
                tensors[name] = tensor
    return tensors


def _record(
    origin: Mapping[str, str],
    words: _Words,
    recipe: Recipe,
    known: Collection[str],
    backbone: Backbone,
    adapter: Adapter,
) -> RunRecord:
    """Record with the known settings alone: what neither the file nor the user gave, all of training too, is absent."""
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
        provenance={**provenance(), "imported": dict(origin)},
    )
