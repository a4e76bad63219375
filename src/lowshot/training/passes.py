"""How a batch is cut up: what one image and one prompt need is measured on the model itself, the rest is arithmetic."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..adapters import MaskKeys
from ..config import EngineConfig
from ..errors import InputError
from ..models import Backbone
from .step import Passes

KEPT_AT_ONCE = 1 << 28
"""Bytes that a pass keeps at most where no budget is set and nothing is said: larger passes are no faster on a CPU, and
touch fresh memory."""
OVERHEAD = {"cuda": 1.04, "cpu": 1.8}
"""What an allocator takes for what is asked of it. CUDA's rounds up. glibc's, on a CPU, leaves gaps between tensors
that live long and those that do not: 1.55 to 1.8 times as much was resident here (ViT-B/16). With every tensor mapped
by itself it is 1.04 there too (MALLOC_MMAP_THRESHOLD_=131072), but a step then takes 1.6 times as long."""
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30}


def parse_bytes(text: str) -> int:
    """``2GB``, ``1.5 GiB`` or ``800 MB`` in bytes.

    Raises:
        InputError: It is none of these.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMG]?i?B?)\s*", text, re.IGNORECASE | re.ASCII)
    unit = found[2].upper() if found else ""
    if found is None or unit not in _UNITS or float(found[1]) == 0:
        raise InputError(f"memory-budget is {text!r}; expected an amount such as 2GB or 800MB")
    return int(float(found[1]) * _UNITS[unit])


@dataclasses.dataclass(frozen=True)
class Needs:
    """What a training step takes on this model, bytes."""

    resident: int
    """Before the step: on a CPU the whole process, on CUDA what is allocated."""
    image: int
    """Kept for the backward pass of one image."""
    prompt: int
    """Kept for the backward pass of one prompt; 0 where the text tower is not trained."""
    workspace: int
    """Temporary tensors while one image is at its widest."""
    prompt_workspace: int
    adapter: int
    """Gradients and both moments of AdamW."""
    overhead: float = 1.0
    """Of the allocator: see ``OVERHEAD``."""

    def peak(self, passes: Passes, prompts: int) -> int:
        """The height of a step with these cuts."""
        whole = passes.prompts >= prompts
        texts = self.prompt * (prompts if whole else 0)
        images = passes.images * (self.image + self.workspace)
        chunk = passes.prompts * (self.prompt + self.prompt_workspace)
        return int(self.resident + self.overhead * (self.adapter + max(texts + images, chunk)))


def measure_needs(
    backbone: Backbone,
    tokens: Mapping[str, Tensor],
    keys: MaskKeys,
    trained: int,
    *,
    text_is_trained: bool,
    checkpointing: bool = False,
) -> Needs:
    """Put one image and one prompt through the towers and see what autograd keeps.

    Args:
        backbone: With its adapter.
        tokens: The class prompts.
        keys: Those of the adapters' dropout.
        trained: Number of trained parameters.
        text_is_trained: Whether gradients go into the text tower.
        checkpointing: Whether blocks will be computed again in the backward pass.
    """
    image = torch.zeros(1, 3, backbone.image_size, backbone.image_size)
    prompt = {name: ids[:1] for name, ids in tokens.items()}
    with backbone.training(), keys.of(0, [0]):
        kept_image = kept_bytes(backbone.model, lambda: backbone.encode_images(image))
        kept_prompt = kept_bytes(backbone.model, lambda: backbone.encode_prompts(prompt)) if text_is_trained else 0
    vision, text = (getattr(backbone.model.config, f"{tower}_config") for tower in ("vision", "text"))
    places = tokens["input_ids"].shape[1], backbone.image_tokens
    size = backbone.dtype.itemsize
    if checkpointing:
        kept_image = _checkpointed(kept_image, vision, places[1], size)
        kept_prompt = _checkpointed(kept_prompt, text, places[0], size) if text_is_trained else 0
    return Needs(
        resident=resident_bytes(backbone.device),
        image=kept_image,
        prompt=kept_prompt,
        workspace=_workspace(vision, places[1], size),
        prompt_workspace=_workspace(text, places[0], size),
        adapter=3 * 4 * trained,
        overhead=OVERHEAD.get(backbone.device.type, 1.0),
    )


def kept_bytes(model: nn.Module, forward: Callable[[], Tensor]) -> int:
    """What autograd keeps of a forward pass besides the model itself, each storage once."""
    own = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        output = forward()
    del output
    return sum(kept.values())


def _checkpointed(kept: int, config: Any, places: int, size: int) -> int:
    """What enters each block, and what one block keeps while it is computed again."""
    depth = int(config.num_hidden_layers)
    return depth * places * int(config.hidden_size) * size + kept // depth


def _workspace(config: Any, places: int, size: int) -> int:
    """The widest moment is the backward pass through the MLP: five tensors of its inner width, four of the outer."""
    inner, width, heads = int(config.intermediate_size), int(config.hidden_size), int(config.num_attention_heads)
    return places * (5 * inner * size + 4 * width * 4) + 2 * heads * places * places * size


def resident_bytes(device: torch.device) -> int:
    """What is in use now: allocated on a CUDA device, or resident in this process."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))
    except (OSError, StopIteration):  # not Linux: the weights at least
        return 0


def choose_passes(needs: Needs, engine: EngineConfig, batch_size: int, prompts: int) -> Passes:
    """The largest cuts that fit the budget; what the recipe says itself is not changed.

    Raises:
        InputError: One image and one prompt at a time do not fit; the message says what would.
    """
    budget = math.inf if engine.memory_budget is None else parse_bytes(engine.memory_budget)
    images = engine.images_per_pass or min(batch_size, max(1, KEPT_AT_ONCE // max(1, needs.image)))
    chunk = engine.prompts_per_pass or min(prompts, max(1, KEPT_AT_ONCE // max(1, needs.prompt)))
    candidates = [
        Passes(i, p) for p in _halves(chunk, engine.prompts_per_pass) for i in _halves(images, engine.images_per_pass)
    ]
    for passes in candidates:
        if needs.peak(passes, prompts) <= budget:
            return passes
    smallest = min(needs.peak(passes, prompts) for passes in candidates)
    raise InputError(
        f"memory-budget {engine.memory_budget} is too small: this recipe needs {smallest / 1e9:.2f} GB at least"
        + ("" if engine.gradient_checkpointing else "; try gradient-checkpointing")
    )


def _halves(largest: int, fixed: int | None) -> list[int]:
    """The largest and its halves down to one; only itself where the recipe fixes it."""
    if fixed is not None:
        return [fixed]
    return [max(1, largest >> shift) for shift in range(largest.bit_length())]
