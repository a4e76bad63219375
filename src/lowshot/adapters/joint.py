"""The updates of all LoRA layers of a model, or of several runs on one, taken together for a training step.

Layer by layer each factor would be cast, scaled and given a gradient by itself: a dozen operations for each of 72
layers, on a GPU more than the products they prepare. Here all factors of a tower are one tensor in a step, outside
autograd's graph: cast and scaled at once, cut into the factors of layers that see the same input, and their gradients
gather on it. At the end of the step each parameter gets its part.

The adapters of several runs may be computed at once: what passes through the frozen layers has the rows of all runs
then, run after run and as many of each, and the factors of a layer lie together with the other runs' of that layer.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import re
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from .dropout import JoinedKeys, SampleDropout, joint_masks
from .lean import LeanMixin, low_rank

_NUMBER = re.compile(r"\.\d+\.")
"""A block's, in the name of a layer: before it stands the name of its tower's blocks."""


class JointUpdates:
    """Updates that LoRA and LoRA-XS layers add to frozen products.

    Args:
        model: With its adapter. Layers that are no plain LoRA are left to themselves.
        dtype: Type of the adapters' products; that of their parameters if not given.
        others: Models of further runs, with adapters of the same shapes on the same frozen weights. What is passed
            through the first model has the rows of all runs.

    Raises:
        ValueError: The others' adapters have other shapes.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype | None = None, others: Sequence[nn.Module] = ()) -> None:
        self._towers = _towers([model, *others], dtype)
        self._places = {
            id(layers[0]): (stack, place)
            for tower in self._towers
            for stack in tower.stacks
            for place, layers in enumerate(stack.layers)
        }

    @property
    def shapes(self) -> tuple[Hashable, ...]:
        """The facts that another run's adapter must share with this one, to be computed together with it."""
        return tuple((stack.alike, len(stack.layers)) for tower in self._towers for stack in tower.stacks)

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Those of all layers that are taken together, of all runs."""
        return [parameter for tower in self._towers for parameter in tower.parameters]

    @property
    def frozen_factors(self) -> list[Tensor]:
        """Copies of what LoRA-XS has on both sides of R, in the type of the products."""
        stacks = (stack for tower in self._towers for stack in tower.stacks)
        return [factor for stack in stacks for factor in stack.frozen]

    def begin(self) -> None:
        """Take the parameters' values for the steps' passes; no gradients have gathered."""
        for tower in self._towers:
            tower.begin()

    @contextlib.contextmanager
    def passing(self) -> Iterator[None]:
        """Around one pass through a tower: factors are handed out that have a graph of their own."""
        for tower in self._towers:
            tower.hand_out_anew()
        yield

    def finish(self) -> None:
        """Add the gradients that have gathered to the parameters'."""
        for tower in self._towers:
            tower.finish()

    def to(
        self, modules: Sequence[nn.Module]
    ) -> tuple[Sequence[nn.Module], Callable[[Tensor, Tensor], Tensor] | None] | None:
        """The frozen layers of modules that see the same input, and what is added to their outputs; see ``models``.

        Returns:
            None where a module is something else than a linear layer or a plain LoRA layer, or is kept by itself.
        """
        adapted = [(at, *self._places[id(m)]) for at, m in enumerate(modules) if id(m) in self._places]
        if any(isinstance(m, LeanMixin) and id(m) not in self._places for m in modules):
            return None
        bases = [cast(Any, m).get_base_layer() if id(m) in self._places else m for m in modules]
        if not adapted:
            return bases, None
        stacks, places = {id(stack) for _, stack, _ in adapted}, [place for _, _, place in adapted]
        first = places[0]
        if len(stacks) > 1 or places != list(range(first, first + len(places))):
            return None
        if len({base.out_features for base in bases}) > 1:
            return None
        layers = range(first, first + len(places))
        return bases, functools.partial(adapted[0][1].add, layers, [at for at, _, _ in adapted])


