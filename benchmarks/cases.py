"""One way to train, measured: seconds a step, memory before and at the height, arithmetic, what the planner expected.

    .venv/bin/python benchmarks/cases.py '{"variant": "lora-bf16", "way": "lowshot", "settings": {"precision": "bf16"}}'

measures one case in this process and prints its row as JSON: what the benchmarks call, since only a process of its own
has a peak of its own.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import statistics
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from shapes import SHAPES, PromptTokens, Shape

if TYPE_CHECKING:
    import torch
    from torch import nn

    from lowshot.data import Examples
    from lowshot.training.weights import WeightsLearner

_Item = TypeVar("_Item")


Way = Literal["lowshot", "published", "published-fused", "published-qlora", "peft"]


@dataclasses.dataclass(frozen=True)
class Case:
    """One case to measure."""

    variant: str
    """Name of the row."""
    way: Way
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """lowshot: settings of its recipe, on top of the preset ``paper``. Published: arguments of the procedure."""
    shape: str = "vit-b16"
    classes: int = 100
    batch_size: int = 32
    steps: int = 3
    """Measured steps."""
    warm_up: int = 1
    """Steps before them, which count for memory alone."""
    whole_run: bool = False
    """Measure a training run of ``steps`` from its first step to its last, with one decoded photo of each class,
    without waiting for the device in between."""
    waits: bool = True
    """Wait for the device after each step and take its time; else that of all measured steps together."""
    device: str = "cpu"
    threads: int | None = None
    """Threads of torch; as it comes if not given."""


def measure(case: Case, ends: float = math.inf) -> dict[str, Any]:
    """Run a case in this process.

    Args:
        case: What to measure.
        ends: When to stop taking steps, as ``time.monotonic`` counts.

    Returns:
        Its row; all memory in bytes. It has ``stopped`` where there was no time for all steps.

    Raises:
        TimeoutError: There was no time for any step after those to warm up.
    """
    import torch

    from lowshot.randomness import seeded
    from lowshot.threads import cpu_threads

    shape, device = SHAPES[case.shape](), torch.device(case.device)
    clock = Clock(device, each=case.waits and not case.whole_run, warm_up=case.warm_up, ends=ends)
    with seeded(0), cpu_threads(case.threads):
        threads = torch.get_num_threads()
        ran = _lowshot(case, shape, clock) if case.way == "lowshot" else _published(case, shape, device, clock)
        rate = matrix_rate(ran.dtype, device, 256 if case.shape == "smoke" else None)
    each = clock.seconds[case.warm_up :] if clock.each else [clock.measured / clock.steps]
    median = statistics.median(each)
    text_is_trained = case.way != "published-qlora" and case.settings.get("encoder") != "vision"
    arithmetic = shape.arithmetic(
        case.classes if text_is_trained else 0,
        case.batch_size,
        as_published=case.way.startswith("published"),
        weights_trained=case.settings.get("method") == "full",
    )
    return {
        **{name: getattr(case, name) for name in ("variant", "way", "device", "classes", "batch_size")},
        "steps": clock.steps,
        "settings": dict(case.settings),
        "seconds": each,
        "median_seconds": median,
        "train_seconds": clock.total,
        "static_bytes": ran.static,
        "dynamic_bytes": ran.peak - ran.static,
        "peak_bytes": ran.peak,
        "reserved_bytes": ran.reserved,
        "stored_bytes": ran.stored,
        "trainable_parameters": ran.trainable,
        "arithmetic": arithmetic,
        "matrix_rate": rate,
        "share_of_matrix_rate": arithmetic / median / rate,
        "threads": threads,
        "predicted": ran.predicted,
        "notes": list(ran.notes),
        **({"stopped": f"after {clock.steps} of {case.steps} steps, at its limit"} if clock.is_over else {}),
    }


class Clock:
    """Yields what it is given, as a progress bar would, and takes the time of each item.

    Args:
        device: Waited for, since CUDA runs behind.
        each: Wait after every item; otherwise before the first one, before the first one that counts, and at the end.
        warm_up: Items before those that count.
        ends: When no more items follow, as ``time.monotonic`` counts.
    """

    def __init__(self, device: torch.device, *, each: bool, warm_up: int = 0, ends: float = math.inf) -> None:
        self.device = device
        self.each = each
        self.warm_up = warm_up
        self.ends = ends
        self.seconds: list[float] = []
        """Seconds of each item; where the device is not waited for, of the processor's work on it."""
        self.total = 0.0
        self.measured = 0.0
        """Seconds of all items that count, together."""
        self.is_over = False
        """True where the end came before the last item."""

    @property
    def steps(self) -> int:
        """Items that count."""
        return len(self.seconds) - self.warm_up

    def __call__(self, items: Iterable[_Item], /, *, what: str = "", total: int = 0) -> Iterator[_Item]:  # noqa: ARG002
        self._wait()
        began = counted = time.perf_counter()
        for number, item in enumerate(items):
            if time.monotonic() > self.ends:
                self.is_over = True
                break
            if number == self.warm_up:
                self._wait()
                counted = time.perf_counter()
            started = time.perf_counter()
            yield item
            if self.each:
                self._wait()
            self.seconds.append(time.perf_counter() - started)
        self._wait()
        ended = time.perf_counter()
        self.total, self.measured = ended - began, ended - counted
        if self.is_over and self.steps < 1:
            raise TimeoutError(f"no time left after {len(self.seconds)} steps, none of which counts")

    def _wait(self) -> None:
        import torch

        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


