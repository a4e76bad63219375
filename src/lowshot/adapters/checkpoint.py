"""Saving and loading of adapter tensors. Loading is strict: what does not fit exactly is refused, never ignored."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..errors import AdapterError, InputError
from ..files import canonical_json, read_json_object

CONFIG_FILE = "adapter_config.json"
TENSORS_FILE = "adapter_model.safetensors"
_METADATA = {"format": "pt"}
_HEADER_ALLOWANCE_BYTES = 1 << 20  # safetensors' header grows with the number of tensors, not with their size


def adapter_tensors(model: PeftModel) -> dict[str, Tensor]:
    """The tensors that make up the adapter, by the names PEFT stores them under."""
    tensors = get_peft_model_state_dict(model, save_embedding_layers=False)
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def serialized_bytes(model: PeftModel) -> int:
    """Size of the file that ``save_adapter`` writes the tensors to."""
    return len(_serialized(model))


def _serialized(model: PeftModel) -> bytes:
    return bytes(save(adapter_tensors(model), metadata=_METADATA))


def save_adapter(model: PeftModel, folder: Path, base_model: str) -> None:
    """Write PEFT's two files, byte for byte the same for the same adapter.

    Args:
        model: The model with its adapter.
        folder: An existing folder; the caller renames it into place.
        base_model: The backbone's id, for PEFT's ``base_model_name_or_path``.
    """
    config = model.peft_config["default"]
    config.base_model_name_or_path = base_model
    config.save_pretrained(folder)
    # PEFT writes its sets in an order that changes from process to process.
    written = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    written["target_modules"] = sorted(written["target_modules"])
    (folder / CONFIG_FILE).write_text(canonical_json(written), encoding="utf-8")
    (folder / TENSORS_FILE).write_bytes(_serialized(model))


def load_adapter(model: PeftModel, folder: Path) -> None:
    """Fill a freshly added adapter with saved values.

    Raises:
        AdapterError: A file is missing or damaged, belongs to other settings, has missing or extra tensors, or
            tensors of another shape or type, or values that are not finite.
    """
    _check_config(model, folder / CONFIG_FILE)
    expected = adapter_tensors(model)
    tensors = _read_tensors(folder / TENSORS_FILE, sum(t.nbytes for t in expected.values()))
    _check_tensors(folder / TENSORS_FILE, tensors, expected)
    set_peft_model_state_dict(model, tensors)


def _check_config(model: PeftModel, path: Path) -> None:
    try:
        saved = read_json_object(path)
    except FileNotFoundError:
        raise AdapterError(f"adapter {path.parent} is incomplete: {path.name} is missing") from None
    except InputError as error:
        raise AdapterError(f"adapter {error}") from None
    config = model.peft_config["default"]
    for key in ("peft_type", "r", "lora_alpha", "use_rslora", "use_dora"):
        if saved.get(key) != getattr(config, key):
            expected = getattr(config, key)
            raise AdapterError(f"adapter file {path} has {key} = {saved.get(key)!r}; lowshot.json says {expected!r}")
    targets = saved.get("target_modules")
    if not isinstance(targets, list) or set(map(str, targets)) != set(config.target_modules):
        raise AdapterError(f"adapter file {path} adapts other modules than lowshot.json says")


def _read_tensors(path: Path, expected_bytes: int) -> dict[str, Tensor]:
    try:
        size = path.stat().st_size
        if size > expected_bytes + _HEADER_ALLOWANCE_BYTES:
            raise AdapterError(f"adapter file {path} has {size:,} bytes; expected about {expected_bytes:,}")
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except FileNotFoundError:
        raise AdapterError(f"adapter {path.parent} is incomplete: {path.name} is missing") from None
    except (OSError, SafetensorError) as error:
        raise AdapterError(f"adapter file {path} is damaged: {error}") from None


def _check_tensors(path: Path, tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    missing, extra = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    if missing:
        raise AdapterError(f"adapter file {path} lacks {len(missing)} tensor(s), such as {missing[0]}")
    if extra:
        raise AdapterError(f"adapter file {path} has {len(extra)} unknown tensor(s), such as {extra[0]}")
    for name, tensor in tensors.items():
        wanted = expected[name]
        if tensor.shape != wanted.shape or tensor.dtype != wanted.dtype:
            got = f"{tuple(tensor.shape)} of {tensor.dtype}"
            raise AdapterError(
                f"adapter file {path}: {name} is {got}; expected {tuple(wanted.shape)} of {wanted.dtype}"
            )
        if not torch.isfinite(tensor).all():
            raise AdapterError(f"adapter file {path}: {name} holds values that are not finite")
