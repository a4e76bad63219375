"""From an adapter's files to what a bank keeps of it. They are read by the code that the classifier reads them with."""

from __future__ import annotations

import hashlib
import json
import os
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ..adapters import Adapter, add_adapter, place, prepare
from ..adapters.lora_xs.layer import LoraXsMixin
from ..data import Prompts, long_prompts_named, recorded_prompts
from ..errors import OutputError
from ..files import cache_folder, write_bytes
from ..heads import HEADS, read_head
from ..methods import method_spec
from ..models import Backbone, Tower
from ..models.classes import encode_with_lengths, tokenized
from ..records import RunRecord
from ..settings import MethodConfig, Recipe
from .bases import Bases
from .mixing import OwnFactors, Rows, Updates, mixed
from .residents import ClassTable, OwnHead, Resident, Stamp

CLASSES_VERSION = 2
"""Changes when the same adapter would get other class embeddings."""
_PROMPTS_AT_ONCE = 64
_MOST_FORMS = 8
_IN_CACHE = ("classes", "lengths")
_PEFT_PREFIX = "base_model.model."


class Loader:
    """Reads adapters for one backbone.

    Not for several threads at once.

    Args:
        backbone: With its linear layers wrapped.
        rows: What says whose rows go through them.
        bases: Those that LoRA-XS adapters share; what an adapter needs is prepared here.
        computed_in: Whatever else decides what the backbone computes: precision of the weights, floating type.
        dtype: Of the class embeddings that are kept.
    """

    def __init__(
        self,
        backbone: Backbone,
        rows: Rows,
        bases: Bases,
        computed_in: Sequence[str],
        dtype: torch.dtype,
    ) -> None:
        self._backbone = backbone
        self._rows = rows
        self._bases = bases
        self._computed_in = (*computed_in, backbone.device.type, str(dtype))
        self._dtype = dtype
        self._forms: dict[MethodConfig, Adapter] = {}  # least recently used first
        self._tables: weakref.WeakValueDictionary[str, ClassTable] = weakref.WeakValueDictionary()

    def load(self, folder: Path, stamp: Stamp, record: RunRecord, recipe: Recipe) -> Resident:
        """What is kept of an adapter.

        Raises:
            AdapterError: A file is missing or damaged or does not fit, exactly as for ``FewShotClassifier``.
            InputError: The settings do not fit this backbone.
        """
        text, vision = self._updates(folder, recipe.method)
        classes = self._classes(record.classes, recorded_prompts(record, recipe.data), text)
        return Resident(
            name=folder.name,
            stamp=stamp,
            classes=classes,
            temperature=torch.tensor(
                float(record.calibration.get("temperature", 1.0)), dtype=torch.float32, device=self._backbone.device
            ),
            updates=vision,
            head=self._head(folder, recipe.method.method, classes),
        )

    def _head(self, folder: Path, method: str, classes: ClassTable) -> OwnHead | None:
        """What judges in the place of the class embeddings alone; None for methods that have no such thing."""
        if method not in HEADS:
            return None
        (count, width), device = classes.embeddings.shape, self._backbone.device
        return OwnHead(read_head(folder, HEADS[method], classes=count, width=width, device=device))

    def _updates(self, folder: Path, method: MethodConfig) -> tuple[Updates, Updates]:
        """What an adapter adds in the text tower and in the vision tower."""
        if method_spec(method.method).kind != "weights":
            return Updates(), Updates()
        form = self._form(method)
        form.load(folder)
        found = _read_off(form.model)
        if any(isinstance(form.model.get_submodule(_PEFT_PREFIX + n), LoraXsMixin) for n in found["own"]):
            del self._forms[method]  # it has taken that adapter's own factors for its basis
        return self._of_tower(found, "text"), self._of_tower(found, "vision")

    def _form(self, method: MethodConfig) -> Adapter:
        """An adapter like those of this method, to be filled from a file: the whole of the adapter, on no weights."""
        form = self._forms.pop(method, None)
        if form is None:
            model, where = _without_weights(self._backbone.model), place(method, self._backbone)
            if method.method == "lora-xs":
                self._bases.prepare(dict.fromkeys(where.linears, method.rank))
                self._bases.lend(model, where.linears, method.rank)
            prepare(model, method, where)
            form = add_adapter(model, method, where, seed=0)
        self._forms[method] = form
        if len(self._forms) > _MOST_FORMS:
            self._forms.pop(next(iter(self._forms)))
        return form

    def _of_tower(self, found: Mapping[str, dict[str, Any]], tower: Tower) -> Updates:
        inside = tuple(f"{module}." for module in self._backbone.tower_modules(tower))
        middles = {name: middle for name, middle in found["middles"].items() if name.startswith(inside)}
        own = {name: factors for name, factors in found["own"].items() if name.startswith(inside)}
        stacked = torch.stack(list(middles.values())) if middles else None
        return Updates(tuple(middles), stacked, own).to(self._backbone.device)

    def _classes(self, names: tuple[str, ...], prompts: Prompts, text: Updates) -> ClassTable:
        """What the text tower says: what is in memory, what was computed once on this machine, or anew."""
        identity = self._backbone.identity
        model = (identity.weights_sha256, identity.settings_sha256, *self._computed_in)
        key = _digest([CLASSES_VERSION, names, prompts, model, _content(text)])
        known = self._tables.get(key)
        if known is not None:
            return known
        path = cache_folder() / "classes" / key[:2] / f"{key}.safetensors"
        found = _read_classes(path, len(names), self._dtype)
        if found is None:
            found = self._encoded(names, prompts, text)
            _write_classes(path, found)
        embeddings, lengths = (tensor.to(self._backbone.device) for tensor in found)
        made = self._tables[key] = ClassTable(names, embeddings, lengths)
        return made

    @torch.no_grad()
    def _encoded(self, names: tuple[str, ...], prompts: Prompts, text: Updates) -> tuple[Tensor, Tensor]:
        """Class embeddings ``(C, D)`` by the text tower with an adapter, and their lengths ``(C,)``, on the CPU."""
        with long_prompts_named(names, prompts):
            tokens, owners = tokenized(self._backbone, prompts)
        alone = mixed([text], self._bases.at)
        with self._rows.of(alone):
            embeddings, lengths = encode_with_lengths(self._backbone, tokens, owners, _PROMPTS_AT_ONCE)
        return embeddings.to(_CPU, self._dtype), lengths.to(_CPU)


