"""How a batch is cut up: what one image and one prompt need is measured on the model itself, the rest is arithmetic."""

from __future__ import annotations

import dataclasses
import math
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..adapters import MaskKeys
from ..adapters.joint import JointUpdates
from ..errors import InputError
from ..models import Backbone, Products
from ..settings import EngineConfig, parse_bytes
from .class_vectors import StepVectors
from .memory import free_bytes, resident_bytes
from .step import Passes

KEPT_AT_ONCE = {"cpu": 1 << 28}
"""Bytes that a pass takes at most where no budget is set and nothing is said: larger passes are no faster on a CPU, and
touch fresh memory. A GPU is the faster the more it is given at once."""
SHARE_OF_FREE = 0.9
"""Share of a device's free memory that is planned with."""
WORKSPACE = {"cuda": 48 * 10**6}
"""Bytes that cuBLAS keeps for each stream that multiplies, seen on an H200: steps have one of their own."""
OVERHEAD = {"cuda": 1.04, "cpu": 1.8}
"""Bytes that an allocator takes for each that is asked of it. CUDA's rounds up. glibc's, on a CPU, leaves gaps between
tensors that live long and those that do not: 1.55 to 1.8 times as much was resident here (ViT-B/16). With every tensor
mapped by itself it is 1.04 there too (MALLOC_MMAP_THRESHOLD_=131072), but a step then takes 1.6 times as long."""
SCRATCH = {"cpu": 10**8}
"""Bytes that libraries and the allocator take besides, at most: so many were missing in every prediction."""

GAPS = {"cpu": 0.45}
"""Where prompts are cut, passes of both towers come by turns, and one does not fill the gaps that the other leaves:
this share of the smaller of the two lies beside the larger (1,000 classes on ViT-B/16)."""


@dataclasses.dataclass(frozen=True)
class Needs:
    """Bytes that a training step takes on this model."""

    resident: int
    """Before the step: on a CPU the whole process, on CUDA what is allocated."""
    image: int
    """Kept for the backward pass of each image."""
    prompt: int
    """Kept for the backward pass of each prompt; 0 where the text tower is not trained."""
    workspace: int
    """Temporary tensors while one image is at its widest."""
    prompt_workspace: int
    adapter: int
    """Gradients, both moments of AdamW, and the last good values. Where that is much it lies in large pieces, without
    overhead."""
    overhead: float = 1.0
    """The allocator's; see ``OVERHEAD``."""
    scratch: int = 0
    """See ``SCRATCH``."""
    gaps: float = 0.0
    """See ``GAPS``."""
    prompts_once: int = 0
    """Kept for the backward pass of prompts besides, however many: of what they begin with, and of weights."""
    cached: int = 0
    """Kept from step to step: what enters the first trained blocks. It lies in large pieces, without overhead."""
    fixed: int = 0
    """Buffers and libraries, whatever the cuts."""
    at_once: float = KEPT_AT_ONCE["cpu"]
    """See ``KEPT_AT_ONCE``."""
    free: int | None = None
    """The device's free memory, on top of what is resident; None where it is not known."""

    def peak(self, passes: Passes, prompts: int) -> int:
        """The height of a step with these cuts."""
        whole = passes.prompts >= prompts
        texts = self.prompts_once + self.prompt * prompts if whole else 0
        images = passes.images * (self.image + self.workspace)
        chunk = self.prompts_once + passes.prompts * (self.prompt + self.prompt_workspace)
        gaps = 0.0 if whole else self.gaps * min(images, chunk)
        working = self.overhead * (max(texts + images, chunk) + gaps)
        return int(self.resident + self.cached + self.fixed + self.adapter + working + min(self.scratch, working))


def measure_needs(
    backbone: Backbone,
    vectors: StepVectors,
    keys: MaskKeys,
    trained: int,
    *,
    vectors_are_trained: bool,
    checkpointing: bool = False,
    views_bytes: int = 0,
    scores_bytes: int = 0,
    buffers_bytes: int = 0,
    products_in: torch.dtype | None = None,
) -> Needs:
    """Put an image, a prompt and two prompts through the towers as a step does, and see what autograd keeps.

    Args:
        backbone: With its adapter.
        vectors: Those of the classes, as the step will have them.
        keys: Those of the adapters' dropout.
        trained: Number of trained parameters.
        vectors_are_trained: See ``ExactStep``.
        checkpointing: Whether blocks will be computed again in the backward pass.
        views_bytes: What will be kept of views of images.
        scores_bytes: What the class scores of an image take.
        buffers_bytes: What a batch's pixels take, and making them.
        products_in: Type of the adapters' own products; see ``ExactStep``.
    """
    updates = JointUpdates(backbone.model, products_in)
    products = Products(updates)

    def kept_of(count: int, forward: Callable[[], Tensor]) -> int:
        updates.begin()
        with backbone.training(), backbone.computed_by(products), keys.of(0, range(count)), updates.passing():
            return kept_bytes(backbone.model, forward, updates.frozen_factors)

    def kept_of_vectors(count: int) -> int:
        return kept_of(count, lambda: vectors.encode(range(count), anew=True))

    side = backbone.image_size
    image = kept_of(1, lambda: backbone.encode_images(torch.zeros(1, 3, side, side)))
    prompt = once = 0
    if vectors_are_trained:  # one prompt and two tell what is kept of each from what is kept once for all
        one, two = kept_of_vectors(1), kept_of_vectors(min(2, len(vectors)))
        prompt, once = two - one, max(0, 2 * one - two)
    vision, text, size, rows = (
        backbone.vision_config,
        vectors.text,
        backbone.dtype.itemsize,
        backbone.image_prompts or 1,
    )
    if checkpointing:
        blocks = {tower: depth - backbone.first_trained_stage(tower) for tower, depth in backbone.depths.items()}
        image = _checkpointed(image, blocks["vision"], rows * backbone.image_tokens * vision.hidden_size * size)
        if text is not None:
            prompt = _checkpointed(prompt, blocks["text"], text.own * text.config.hidden_size * size)
            once = _checkpointed(once, blocks["text"], text.shared * text.config.hidden_size * size)
    of_text = 0
    if text is not None:
        inner = int(text.config.intermediate_size)
        of_text = _workspace(text.config, inner, text.own, text.own + text.shared, size)
    return Needs(
        resident=resident_bytes(backbone.device),
        image=image + scores_bytes,
        prompt=prompt,
        workspace=rows * _workspace(vision, backbone.inner_width, backbone.image_tokens, backbone.image_tokens, size),
        prompt_workspace=of_text,
        adapter=4 * 4 * trained,
        overhead=OVERHEAD.get(backbone.device.type, 1.0),
        scratch=SCRATCH.get(backbone.device.type, 0),
        gaps=GAPS.get(backbone.device.type, 0.0),
        prompts_once=once,
        cached=vectors.cached_bytes + views_bytes,
        fixed=buffers_bytes + WORKSPACE.get(backbone.device.type, 0),
        at_once=KEPT_AT_ONCE.get(backbone.device.type, math.inf),
        free=free_bytes(backbone.device),
    )


