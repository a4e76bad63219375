"""Dropout whose masks belong to the samples: the same whatever else is in the batch, and however it is cut up.

PEFT drops entries of an adapter's input with torch's global generator, so the mask of an image depends on all that was
drawn before. Here it depends on (seed, step, sample, layer) alone. A batch may then be computed in chunks of any size,
or a block computed twice by gradient checkpointing, and every mask is what it would have been in one pass.

There are two generators. On the CPU masks are drawn by NumPy's SFC64, sample by sample: 0.09 ms for an image's mask
at one layer of ViT-B/16 on one thread of an AMD EPYC, 0.1 s for a step of 32 images with 36 such layers. A GPU would
have to wait for that, and for the copies. For it a mask is a hash of its keys and of the entry's number, computed where
the input is, for all samples at once, in eight operations; the CPU spends 0.02 ms a layer on two words for each sample.
On the CPU the hash would be the slower one: 0.3 ms for an image's mask. Both keep the same share of entries, but not
the same entries: a seed stands for one run on CPUs and for another on GPUs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

_STREAM = 3  # keeps the masks of a seed apart from its crops and its order
_LEVELS = 1 << 16
_INCREMENT = np.uint64(0x9E3779B97F4A7C15)  # SplitMix64's (Steele, Lea and Flood 2014, doi 10.1145/2660193.2660195)
_MULTIPLIERS = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


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
        if not self.training or self._threshold == 0:
            return None
        if len(like) != len(self.keys.samples):
            raise RuntimeError(f"dropout has keys of {len(self.keys.samples)} samples for {len(like)} rows")
        key = self.keys.seed, self.keys.step, self.layer
        if like.device.type == "cpu":
            kept = _drawn(like[0].numel(), self._threshold, self.keys.samples, key)
        else:
            kept = _hashed(like[0].numel(), self._threshold, self.keys.samples, key, like.device)
        return kept.view(like.shape)

    @property
    def share_kept(self) -> float:
        """Probability that an entry is kept: 1 - p, to 16 bits."""
        return 1 - self._threshold / _LEVELS

    @property
    def _threshold(self) -> int:
        """Levels below it are dropped. The highest never is: what is kept is divided by its share."""
        return min(round(self.p * _LEVELS), _LEVELS - 1)


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


def _drawn(count: int, threshold: int, samples: Sequence[int], key: tuple[int, int, int]) -> Tensor:
    """Masks ``(N, count)`` by SFC64; the key is (seed, step, layer)."""
    seed, step, layer = key
    kept = np.empty((len(samples), count), np.bool_)
    for row, sample in zip(kept, samples, strict=True):  # one by one: a sample's levels fit into the cache
        np.greater_equal(_levels(count, seed, step, sample, layer), threshold, out=row)
    return torch.from_numpy(kept.view(np.uint8))


def _levels(count: int, *key: int) -> NDArray[np.uint16]:
    """Uniform whole numbers below ``_LEVELS``: fifteen times as fast to come by as torch's Bernoulli draws on a CPU."""
    raw: NDArray[np.uint64] = np.random.SFC64([*key, _STREAM]).random_raw((count + 3) // 4)
    return raw.view(np.uint16)[:count]


def _hashed(
    count: int, threshold: int, samples: Sequence[int], key: tuple[int, int, int], device: torch.device
) -> Tensor:
    """Masks ``(N, count)`` by a hash, the same on every device; the key is (seed, step, layer).

    Beside the mask it takes two bytes an entry while it is made.
    """
    levels = _hashed_levels(count, _sample_words(samples, key), device)
    return (levels > threshold - 1 - _LEVELS // 2).view(torch.uint8)


def _hashed_levels(count: int, words: NDArray[np.uint64], device: torch.device) -> Tensor:
    """Uniform whole numbers from -2^15 to 2^15 - 1, ``(N, count)``, int16: four of each 64-bit word.

    A sample's words are a counter from its first word on in steps of its second, put through SplitMix64's multipliers.
    Each operation maps 64-bit words one to one: over all first words every level is exactly as frequent as any other.

    Args:
        count: Levels of each sample.
        words: Those of ``_sample_words``, ``(2, N)``.
        device: Where the levels are made.
    """
    # Staged by the driver before the call returns: the processor need not wait for the device.
    first, step = torch.from_numpy(words.view(np.int64)[..., None]).to(device, non_blocking=True)
    mixed = torch.addcmul(first, step, torch.arange((count + 3) // 4, device=device))
    # torch shifts signed words arithmetically; the high half of a word, seen as a word of 32 bits, needs no shift.
    halves = mixed.view(torch.int32)
    low, high = halves[:, 0::2], halves[:, 1::2]
    low.bitwise_xor_(high)
    for multiplier in _MULTIPLIERS:
        mixed.mul_(multiplier - (1 << 64))  # the same multiplier as a signed number
        low.bitwise_xor_(high)
    return mixed.view(torch.int16)[:, :count]


def _sample_words(samples: Sequence[int], key: tuple[int, int, int]) -> NDArray[np.uint64]:
    """Two words for each sample, ``(2, N)``, the second one odd; the key is (seed, step, layer)."""
    seed, step, layer = key
    text = f"{_STREAM} {seed} {step} {layer}"
    base = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
    first = _mixed(np.asarray(samples, np.uint64) * _INCREMENT + np.uint64(base))
    return np.stack([first, _mixed(first + _INCREMENT) | np.uint64(1)])


def _mixed(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's mix of 64 bits."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(_MULTIPLIERS[0])
    words = (words ^ (words >> np.uint64(27))) * np.uint64(_MULTIPLIERS[1])
    return words ^ (words >> np.uint64(31))
