"""Dropout whose masks belong to the samples: the same whatever else is in the batch, and however it is cut up.

PEFT drops entries of an adapter's input with torch's global generator, so the mask of an image depends on all that was
drawn before. Here it depends on (seed, step, sample, layer) alone. A batch may then be computed in chunks of any size,
or a block computed twice by gradient checkpointing, and every mask is what it would have been in one pass.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

_STREAM = 3  # keeps the masks of a seed apart from its crops and its order
_LEVELS = 1 << 16


@dataclasses.dataclass
class MaskKeys:
    """Which masks are drawn now: set by the training step, read by every ``SampleDropout`` of the model."""

    seed: int
    step: int = 0
    samples: Sequence[int] = ()

    @contextlib.contextmanager
    def of(self, step: int, samples: Sequence[int]) -> Iterator[None]:
        """For the length of a block the rows of what passes through the model are these samples of this step."""
        before = self.step, self.samples
        self.step, self.samples = step, samples
        try:
            yield
        finally:
            self.step, self.samples = before


class SampleDropout(nn.Dropout):
    """Inverted dropout, each row of the input by a generator of its own.

    Args:
        p: Probability that an entry becomes zero; the others are divided by 1 - p.
        layer: Number of this layer in the model.
        keys: Shared by all layers of the model.
    """

    def __init__(self, p: float, layer: int, keys: MaskKeys) -> None:
        super().__init__(p)
        self.layer = layer
        self.keys = keys

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - nn.Dropout's own name
        """``(N, ..., D)`` to the same shape; N is the number of samples whose keys are set.

        Raises:
            RuntimeError: The keys are those of another number of samples.
        """
        kept = self.kept(input)
        return input if kept is None else input * kept / self.share_kept

    def kept(self, like: Tensor) -> Tensor | None:
        """Which entries are kept: ones and zeros of the input's shape, one byte each; None where all are.

        Raises:
            RuntimeError: The keys are those of another number of samples.
        """
        if not self.training or self.p == 0:
            return None
        if len(like) != len(self.keys.samples):
            raise RuntimeError(f"dropout has keys of {len(self.keys.samples)} samples for {len(like)} rows")
        count, threshold = like[0].numel(), round(self.p * _LEVELS)
        rows = [_levels(count, self.keys.seed, self.keys.step, sample, self.layer) for sample in self.keys.samples]
        kept = torch.from_numpy((np.stack(rows) >= threshold).view(np.uint8))
        return kept.to(like.device).view(like.shape)

    @property
    def share_kept(self) -> float:
        """Probability that an entry is kept: 1 - p, to 16 bits."""
        return 1 - round(self.p * _LEVELS) / _LEVELS


def _levels(count: int, *key: int) -> NDArray[np.uint16]:
    """Uniform whole numbers below ``_LEVELS``: fifteen times as fast to come by as torch's Bernoulli draws on a CPU."""
    raw: NDArray[np.uint64] = np.random.SFC64([*key, _STREAM]).random_raw((count + 3) // 4)
    return raw.view(np.uint16)[:count]


def key_dropout(model: nn.Module, seed: int) -> MaskKeys:
    """Replace the dropout of all LoRA layers in a model, in place; returns the keys that decide their masks.

    Other tuners of PEFT drop weights or ranks instead of inputs, which have no rows to go by; theirs stays as it is.
    """
    keys = MaskKeys(seed)
    layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
    for number, layer in enumerate(layers):
        for name, dropout in layer.lora_dropout.items():
            if isinstance(dropout, nn.Dropout):
                layer.lora_dropout[name] = SampleDropout(dropout.p, number, keys).train(dropout.training)
    return keys