def kept_bytes(model: nn.Module, forward: Callable[[], Tensor], frozen: Sequence[Tensor] = ()) -> int:
    """Bytes that autograd keeps of a forward pass besides the model itself and frozen tensors, each storage once."""
    alive: weakref.WeakSet[_Saved] = weakref.WeakSet()

    def note(tensor: Tensor) -> _Saved:
        saved = _Saved(tensor.detach())  # else a node that saves its own output would keep itself alive
        alive.add(saved)
        return saved

    with torch.autograd.graph.saved_tensors_hooks(note, lambda saved: saved.tensor):
        output = forward()
    # Asked for last: the first forward pass lays frozen weights side by side.
    own = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers(), *frozen)}
    # A part of the graph that is detached and dropped on the way, as DoRA's norms are, is not kept.
    storages = {s.data_ptr(): s.nbytes() for s in (saved.tensor.untyped_storage() for saved in alive)}
    del output
    return sum(size for pointer, size in storages.items() if pointer not in own)


class _Saved:
    """A tensor that a graph holds on to, for as long as there is the graph."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


def _checkpointed(kept: int, blocks: int, entering: int) -> int:
    """Bytes that enter each block, and that one block keeps while it is computed again, with as many for gradients."""
    return blocks * entering + 2 * kept // blocks if kept else 0


def _workspace(config: Any, inner: int, places: int, seen: int, size: int) -> int:
    """The widest moment is the backward pass through the MLP: five tensors of its inner width, four of the outer."""
    width, heads = int(config.hidden_size), int(config.num_attention_heads)
    return places * (5 * inner * size + 4 * width * 4) + 2 * heads * places * seen * size


def choose_passes(needs: Needs, engine: EngineConfig, batch_size: int, prompts: int) -> Passes:
    """The largest cuts that fit the budget, or else what is free; what the recipe says itself is not changed.

    Raises:
        InputError: One image and one prompt at a time do not fit; the message says what would.
    """
    budget = math.inf if needs.free is None else needs.resident + SHARE_OF_FREE * needs.free
    if engine.memory_budget is not None:
        budget = parse_bytes("memory_budget", engine.memory_budget)
    images = engine.images_per_pass or _at_once(needs.at_once, needs.image + needs.workspace, batch_size)
    chunk = engine.prompts_per_pass or _at_once(needs.at_once, needs.prompt + needs.prompt_workspace, prompts)
    candidates = [
        Passes(i, p) for p in _halves(chunk, engine.prompts_per_pass) for i in _halves(images, engine.images_per_pass)
    ]
    for passes in candidates:
        if needs.peak(passes, prompts) <= budget:
            return Passes(
                passes.images if engine.images_per_pass else _evened(batch_size, passes.images),
                passes.prompts if engine.prompts_per_pass else _evened(prompts, passes.prompts),
            )
    if engine.memory_budget is None:  # it is tried: what is free is no promise, neither way
        return candidates[-1]
    smallest = min(needs.peak(passes, prompts) for passes in candidates)
    raise InputError(
        f"memory-budget {engine.memory_budget} is too small: this recipe needs {smallest / 1e9:.2f} GB at least"
        + ("" if engine.gradient_checkpointing else "; try gradient-checkpointing")
    )


def _at_once(most: float, each: int, count: int) -> int:
    """How many of ``count`` things of ``each`` bytes there may be in ``most`` bytes; one at least."""
    return count if most == math.inf else min(count, max(1, int(most) // max(1, each)))


def _evened(total: int, most: int) -> int:
    """The smallest cut that makes no more passes: 60 and 60 need less memory than 100 and 20, and no more time."""
    return math.ceil(total / math.ceil(total / most))


def _halves(largest: int, fixed: int | None) -> list[int]:
    """The largest and its halves down to one; only itself where the recipe fixes it."""
    if fixed is not None:
        return [fixed]
    return [max(1, largest >> shift) for shift in range(largest.bit_length())]
