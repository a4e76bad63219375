"""Which weights a backbone has, and what else decides what they compute: hashes that tell one model from another."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from ..resizing import Resizing
from .towers import Towers

_SHARED_IN = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclasses.dataclass(frozen=True)
class Identity:
    """Which weights these are.

    Args:
        id: ``builtin``, a Hub id or a folder.
        revision: Commit on the Hub, where there is one.
        weights_sha256: Hash of all weights in full precision.
        settings_sha256: Hash of what else decides what the weights compute: activation, heads, end-of-text token,
            pixels, vocabulary.
        rounded_sha256: Hash of the weights rounded to each type that checkpoints are shared in, by the type's name:
            a copy in half precision is told from another model by them.
        reads_text: Whether it has a text tower, by which a class has a name and not only images.
        equal_settings_sha256: Hashes of the same settings in other words, see ``settings_sha256``.
        resizing: How images that are judged become the square that the weights see.
    """

    id: str
    revision: str | None
    weights_sha256: str
    settings_sha256: str
    rounded_sha256: Mapping[str, str]
    reads_text: bool = True
    equal_settings_sha256: Sequence[str] = dataclasses.field(default_factory=list)
    resizing: Resizing = Resizing()  # noqa: RUF009 - immutable

    def facts(self) -> dict[str, Any]:
        """Its fields in a record, as they are read again from JSON."""
        return {**dataclasses.asdict(self), "resizing": list(self.resizing)}


def weights_sha256(model: nn.Module) -> tuple[str, dict[str, str]]:
    """Hashes of names, shapes and values of all parameters: the same for a checkpoint in any file layout.

    Returns:
        The hash of the float32 values, and by name of the type those of the values rounded to it.
    """
    parameters = sorted(model.named_parameters())

    def digest(dtype: torch.dtype | None) -> str:
        sha256 = hashlib.sha256()
        for name, parameter in parameters:
            sha256.update(f"{name} {tuple(parameter.shape)}\n".encode())
            values = parameter.detach().to("cpu", torch.float32).contiguous()
            sha256.update(values.numpy().data if dtype is None else values.to(dtype).view(torch.int16).numpy().data)
        return sha256.hexdigest()

    # Side by side: hashing lets other threads run, and takes as long as reading the file does.
    with concurrent.futures.ThreadPoolExecutor(1 + len(_SHARED_IN)) as threads:
        exact, *rounded = threads.map(digest, [None, *_SHARED_IN.values()])
    return exact, dict(zip(_SHARED_IN, rounded, strict=True))


def settings_sha256(towers: Towers, tokenizer: Any, pixels: Sequence[float]) -> tuple[str, ...]:
    """Hashes of the settings beside the weights: the same weights with another activation are another function.

    Args:
        towers: The model.
        tokenizer: Its tokenizer, if it has a text tower; what it makes of a few words stands for its rules, those of
            padding included where padding has an influence.
        pixels: Mean and deviation that pixels are normalised with.

    Returns:
        The hash, and those of the same function configured in other words: in a CLIP whose end-of-text token has the
        largest id, ``eos_token_id`` says that id, or 2 for the largest of the prompt.
    """
    vision, normalised = towers.vision_config, [round(float(value), 6) for value in pixels]
    if not towers.has_text:
        alone = {"vision": towers.family.image_settings(vision), "pixels": normalised}
        return (hashlib.sha256(json.dumps(alone).encode()).hexdigest(),)
    text = towers.model.config.text_config
    shared = ("hidden_act", "layer_norm_eps", "num_attention_heads")
    padding = towers.padding if towers.family.text_attention == "padded" else {}
    tokens = tokenizer(["a photo of a cat.", "Łódź, 7 猫s"], **padding)["input_ids"]
    vocabulary = sorted(tokenizer.get_vocab().items())
    words = json.dumps(vocabulary)
    hashes = []
    for end in _spellings_of_the_end(towers, max(identifier for _, identifier in vocabulary)):
        settings = {
            "text": [*(getattr(text, name) for name in shared), end],
            "vision": [*(getattr(vision, name) for name in shared), towers.image_size, vision.patch_size],
            "pixels": normalised,
            "tokens": tokens,
        }
        hashes.append(hashlib.sha256(f'{json.dumps(settings)[:-1]}, "vocabulary": {words}}}'.encode()).hexdigest())
    return tuple(hashes)


def _spellings_of_the_end(towers: Towers, largest: int) -> list[Any]:
    """The ``eos_token_id``, and what else it could be for the same function."""
    family, text = towers.family, towers.model.config.text_config
    if not family.reads_end_of_text:
        return [text.eos_token_id]
    read_at = family.end_of_text(text, largest)
    others = [end for end in (2, largest) if family.end_of_text(SimpleNamespace(eos_token_id=end), largest) == read_at]
    return [text.eos_token_id, *(end for end in others if end != text.eos_token_id)]
