"""Levers of the engine measured alone, each against the plain way in the same run; and where a step's time goes.

    .venv/bin/python benchmarks/levers.py [--json] [--smoke]

Prints tables and writes benchmarks/results/<date>-<hardware>-levers.json.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np
import torch
from cases import Case, lowshot_learner
from measuring import Output, finish, in_turn, milliseconds
from shapes import SHAPES
from torch import Tensor

from lowshot.adapters.dropout import MaskKeys, _hashed, _levels
from lowshot.models.blocks import Attention, _mix_by_products, _mix_fused, run_block
from lowshot.models.layout import CLIP_BLOCK
from lowshot.randomness import seeded
from lowshot.training.prompts import ClassPrompts

_Item = TypeVar("_Item")

IMAGES, HEADS, TOKENS, WIDTH = 4, 12, 197, 64
CLASSES, PROMPTS_AT_ONCE = 1000, 100
ONCE = {
    "everything": {"shared_prefix": False, "partway": False},
    "shared prefix once": {"shared_prefix": True, "partway": False},
    "frozen blocks once": {"shared_prefix": False, "partway": True},
    "both once": {"shared_prefix": True, "partway": True},
}
GROUPS = {
    "matrix products": ("aten::mm", "aten::addmm", "aten::bmm"),
    "copies and casts": ("aten::copy_",),
    "element by element": ("aten::mul", "aten::mul_", "aten::add", "aten::add_", "aten::sub", "aten::sigmoid_"),
    "softmax": ("aten::_softmax", "aten::_softmax_backward_data"),
    "layer norms": ("aten::native_layer_norm", "aten::native_layer_norm_backward"),
}


@dataclasses.dataclass(frozen=True)
class Arguments(Output):
    """Repetitions; a smoke run measures everything once, and a step of a tiny model."""

    repeats: int = 15

    @property
    def times(self) -> int:
        """Number of measurements of each lever."""
        return 1 if self.smoke else self.repeats


def attention(mix: Callable[..., Tensor], dtype: torch.dtype, repeats: int) -> dict[str, float]:
    """Forward and back through attention of four images of ViT-B/16."""
    generator = torch.Generator().manual_seed(0)
    shape = (IMAGES, TOKENS, HEADS, WIDTH)
    inputs = [torch.randn(shape, generator=generator).to(dtype).transpose(1, 2) for _ in range(3)]
    gradient = torch.randn(inputs[0].shape, generator=generator).to(dtype)

    def work() -> None:
        query, key, value = (tensor.detach().requires_grad_() for tensor in inputs)
        mix(query, key, value, None, False, WIDTH**-0.5).backward(gradient)

    return milliseconds(in_turn({"": work}, repeats))[""]


def masks(repeats: int) -> dict[str, dict[str, float]]:
    """A dropout mask of one image's tokens, by torch and by ``SampleDropout``'s two generators, all on the CPU."""
    count = TOKENS * HEADS * WIDTH
    generator, row, keys = torch.Generator(), torch.empty(count), MaskKeys(1, layers=5)

    def by_torch() -> None:
        generator.manual_seed(5)
        row.bernoulli_(0.75, generator=generator)

    def by_levels() -> None:
        torch.from_numpy((_levels(count, 1, 2, 3, 4) >= 16384).view(np.uint8))

    def by_hash() -> None:
        with keys.of(2, [3]):
            _hashed(count, 16384, [4], keys, torch.device("cpu"))

    ways = {"torch": by_torch, "sfc64": by_levels, "hash": by_hash}
    return {way: milliseconds(in_turn({way: work}, repeats))[way] for way, work in ways.items()}


def prompts(position: str, arguments: Arguments) -> dict[str, dict[str, float]]:
    """Forward and back through the text tower of ViT-B/16 in fp32, without dropout, by 1,000 prompts, 100 at once.

    Of their ten tokens the first five are those of all.

    Args:
        position: Which blocks have adapters; where it is all of them, none is frozen.
        arguments: How often: a fifth of what the quick levers are, since this takes minutes.
    """
    shape, classes = ("smoke", 4) if arguments.smoke else ("vit-b16", CLASSES)
    settings = {"precision": "fp32", "dropout": 0.0, "position": position}
    with seeded(0):
        learner, _ = lowshot_learner(
            Case("lora-fp32", "lowshot", settings, shape=shape, classes=classes), SHAPES[shape]()
        )
        direction = torch.randn(classes, SHAPES[shape]().embedding)
    backbone = learner.backbone
    tokens = backbone.tokenize([str(number) for number in range(classes)])

    def through(once: ClassPrompts) -> None:
        with backbone.training():
            for start in range(0, classes, PROMPTS_AT_ONCE):
                chunk = range(start, min(start + PROMPTS_AT_ONCE, classes))
                backbone.finish(once.of(chunk)).backward(direction[chunk.start : chunk.stop])

    ways = {way: levers for way, levers in ONCE.items() if position != "all" or not levers["partway"]}
    prepared = {way: ClassPrompts(backbone, tokens, **levers) for way, levers in ways.items()}
    works = {way: functools.partial(through, once) for way, once in prepared.items()}
    return milliseconds(in_turn(works, max(1, arguments.times // 5)))


class Profiled:
    """Yields what it is given, as a progress bar would, and profiles from the second item on."""

    def __init__(self) -> None:
        self.profile = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU])

    def __call__(self, items: Iterable[_Item], /, *, what: str, total: int) -> Iterator[_Item]:  # noqa: ARG002
        for number, item in enumerate(items):
            if number == 1:
                self.profile.start()
            yield item
        self.profile.stop()


def projections(dtype: torch.dtype, repeats: int) -> dict[str, dict[str, float]]:
    """q, k and v of four images by three products and by one of three times the width, forward and back."""
    width = HEADS * WIDTH
    with seeded(0):
        inputs = torch.randn(IMAGES * TOKENS, width, dtype=dtype, requires_grad=True)
        weights = torch.randn(3, width, width, dtype=dtype)
        gradient = torch.randn(IMAGES * TOKENS, 3 * width, dtype=dtype)
    joined = weights.flatten(0, 1)

    def three() -> None:
        torch.autograd.backward([inputs @ weight.T for weight in weights], list(gradient.split(width, dim=1)))

    ways = {"three products": three, "one product": lambda: (inputs @ joined.T).backward(gradient)}
    return milliseconds(in_turn(ways, repeats))


def compiled(dtype: torch.dtype, repeats: int) -> dict[str, Any]:
    """Two blocks of the vision tower, forward and back, as they are and compiled; and how long compiling takes."""
    with seeded(0):
        model = SHAPES["vit-b16"]().random_model().to(dtype)
        vision = model.config.vision_config
        hidden = torch.randn(IMAGES, TOKENS, vision.hidden_size, dtype=dtype, requires_grad=True)
    layers = model.vision_model.encoder.layers[:2]

    def through(block: Callable[..., Tensor]) -> None:
        states = hidden
        for layer in layers:
            states = block(layer, states, CLIP_BLOCK, Attention(causal=False), None)
        states.float().sum().backward()

    compiled_block = torch.compile(run_block, dynamic=False)
    started = time.perf_counter()
    through(compiled_block)
    once = time.perf_counter() - started
    ways = {"as they are": lambda: through(run_block), "compiled": lambda: through(compiled_block)}
    return {**milliseconds(in_turn(ways, repeats)), "compiling_seconds": once}


def shares(smoke: bool) -> dict[str, float]:
    """Shares of the time of a bf16 step of eight images and 100 prompts."""
    shape = "smoke" if smoke else "vit-b16"
    case = Case("lora-bf16", "lowshot", {"precision": "bf16"}, shape=shape, batch_size=8, steps=1)
    with seeded(0):
        learner, examples = lowshot_learner(case, SHAPES[shape]())
        profiled = Profiled()
        learner.fit(examples, 1, profiled)
    times = {event.key: event.self_cpu_time_total for event in profiled.profile.key_averages()}
    whole = sum(times.values())
    shares_of = {name: sum(times.get(key, 0) for key in keys) / whole for name, keys in GROUPS.items()}
    return {**shares_of, "all else": 1 - sum(shares_of.values())}


def measured(arguments: Arguments) -> dict[str, Any]:
    """Every lever, by name and way; milliseconds."""
    types = {"bf16": torch.bfloat16, "fp32": torch.float32}
    ways = {"fused": _mix_fused, "written out": _mix_by_products}
    levers: dict[str, Any] = {
        "attention": {
            f"{way}, {name}": attention(mix, dtype, arguments.times)
            for name, dtype in types.items()
            for way, mix in ways.items()
        },
        "masks": masks(arguments.times),
        "prompts": {position: prompts(position, arguments) for position in ("all", "half-up")},
        "projections": {name: projections(dtype, arguments.times) for name, dtype in types.items()},
    }
    if not arguments.smoke:  # compiling takes most of a minute, and a compiler
        levers["compiled"] = {name: compiled(dtype, arguments.times) for name, dtype in types.items()}
    return levers


def lines(name: str, row: Any) -> Iterator[str]:
    """Line that is printed of a lever."""
    if not isinstance(row, Mapping):
        yield f"{name:<44} {row:9.3g}"
    elif "median" in row:
        yield f"{name:<44} {row['median']:9.3g} ms ({row['least']:.3g} to {row['most']:.3g})"
    else:
        for key, value in row.items():
            yield from lines(f"{name}: {key}" if name else key, value)


def main(arguments: Arguments) -> dict[str, Any]:
    """Measure, print, write; returns the result."""
    levers = measured(arguments)
    shares_of = shares(arguments.smoke)
    arguments.say(*lines("", levers), *(f"{name:<44} {share:9.1%}" for name, share in shares_of.items()))
    return finish({"benchmark": "levers", "device": "cpu", **levers, "shares": shares_of}, arguments)


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Arguments))
