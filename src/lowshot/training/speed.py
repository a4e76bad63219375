"""How fast this machine is with a model that need not be here: one transformer block of its size is timed."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

import torch
from torch import Tensor

from ..models.blocks import Attention, run_blocks
from ..models.clip import Clip, ClipConfig
from ..models.devices import settle
from ..models.layout import CLIP_BLOCK
from ..randomness import seeded


@dataclasses.dataclass(frozen=True)
class TowerShape:
    """The size of an image tower; by default that of ViT-B/16."""

    width: int = 768
    heads: int = 12
    depth: int = 12
    tokens: int = 197


@dataclasses.dataclass(frozen=True)
class Pace:
    """Images a second through an image tower, by its blocks alone."""

    encoded: float
    """Forward."""
    trained: float
    """Forward and back, as where adapters are trained in every block."""


def measure_pace(
    device: torch.device, dtype: torch.dtype, shape: TowerShape | None = None, *, images: int, seconds: float = 0.5
) -> Pace:
    """Time a block of random weights.

    Args:
        device: Where.
        dtype: Type that is computed in.
        shape: Of the tower; ViT-B/16 if not given.
        images: Images at once.
        seconds: About how long each of the two is timed.
    """
    shape = shape or TowerShape()
    size = {
        "hidden_size": shape.width,
        "intermediate_size": 4 * shape.width,
        "num_attention_heads": shape.heads,
        "hidden_act": "gelu",
    }
    vision = {**size, "num_channels": 3, "patch_size": 16, "image_size": 16}
    text = {**size, "hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 1}
    towers = {"vision_config": vision, "text_config": {**text, "vocab_size": 2, "max_position_embeddings": 1}}
    shared = {"num_hidden_layers": 1, "layer_norm_eps": 1e-5, "eos_token_id": 1}
    parts = {name: ClipConfig({**tower, **shared}) for name, tower in towers.items()}
    with seeded(0):
        model = Clip(ClipConfig(logit_scale_init_value=1.0, projection_dim=8, **parts))
        hidden = torch.randn(images, shape.tokens, shape.width)
    layers = list(model.requires_grad_(False).to(device, dtype).vision_model.encoder.layers)
    hidden = hidden.to(device, dtype)

    def forward(inputs: Tensor) -> Tensor:
        return run_blocks(layers, inputs, layout=CLIP_BLOCK, attention=Attention(causal=False), token=None)

    def both() -> None:
        inputs = hidden.detach().requires_grad_()
        torch.autograd.grad(forward(inputs).float().sum(), inputs)

    with torch.no_grad():
        encoded = _rate(lambda: forward(hidden), device, seconds)
    trained = _rate(both, device, seconds)
    return Pace(encoded * images / shape.depth, trained * images / shape.depth)


def _rate(work: Callable[[], object], device: torch.device, seconds: float) -> float:
    """How often a second something is done, after it was done once."""
    for count in (1, 1 << 30):
        started, times = time.perf_counter(), 0
        while times < count and (times == 0 or time.perf_counter() - started < seconds):
            work()
            times += 1
            settle(device)
    return times / (time.perf_counter() - started)
