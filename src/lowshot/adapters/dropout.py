"""Dropout whose masks belong to the samples: the same whatever else is in the batch, and however it is cut up.

PEFT drops entries of an adapter's input with torch's global generator, so the mask of an image depends on all that was
drawn before. Here it depends on (seed, step, sample, layer) alone. A batch may then be computed in chunks of any size,
or a block computed twice by gradient checkpointing, and every mask is what it would have been in one pass.

There are two generators. On the CPU masks are drawn by NumPy's SFC64, sample by sample: 0.09 ms for an image's mask
at one layer of ViT-B/16 on one thread of an AMD EPYC, 0.1 s for a step of 32 images with 36 such layers. A GPU would
have to wait for that, and for the copies. For it a mask is a hash of its keys and of the entry's number, computed where
the input is, in seven operations for all samples and for all layers that see the same input. Step and samples may be
tensors that live there: then no number comes from the processor, and a CUDA graph of a step can be replayed for
another one. On the CPU the hash would be the slower one: 0.3 ms for an image's mask. Both keep the same share of
entries, but not the same entries: a seed stands for one run on CPUs and for another on GPUs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

_STREAM = 3  # keeps the masks of a seed apart from its crops and its order
_LEVELS = 1 << 16
# SplitMix64's (Steele, Lea and Flood 2014, doi 10.1145/2660193.2660195), as signed numbers: torch has no others.
_INCREMENT = 0x9E3779B97F4A7C15 - (1 << 64)
_MULTIPLIERS = 0xBF58476D1CE4E5B9 - (1 << 64), 0x94D049BB133111EB - (1 << 64)


@dataclasses.dataclass
class MaskKeys:
    """Which masks are drawn now: set by the training step, read by every ``SampleDropout`` of the model.

    Args:
        seed: Of the run.
        layers: How many layers of the model have masks.
        step: Number of the step, or a tensor that holds it.
        samples: Numbers of the rows of what passes through the model, or a tensor of them, ``(N,)``.
    """

    seed: int
    layers: int = 1
    step: int | Tensor = 0
    samples: Sequence[int] | Tensor = ()

    def __post_init__(self) -> None:
        self._words: Tensor | None = None
        self._constants: dict[tuple[object, ...], Tensor] = {}

    @contextlib.contextmanager
    def of(self, step: int | Tensor, samples: Sequence[int] | Tensor) -> Iterator[None]:
        """For the length of a block the rows of what passes through the model are these samples of this step."""
        before = self.step, self.samples, self._words
        self.step, self.samples, self._words = step, samples, None
        try:
            yield
        finally:
            self.step, self.samples, self._words = before

    @property
    def rows(self) -> int:
        """N, the rows of what passes through the model."""
        return len(self.samples)

    def drawn_by(self) -> list[tuple[int, int, int]]:
        """Seed, step and number of each sample, on the processor."""
        return [(self.seed, int(self.step), int(sample)) for sample in torch.as_tensor(self.samples).tolist()]

    def words(self, device: torch.device) -> Tensor:
        """Two words for each layer and sample, ``(2, layers, N, 1)``, int64: see ``_hashed_levels``.

        They are computed once for all layers, the first time one of them asks.
        """
        if self._words is None or self._words.device != device:
            bases = self._constant(("bases", self.layers, device), lambda: _layer_bases(self.seed, self.layers, device))
            self._words = _sample_words(self.samples, self.step, bases)[..., None]
        return self._words

    def places(self, count: int, device: torch.device) -> Tensor:
        """0 to ``count`` - 1, int64; made once."""
        return self._constant((count, device), lambda: torch.arange(count, device=device))

    def _constant(self, name: tuple[object, ...], make: Callable[[], Tensor]) -> Tensor:
        key = (self.seed, *name)
        if key not in self._constants:
            self._constants[key] = make()
        return self._constants[key]


class JoinedKeys:
    """Keys of several runs whose rows pass through the model together, run after run.

    Args:
        each: Those of each run, as many rows of each.
    """

    def __init__(self, each: Sequence[MaskKeys]) -> None:
        self._each = each
        self._parts: list[Tensor] = []
        self._words: Tensor | None = None

    @property
    def rows(self) -> int:
        """Those of all runs."""
        return sum(keys.rows for keys in self._each)

    def drawn_by(self) -> list[tuple[int, int, int]]:
        """See ``MaskKeys``."""
        return [key for keys in self._each for key in keys.drawn_by()]

    def words(self, device: torch.device) -> Tensor:
        """See ``MaskKeys``; they are joined once for all layers of a pass."""
        parts = [keys.words(device) for keys in self._each]
        if self._words is None or any(one is not other for one, other in zip(parts, self._parts, strict=True)):
            self._parts, self._words = parts, torch.cat(parts, 2)
        return self._words

    def places(self, count: int, device: torch.device) -> Tensor:
        """See ``MaskKeys``."""
        return self._each[0].places(count, device)


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
        keys.layers = max(keys.layers, layer + 1)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - nn.Dropout's own name
        """``(N, ..., D)`` to the same shape; N is the number of samples whose keys are set.

        Raises:
            RuntimeError: The keys are those of another number of samples.
        """
        mask = self.mask(input)
        return input if mask is None else input * mask / self.share_kept

    def mask(self, like: Tensor) -> Tensor | None:
        """Which entries are kept: ones and zeros of the input's shape, one byte each; None where all are.

        Raises:
            RuntimeError: The keys are those of another number of samples.
        """
        masks = joint_masks([self], like)
        return None if masks is None else masks[0]

    @property
    def share_kept(self) -> float:
        """Probability that an entry is kept: 1 - p, to 16 bits."""
        return 1 - self.threshold / _LEVELS

    @property
    def threshold(self) -> int:
        """Of 65,536 levels those below it are dropped. The highest never is: what is kept is divided by its share."""
        return min(round(self.p * _LEVELS), _LEVELS - 1)


def joint_masks(
    layers: Sequence[SampleDropout], like: Tensor, keys: MaskKeys | JoinedKeys | None = None
) -> Tensor | None:
    """The masks of layers that see the same input, J of them, ``(J, N, ..., D)``; see ``SampleDropout.mask``.

    Args:
        layers: With the same probability, numbered one after the other.
        like: The input, ``(N, ..., D)``.
        keys: Those of the rows; the layers' own if not given.

    Raises:
        RuntimeError: The keys are those of another number of samples.
    """
    first = layers[0]
    keys, threshold = first.keys if keys is None else keys, first.threshold
    if not first.training or threshold == 0:
        return None
    if len(like) != keys.rows:
        raise RuntimeError(f"dropout has keys of {keys.rows} samples for {len(like)} rows")
    numbers = range(first.layer, first.layer + len(layers))
    assert [layer.layer for layer in layers] == list(numbers), "masks of layers that do not lie together"
    make = (
        _drawn if like.device.type in ("cpu", "mps") else _hashed
    )  # Metal lacks some of the products of whole numbers
    return make(like[0].numel(), threshold, numbers, keys, like.device).view(len(layers), *like.shape)


def key_dropout(model: nn.Module, seed: int) -> MaskKeys:
    """Replace the dropout of all LoRA layers in a model, in place; returns the keys that decide their masks.

    Other tuners of PEFT drop weights or ranks instead of inputs, which have no rows to go by; theirs stays as it is.
    """
    from peft.tuners.lora import LoraLayer

    layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
    keys = MaskKeys(seed)
    for number, layer in enumerate(layers):
        for name, dropout in layer.lora_dropout.items():
            if isinstance(dropout, nn.Dropout):
                layer.lora_dropout[name] = SampleDropout(dropout.p, number, keys).train(dropout.training)
    return keys


def _drawn(
    count: int, threshold: int, layers: Sequence[int], keys: MaskKeys | JoinedKeys, device: torch.device
) -> Tensor:
    """Masks ``(J, N, count)`` of some layers by SFC64, which the CPU draws."""
    drawn_by = keys.drawn_by()
    masks = np.empty((len(layers), len(drawn_by), count), np.bool_)
    for rows, layer in zip(masks, layers, strict=True):
        for row, key in zip(rows, drawn_by, strict=True):  # one by one: a sample's levels fit into the cache
            np.greater_equal(_levels(count, *key, layer), threshold, out=row)
    return torch.from_numpy(masks.view(np.uint8)).to(device)


def _levels(count: int, *key: int) -> NDArray[np.uint16]:
    """Uniform whole numbers below ``_LEVELS``: fifteen times as fast to come by as torch's Bernoulli draws on a CPU."""
    raw: NDArray[np.uint64] = np.random.SFC64([*key, _STREAM]).random_raw((count + 3) // 4)
    return raw.view(np.uint16)[:count]


def _hashed(
    count: int, threshold: int, layers: Sequence[int], keys: MaskKeys | JoinedKeys, device: torch.device
) -> Tensor:
    """Masks ``(J, N, count)`` of some layers by a hash, the same on every device.

    Beside the masks it takes as many bytes while they are made, or twice as many where a share of entries, unlike the
    published quarter, is no multiple of 1/256: a level then has two bytes instead of one.
    """
    words = keys.words(device)[:, layers[0] : layers[-1] + 1]
    dtype = torch.int8 if threshold % 256 == 0 else torch.int16
    each = 8 // dtype.itemsize
    levels = _hashed_levels(count, words, keys.places(-(-count // each), device), dtype)
    lowest = torch.iinfo(dtype).min
    return (levels > threshold // (_LEVELS // (-2 * lowest)) - 1 + lowest).view(torch.uint8)


def _hashed_levels(count: int, words: Tensor, places: Tensor, dtype: torch.dtype = torch.int16) -> Tensor:
    """Uniform whole numbers of a type of one or two bytes, ``(..., count)``: eight or four of each 64-bit word.

    A sample's words are a counter from its first word on in steps of its second, which is odd, scrambled. Each
    operation maps 64-bit words one to one: over all first words every level is exactly as frequent as any other.

    Args:
        count: Levels of each sample.
        words: Those of ``_sample_words``, ``(2, ..., 1)``.
        places: 0, 1, 2 and so on, one for every word.
        dtype: int16 or int8.
    """
    first, step = words
    return _scramble(torch.addcmul(first, step, places)).view(dtype)[..., :count]


def _sample_words(samples: Sequence[int] | Tensor, step: int | Tensor, bases: Tensor) -> Tensor:
    """Two words for each layer and sample, ``(2, layers, N)``, int64, the second one odd.

    Args:
        samples: Their numbers.
        step: Number of the step.
        bases: A word for each layer, ``(layers,)``.
    """
    samples, step = (
        numbers if isinstance(numbers, Tensor) else torch.as_tensor(numbers, device=bases.device)
        for numbers in (samples if isinstance(samples, Tensor) else list(samples), step)
    )
    key = _scramble(bases + step * _INCREMENT)
    first = _scramble(torch.add(key[:, None], samples, alpha=_INCREMENT))
    return torch.stack([first, _scramble(first + _INCREMENT) | 1])


def _layer_bases(seed: int, layers: int, device: torch.device) -> Tensor:
    """A word for each layer of a model, ``(layers,)``, int64."""
    texts = (f"{_STREAM} {seed} {layer}".encode() for layer in range(layers))
    words = [int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little", signed=True) for text in texts]
    return torch.tensor(words, device=device)


def _scramble(words: Tensor) -> Tensor:
    """Mix the bits of 64-bit words, one to one and in place: SplitMix64's multipliers between shifts by half a word.

    torch shifts signed words arithmetically; the high half of a word, seen as a word of 32 bits, needs no shift.
    """
    halves = words.view(torch.int32)
    low, high = halves[..., 0::2], halves[..., 1::2]
    low.bitwise_xor_(high)
    for multiplier in _MULTIPLIERS:
        words.mul_(multiplier)
        low.bitwise_xor_(high)
    return words