@functools.cache
def matrix_rate(dtype: torch.dtype, device: torch.device, side: int | None = None) -> float:
    """Operations per second of large matrix products on this machine, best of five after one; measured once.

    Args:
        dtype: What is multiplied.
        device: Where.
        side: Of the matrices; by default what fills the device.
    """
    import torch

    side = side or (8192 if device.type == "cuda" else 2048)
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(side, side, generator=generator).to(device, dtype) for _ in range(2))
    clock = Clock(device, each=True)
    for _ in clock(range(6)):
        a @ b
    return 2 * side**3 / min(clock.seconds[1:])


@dataclasses.dataclass(frozen=True)
class _Ran:
    """Needs of a run beside its time, in bytes."""

    static: int
    peak: int
    reserved: int
    stored: int
    """The model's tensors, with the adapter's."""
    trainable: int
    dtype: torch.dtype
    """Precision of its matrix products."""
    predicted: dict[str, int] | None = None
    notes: tuple[str, ...] = ()
    """Remarks of training, and how the batch was cut up, if it was."""


def _published(case: Case, shape: Shape, device: torch.device, clock: Clock) -> _Ran:
    import as_published
    import torch

    from lowshot.training.memory import memory_use

    procedure: Any
    tokens = PromptTokens(shape, case.classes).ids
    if case.way == "published-qlora":  # its authors pad to the longest prompt
        procedure = as_published.PublishedQLoRA(shape.random_model(), tokens, device, **case.settings)
    elif case.way == "peft":
        procedure = as_published.PlainPeft(shape.random_model().to(device), tokens, **case.settings)
    else:
        kind = as_published.PublishedProcedure if case.way == "published" else as_published.PublishedFused
        procedure = kind(shape.random_model().to(device), shape.prompts(case.classes), **case.settings)
    dtype = as_published.TYPES[case.settings.get("precision", "bf16")]
    pixels = torch.randn(case.batch_size, 3, shape.image_size, shape.image_size).to(device)
    labels = (torch.arange(case.batch_size) % case.classes).to(device)
    with memory_use(device) as memory:
        for _ in clock(range(case.warm_up + case.steps)):
            procedure.step(pixels, labels)
    stored, trainable = _stored_bytes(procedure.model), _trainable(procedure.model)
    return _Ran(memory.static, memory.peak, memory.reserved, stored, trainable, dtype)


def _lowshot(case: Case, shape: Shape, clock: Clock) -> _Ran:
    learner, examples = lowshot_learner(case, shape)
    needs, passes = learner.cuts(case.batch_size)
    outcome = learner.fit(examples, 1, clock)
    if outcome.stopped:
        raise RuntimeError(outcome.stopped)
    predicted = {
        "static_bytes": needs.resident,
        "peak_bytes": needs.peak(passes, case.classes),
        **dataclasses.asdict(passes),
    }
    model, notes = learner.backbone.model, outcome.notes
    if passes.images < case.batch_size or passes.prompts < len(learner.class_vectors):
        prompts = f"{passes.prompts} of {len(learner.class_vectors)} prompts"
        notes += (f"{passes.images} of {case.batch_size} images, {prompts} at once",)
    return _Ran(
        outcome.static_memory_bytes,
        outcome.peak_memory_bytes,
        outcome.reserved_memory_bytes,
        _stored_bytes(model),
        learner.trainable_parameters,
        learner.backbone.dtype,
        predicted,
        notes,
    )


def lowshot_learner(case: Case, shape: Shape) -> tuple[WeightsLearner, Examples]:
    """The learner of lowshot on a shape, whose ``fit`` with one shot takes the case's steps, and what to train on.

    Examples are decoded photos: those of one batch, or for a whole run one of each class.
    """
    import numpy as np

    from lowshot.data import task_of_arrays
    from lowshot.models import Backbone, Identity
    from lowshot.settings import preset_recipe
    from lowshot.training.weights import WeightsLearner

    tokenizer: Any = PromptTokens(shape, case.classes)
    pixels = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
    identity = Identity("random", None, "", "", {})
    backbone = Backbone(shape.random_model().to(case.device), tokenizer, *pixels, identity)
    settings = dict(case.settings)
    recipe = preset_recipe("paper", settings.pop("method", "lora")).replace(
        steps_per_shot=case.warm_up + case.steps, batch_size=case.batch_size, **settings
    )
    learner = WeightsLearner(backbone, [str(number) for number in range(case.classes)], recipe)
    count = case.classes if case.whole_run else case.batch_size
    photos = np.random.default_rng(0).integers(0, 256, (count, 200, 300, 3), dtype=np.uint8)  # Caltech101's usual size
    labels = [f"{number % case.classes:04}" for number in range(count)]
    return learner, task_of_arrays(list(photos), labels).train


def _stored_bytes(model: nn.Module) -> int:
    """Bytes of all tensors of a model, the scales of quantised weights included."""
    return sum(tensor.nbytes for tensor in model.state_dict().values())


def _trainable(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


if __name__ == "__main__":
    print(json.dumps(measure(Case(**json.loads(sys.argv[1])))))
