"""Count what one optimiser step launches on a GPU, without one: the step runs on torch's meta device.

    .venv/bin/python benchmarks/operations.py [--json] [--methods lora qlora] [--together 16]

For each method at ViT-B/16, 32 images and 100 classes in bfloat16: the operations that would be kernels (views and
allocations left out), those whose tensors lie on two devices, which is a copy from the host that a CUDA graph cannot
hold, and those that read a value back, which waits for the device. The second step is counted: the first one makes
what all others use again. A step is all that a graph holds: both towers forward and back, the check for numbers, and
the optimiser. Of runs together it is their gradients that are counted, since each run takes its own step with them.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal
from unittest import mock

import torch
import tyro
from shapes import BEFORE, SHAPES, PromptTokens, Shape
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from lowshot.models import Backbone, Identity, frozen
from lowshot.settings import preset_recipe
from lowshot.training.joint_step import JointStep
from lowshot.training.optimizers import create_optimizer
from lowshot.training.recorded import PlainRecorder, RecordedSteps
from lowshot.training.state import TrainingState
from lowshot.training.step import Batch, Passes
from lowshot.training.weights import WeightsLearner

METHODS: dict[str, dict[str, Any]] = {
    "lora": {},
    "qlora": {"quantize": "nf4"},
    "lora-xs": {"method": "lora-xs"},
    "dora": {"method": "dora"},
    "layernorm": {"method": "layernorm"},
    "full": {"method": "full"},
}
JOINED = ("lora", "qlora", "lora-xs")
"""Those that can be computed together with other runs."""
Method = Literal["lora", "qlora", "lora-xs", "dora", "layernorm", "full"]
NO_KERNEL = {
    "view", "_unsafe_view", "permute", "transpose", "expand", "as_strided", "slice", "select", "unsqueeze", "squeeze",
    "t", "detach", "alias", "split", "split_with_sizes", "unbind", "empty", "empty_like", "empty_strided", "new_empty",
    "new_empty_strided", "_reshape_alias", "unfold", "lift_fresh", "set_",
}  # fmt: skip
READS_BACK = {"_local_scalar_dense", "nonzero", "item", "is_nonzero", "_unique2", "masked_select"}


class Operations(TorchDispatchMode):
    """Counts operations that touch a device, and fails on none: what a graph cannot hold is counted too."""

    def __init__(self, device: str = "meta") -> None:
        super().__init__()
        self.device = device
        self.kernels: collections.Counter[str] = collections.Counter()
        self.from_host: collections.Counter[str] = collections.Counter()
        self.read_back: collections.Counter[str] = collections.Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        self.read_back[name] += name in READS_BACK or _is_indexed_by_a_mask(name, args)  # first: it may raise here
        out = func(*args, **(kwargs or {}))
        tensors = [t for t in pytree.tree_leaves((args, kwargs, out)) if isinstance(t, torch.Tensor)]
        devices = {tensor.device.type for tensor in tensors}
        if self.device in devices:
            self.kernels[name] += name not in NO_KERNEL
        self.from_host[name] += len(devices) > 1
        return out

    def row(self) -> dict[str, int]:
        """The three totals."""
        return {name: getattr(self, name).total() for name in ("kernels", "from_host", "read_back")}


class HostTensors(TorchFunctionMode):
    """Counts copies that the dispatcher is not told of: tensors that are made on a device of Python's numbers."""

    def __init__(self, operations: Operations) -> None:
        super().__init__()
        self.operations = operations

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func in (torch.tensor, torch.as_tensor):
            self.operations.from_host[func.__name__] += out.device.type == self.operations.device
        elif func in (torch.Tensor.__getitem__, torch.Tensor.__setitem__):
            parts = args[1] if isinstance(args[1], tuple) else (args[1],)
            lists = sum(isinstance(part, list) for part in parts)
            self.operations.from_host["list"] += lists * (args[0].device.type == self.operations.device)
        return out


def _is_indexed_by_a_mask(name: str, args: Any) -> bool:
    tensors = (t for t in pytree.tree_leaves(args[1:]) if isinstance(t, torch.Tensor))
    return name.startswith("index") and any(tensor.dtype == torch.bool for tensor in tensors)


@functools.cache
def fused_adamw_on_meta() -> torch.library.Library:
    """Let AdamW's fused kernel be there on the meta device, where it does nothing."""
    library = torch.library.Library("aten", "IMPL", "Meta")
    library.impl("_fused_adamw_.tensor_lr", lambda *_, **__: None)
    return library