class _Stack:
    """LoRA layers of one tower with factors of the same shapes, n of them in the order in which the model holds them.

    Args:
        tower: Their tower.
        alike: What the layers have in common.
        layers: Of each layer that of every run, G of them.
        dtype: Type of their products; that of their parameters if not given.
    """

    def __init__(
        self, tower: _Tower, alike: _Alike, layers: Sequence[Sequence[LeanMixin]], dtype: torch.dtype | None
    ) -> None:
        self.alike, self.layers, self.runs = alike, layers, len(layers[0])
        self._tower = tower
        each = [(layer, cast(str, layer.lean_adapter())) for of_runs in layers for layer in of_runs]
        dropouts = [layer.lora_dropout[name] for layer, name in each]
        self._dropouts = dropouts[:: self.runs]  # the first run's, by which all are masked
        self._keys = JoinedKeys([each.keys for each in dropouts[: self.runs] if isinstance(each, SampleDropout)])
        scales = [layer.training_scale(name) for layer, name in each]
        firsts = [layer.lora_A[name] for layer, name in each]
        lasts = [layer.lora_B[name] for layer, name in each]
        trained = lasts[0].R if hasattr(lasts[0], "R") else lasts[0].weight
        self._outer: Tensor | None = None
        self._inner: Tensor | None = None
        like = {"dtype": trained.dtype, "device": trained.device}
        if hasattr(lasts[0], "R"):  # LoRA-XS: both factors are frozen, with R between them
            product_type = dtype or trained.dtype
            self._inner = torch.stack([first.weight for first in firsts]).to(product_type)
            self._outer = torch.stack([last.u for last in lasts]).to(product_type)
            self.parameters = [last.R for last in lasts]
            self.scales = torch.tensor(scales, **like).repeat_interleave(trained.numel())
        else:
            self.parameters = [*(first.weight for first in firsts), *(last.weight for last in lasts)]
            ones = torch.ones(sum(first.weight.numel() for first in firsts), **like)
            self.scales = torch.cat([ones, torch.tensor(scales, **like).repeat_interleave(trained.numel())])
        self._cuts = {0, len(layers)}
        self._whole: tuple[Tensor, Tensor] | None = None
        self._parts: list[tuple[Tensor, ...]] | None = None

    @property
    def frozen(self) -> list[Tensor]:
        """The factors that are not trained."""
        return [factor for factor in (self._inner, self._outer) if factor is not None]

    def add(self, layers: range, places: Sequence[int], outputs: Tensor, inputs: Tensor) -> Tensor:
        """Add the updates of some layers that see the same input ``(T, I)`` to their outputs, ``(T, n * O)``.

        Args:
            layers: Their numbers.
            places: Of each layer its place among those whose outputs lie side by side.
            outputs: Of n layers; changed in place.
            inputs: What they see.
        """
        return low_rank(inputs, self.masks(layers, inputs), *self.factors(layers), places, outputs, self.runs)

    def masks(self, layers: range, inputs: Tensor) -> Tensor | None:
        """Those of some layers for an input ``(T, I)``."""
        dropouts = [self._dropouts[layer] for layer in layers]
        if not isinstance(dropouts[0], SampleDropout):
            return None
        keys = dropouts[0].keys if self.runs == 1 else self._keys
        return joint_masks(dropouts, inputs.view(keys.rows, -1, inputs.shape[-1]), keys)

    def factors(self, layers: range) -> tuple[Tensor, Tensor]:
        """A ``(J * G, R, I)`` and B ``(J * G, O, R)`` of some layers, scaled, in the type of the products."""
        if self._whole is None:
            self._whole, self._parts = self._factors_of_all(self._tower.values(self)), None
        if not {layers.start, layers.stop} <= self._cuts:
            self._cuts, self._parts = self._cuts | {layers.start, layers.stop}, None
        cuts = sorted(self._cuts)
        if self._parts is None:  # a part's gradient is joined to the others' once; a slice's would be padded with zeros
            sizes = [self.runs * (stop - start) for start, stop in itertools.pairwise(cuts)]
            self._parts = [torch.split(each, sizes) for each in self._whole]
        first, last = cuts.index(layers.start), cuts.index(layers.stop)
        a, b = (torch.cat(parts[first:last]) if last - first > 1 else parts[first] for parts in self._parts)
        return a, b

    def hand_out_anew(self) -> None:
        """Forget the factors of the pass before."""
        self._whole = self._parts = None

    def _factors_of_all(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """A ``(n * G, R, I)`` and B ``(n * G, O, R)`` of all layers, from the scaled values."""
        count = self.runs * len(self.layers)
        if self._inner is not None and self._outer is not None:
            rank = self._inner.shape[1]
            b: Tensor = _FrozenTimes.apply(self._outer, values.view(count, rank, rank))  # type: ignore[no-untyped-call]
            return self._inner, b
        shapes = self.parameters[0].shape, self.parameters[-1].shape
        first, last = torch.split(values, [count * shape.numel() for shape in shapes])
        return first.view(count, *shapes[0]), last.view(count, *shapes[1])


class _Tower:
    """All stacks of one tower: their parameters' values in one tensor, on which gradients gather."""

    def __init__(self, layers: Mapping[_Alike, Sequence[Sequence[LeanMixin]]], dtype: torch.dtype | None) -> None:
        self.stacks = [_Stack(self, alike, each, dtype) for alike, each in layers.items()]
        self.parameters = [parameter for stack in self.stacks for parameter in stack.parameters]
        self._scales = torch.cat([stack.scales for stack in self.stacks])
        self._dtype = dtype or self.parameters[0].dtype
        self._leaf: Tensor | None = None
        self._values: dict[int, Tensor] | None = None

    def begin(self) -> None:
        """Take the parameters' values."""
        self._leaf = torch.cat([parameter.detach().flatten() for parameter in self.parameters]).requires_grad_()
        self.hand_out_anew()

    def hand_out_anew(self) -> None:
        """Forget what was handed out in the pass before."""
        self._values = None
        for stack in self.stacks:
            stack.hand_out_anew()

    def values(self, stack: _Stack) -> Tensor:
        """A stack's part, scaled and in the type of the products."""
        if self._values is None:
            assert self._leaf is not None, "no step has begun"
            scaled: Tensor = _Scaled.apply(self._leaf, self._scales, self._dtype)  # type: ignore[no-untyped-call]
            parts = torch.split(scaled, [len(each.scales) for each in self.stacks])
            self._values = {id(each): part for each, part in zip(self.stacks, parts, strict=True)}
        return self._values[id(stack)]

    def finish(self) -> None:
        """Give each parameter its part of what has gathered."""
        leaf, self._leaf = self._leaf, None
        self.hand_out_anew()
        assert leaf is not None, "no step has begun"
        if leaf.grad is None:
            return
        parts = torch.split(leaf.grad, [parameter.numel() for parameter in self.parameters])
        for parameter, part in zip(self.parameters, parts, strict=True):
            gradient = part.view_as(parameter)
            parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient


# Nothing is saved for these two: factors may be handed out within a block that is computed again in the backward pass,
# where they are there already, and a block must save the same both times.
class _Scaled(torch.autograd.Function):
    """Values times their scales, in another type."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, scales: Tensor, dtype: torch.dtype) -> Tensor:
        ctx.scales = scales
        return (values * scales).to(dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return gradient * ctx.scales, None, None


class _FrozenTimes(torch.autograd.Function):
    """A product with a frozen matrix on the left, which gets no gradient."""

    @staticmethod
    def forward(ctx: Any, frozen: Tensor, values: Tensor) -> Tensor:
        ctx.frozen = frozen
        return frozen @ values

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return None, ctx.frozen.mT @ gradient


class _Alike(NamedTuple):
    """The facts that layers share which can be computed together."""

    tower: str
    """Name of its blocks."""
    inputs: int
    outputs: int
    rank: int
    threshold: int
    """Of their dropout."""


def _towers(models: Sequence[nn.Module], dtype: torch.dtype | None) -> list[_Tower]:
    """The plain LoRA layers of all runs by tower, and there by what they have in common."""
    first, *others = [_layers(model) for model in models]
    expected = {alike: len(layers) for alike, layers in first.items()}
    if any({alike: len(layers) for alike, layers in other.items()} != expected for other in others):
        raise ValueError("adapters of other shapes cannot be computed together")
    towers: dict[str, dict[_Alike, Sequence[Sequence[LeanMixin]]]] = {}
    for alike, layers in first.items():
        of_runs = zip(layers, *(other[alike] for other in others), strict=True)
        towers.setdefault(alike.tower, {})[alike] = list(of_runs)
    return [_Tower(each, dtype) for each in towers.values()]


def _layers(model: nn.Module) -> dict[_Alike, list[LeanMixin]]:
    layers: dict[_Alike, list[LeanMixin]] = {}
    for name, layer in model.named_modules():
        if isinstance(layer, LeanMixin) and (adapter := layer.lean_adapter()) is not None:
            threshold = getattr(layer.lora_dropout[adapter], "threshold", 0)
            tower = _NUMBER.split(name, maxsplit=1)[0]
            alike = _Alike(tower, layer.in_features, layer.out_features, layer.r[adapter], threshold)
            layers.setdefault(alike, []).append(layer)
    return layers
