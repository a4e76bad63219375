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
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

_STREAM = 3  # keeps the masks of a seed apart from its crops and its order


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
        if not self.training or self.p == 0:
            return input
        if len(input) != len(self.keys.samples):
            raise RuntimeError(f"dropout has keys of {len(self.keys.samples)} samples for {len(input)} rows")
        return input * self._mask(input)

    def _mask(self, like: Tensor) -> Tensor:
        mask = torch.empty_like(like)
        generator = torch.Generator(like.device)
        for row, sample in zip(mask, self.keys.samples, strict=True):
            generator.manual_seed(_mixed(self.keys.seed, self.keys.step, sample, self.layer))
            row.bernoulli_(1 - self.p, generator=generator)
        return mask.div_(1 - self.p)


def _mixed(*key: int) -> int:
    return int(np.random.SeedSequence([*key, _STREAM]).generate_state(1, np.uint64)[0] >> np.uint64(1))


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