class Linear4bit(torch.nn.Module):
    """Stands for bitsandbytes' layer, which the meta device cannot have: each of its weights is made by one kernel."""

    def __init__(self, linear: torch.nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        packed = torch.empty(linear.weight.numel() // 2, 1, dtype=torch.uint8, device="meta")
        self.weight, self.bias = torch.nn.Parameter(packed, requires_grad=False), linear.bias


def counted(settings: Mapping[str, Any], shape: str = "vit-b16", images: int = 32, classes: int = 100) -> Operations:
    """The operations of a step.

    Args:
        settings: On top of the preset ``paper``.
        shape: A name of ``SHAPES``.
        images: Of the batch.
        classes: With one prompt each.
    """
    with meta_patches():
        learner = meta_learner(settings, SHAPES[shape](), classes)
        steps = recorded_steps(learner, images, classes)
        with learner.backbone.training():
            steps._work()  # makes what all others use again
            operations = Operations()
            with operations, HostTensors(operations):
                steps._work()
    return operations


def counted_together(
    settings: Mapping[str, Any], runs: int, shape: str = "vit-b16", images: int = 32, classes: int = 100
) -> Operations:
    """The operations of the gradients of so many runs; other arguments are those of ``counted``."""
    with meta_patches(), contextlib.ExitStack() as trained:
        learners = [meta_learner(settings, SHAPES[shape](), classes) for _ in range(runs)]
        device, side = torch.device("meta"), learners[0].backbone.image_size
        pixels = torch.empty(images, 3, side, side, device=device)
        rows = torch.empty(images, dtype=torch.int64, device=device)
        number = torch.empty((), dtype=torch.int64, device=device)
        batch = Batch(number, rows, rows, lambda at: pixels[at.start : at.stop])
        passes = Passes(images, classes)
        together = Passes(runs * images, runs * classes)
        steps = [learner.exact_step(passes) for learner in learners]
        joint = JointStep(steps, together)
        for learner in learners:
            trained.enter_context(learner.backbone.training())
        operations = Operations()
        for mode in (contextlib.nullcontext(), operations):
            for parameter in itertools.chain.from_iterable(learner.parameters for learner in learners):
                parameter.grad = None
            with mode:
                if runs > 1:
                    joint.gradients([batch] * runs)
                else:
                    steps[0].gradients(batch)
    return operations


@contextlib.contextmanager
def meta_patches() -> Iterator[None]:
    """For the length of a block the meta device has what CUDA has."""
    with contextlib.ExitStack() as patches:
        patches.enter_context(mock.patch.dict(frozen._SCALES, nf4=id))
        patches.enter_context(mock.patch.dict(frozen._INTO, nf4=lambda weight, scale, part: part.zero_()))  # noqa: ARG005
        # Tokens on the meta device have no values, and of AdamW's fused kernel torch does not know that it takes any.
        patches.enter_context(mock.patch.object(Backbone, "shared_tokens", lambda self, tokens: BEFORE))  # noqa: ARG005
        patches.enter_context(mock.patch("torch.optim.adam._device_dtype_check_for_fused", lambda *_, **__: None))
        fused_adamw_on_meta()
        yield


def meta_learner(settings: Mapping[str, Any], shape: Shape, classes: int) -> WeightsLearner:
    """A learner of this shape on the meta device, as it would be on CUDA."""
    chosen = dict(settings)
    four_bits = chosen.pop("quantize", "none") == "nf4"
    tokenizer: Any = PromptTokens(shape, classes)
    pixels = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
    with torch.device("meta"):
        model = shape.random_model()
    model.logit_scale = torch.nn.Parameter(torch.tensor(model.config.logit_scale_init_value))  # a backbone reads it
    backbone = Backbone(model, tokenizer, *pixels, Identity("random", None, "", "", {}))
    backbone.model.to("meta")
    method = chosen.pop("method", "lora")
    recipe = preset_recipe("paper", method).replace(precision="bf16", adapter_precision="base", **chosen)
    learner = WeightsLearner(backbone, [str(number) for number in range(classes)], recipe)
    if four_bits:
        for name in [n for n, m in backbone.model.named_modules() if type(m) is torch.nn.Linear]:
            parent, _, child = name.rpartition(".")
            if ".encoder.layers." in name and "lora" not in name:
                setattr(backbone.model.get_submodule(parent), child, Linear4bit(backbone.model.get_submodule(name)))
    return learner


def recorded_steps(learner: WeightsLearner, images: int, classes: int) -> RecordedSteps:
    """Step as it would be recorded on CUDA: the whole batch at once, with a batch in its buffers."""
    device = torch.device("meta")
    optimizer = create_optimizer(learner.parameters, learner.recipe.training, device)
    state = TrainingState(learner.parameters, optimizer, Passes(images, classes))
    exact = learner.exact_step(state.passes)
    side = learner.backbone.image_size

    def images_of(number: int, rows: Sequence[int]) -> torch.Tensor:  # noqa: ARG001
        return torch.empty(len(rows), 3, side, side, device=device)

    labels = torch.empty(images, dtype=torch.int64, device=device)
    steps = RecordedSteps(state, exact, images_of, labels, images, PlainRecorder())
    steps._buffers.fill(range(images), labels, images_of(0, range(images)), 0.0)
    return steps


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Arguments of the count."""

    json: bool = False
    """Print one object instead of a table."""
    methods: tuple[Method, ...] = tuple(METHODS)  # type: ignore[assignment]
    """Methods to count."""
    together: int | None = None
    """Count the gradients of one run and of so many runs together instead, of those of the methods that can be so."""
    by_name: bool = False
    """Say which operations they are too."""
    smoke: bool = False
    """A tiny model."""


def main(arguments: Arguments) -> dict[str, dict[str, int]]:
    """Count, and print."""
    shape, images, classes = ("smoke", 4, 4) if arguments.smoke else ("vit-b16", 32, 100)
    sizes = shape, images, classes
    counts: dict[str, Callable[[], Operations]] = {}
    for method in arguments.methods:
        if arguments.together is None:
            counts[method] = functools.partial(counted, METHODS[method], *sizes)
        elif method in JOINED:
            for runs in (1, arguments.together):
                name = f"{runs} x {method}"
                counts[name] = functools.partial(counted_together, METHODS[method], runs, *sizes)
    rows = {}
    for name, count in counts.items():
        operations = count()
        rows[name] = operations.row()
        if not arguments.json:
            print(f"{name:<12}" + "".join(f"{what} {number:<8}" for what, number in rows[name].items()), flush=True)
            for what, number in operations.kernels.most_common(30 if arguments.by_name else 0):
                print(f"{number:>8} {what}")
    if arguments.json:
        print(json.dumps(rows))
    return rows


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