_CPU = torch.device("cpu")


def _without_weights(model: nn.Module) -> nn.Module:
    """The structure of a transformers model; its parameters have their shapes, all zeros, and take no memory."""
    with torch.device("meta"):
        made: nn.Module = type(model)(model.config)
    for module in made.modules():
        for name, parameter in module.named_parameters(recurse=False):
            empty = nn.Parameter(torch.zeros(()).expand(parameter.shape), requires_grad=False)
            setattr(module, name, empty)
    return made.eval()


@torch.no_grad()
def _read_off(model: nn.Module) -> dict[str, dict[str, Any]]:
    """The update of each adapted layer: ``middles`` of those in the shared basis, ``own`` factors of the others."""
    middles: dict[str, Tensor] = {}
    own: dict[str, OwnFactors] = {}
    for full_name, module in model.named_modules():
        if not isinstance(module, LoraLayer):
            continue
        layer: Any = module
        name, scale = full_name.removeprefix(_PEFT_PREFIX), layer.scaling["default"]
        a, b = layer.lora_A["default"].weight, layer.lora_B["default"]
        if isinstance(layer, LoraXsMixin) and a.data_ptr() == layer.basis(len(a)).right.data_ptr():
            middles[name] = (scale * b.R).T.contiguous()
        else:
            own[name] = OwnFactors(a.clone(), scale * b.weight)
    return {"middles": middles, "own": own}


def _content(updates: Updates) -> str:
    """Hash of what an adapter adds in a tower; empty if it is nothing."""
    if not updates.nbytes:
        return ""
    digest = hashlib.sha256(repr(updates.layers).encode())
    own = [part for name in sorted(updates.own) for part in (name, updates.own[name].a, updates.own[name].b)]
    for part in (updates.middles, *own):
        digest.update(part.encode() if isinstance(part, str) else b"" if part is None else _bytes(part))
    return digest.hexdigest()


def _digest(values: object) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def _bytes(tensor: Tensor) -> bytes:
    return f"{tuple(tensor.shape)}".encode() + tensor.cpu().contiguous().numpy().tobytes()


def _write_classes(path: Path, found: tuple[Tensor, Tensor]) -> None:
    """A cache that cannot be written costs time, nothing else."""
    content = save(dict(zip(_IN_CACHE, found, strict=True)), metadata={"sha256": _digest_of(found)})
    try:
        write_bytes(path, bytes(content))
    except OutputError:
        return


def _read_classes(path: Path, classes: int, dtype: torch.dtype) -> tuple[Tensor, Tensor] | None:
    """What ``_write_classes`` wrote, to the last bit; None where there is nothing, or anything else."""
    try:
        with safe_open(os.fspath(path), framework="pt") as file:
            embeddings, lengths = (file.get_tensor(name) for name in _IN_CACHE)
            written = (file.metadata() or {}).get("sha256")
    except (OSError, SafetensorError):
        return None
    fits = embeddings.ndim == 2 and len(embeddings) == classes and embeddings.dtype == dtype
    fits &= lengths.shape == (classes,) and lengths.dtype == torch.float32
    return (embeddings, lengths) if fits and _digest_of((embeddings, lengths)) == written else None


def _digest_of(found: tuple[Tensor, Tensor]) -> str:
    return hashlib.sha256(b"".join(map(_bytes, found))).hexdigest()
