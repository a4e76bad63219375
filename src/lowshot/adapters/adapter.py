"""The contract of an adapter, and the adapter whose parameters the model already has."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ..tensor_file import TENSORS_FILE, read_tensors, serialized, serialized_size

CONFIG_FILE = "adapter_config.json"
_Layer = TypeVar("_Layer", bound=nn.Module)


class Adapter(Protocol):
    """An adapter in a model."""

    @property
    def model(self) -> nn.Module:
        """The model with the adapter in it; names of its parameters are the adapter's own affair."""

    def parameters(self) -> list[nn.Parameter]:
        """The trained parameters, float32."""

    def tensors(self) -> dict[str, Tensor]:
        """The saved tensors, by the names they are saved under."""

    def save(self, folder: Path, base_model: str) -> None:
        """Write the adapter's files into an existing folder, byte for byte the same for the same adapter.

        Args:
            folder: The caller renames it into place.
            base_model: The backbone's id.
        """

    def load(self, folder: Path) -> None:
        """Fill a freshly added adapter with saved values.

        Raises:
            AdapterError: A file is missing or damaged, belongs to other settings or to another basis, has missing or
                extra tensors, tensors of another shape or type, or values that are not finite.
        """

    def merge(self) -> nn.Module:
        """The plain model with the adapter inside its weights; the adapter is gone afterwards.

        Raises:
            InputError: The method cannot be merged.
        """

    def merged(self) -> contextlib.AbstractContextManager[None]:
        """For the length of a block the adapted layers compute as plain ones would that hold weight and update in one.

        For judging alone: gradients do not reach the adapter, and no dropout is applied. No tensor of the model
        changes, so what comes after the block is what was before it to the last bit, and other threads that use the
        model meanwhile are given the one or the other computation.

        It is the same function but for rounding in float32. Where the frozen weights have fewer bits, in which an
        update would be rounded away, and where the method cannot be merged or adds no layers, nothing happens.
        """


def adapter_bytes(adapter: Adapter) -> int:
    """Size of the file that ``save`` writes the tensors to; known on the meta device too."""
    return serialized_size(adapter.tensors())


@torch.no_grad()
def keep_share(adapter: Adapter, share: float) -> None:
    """Keep this share of what LoRA or LoRA-XS adds to each weight.

    That is WiSE-FT's interpolation in weight space, (1 - share) W0 + share (W0 + dW) (arXiv 2109.01903, equation 1),
    done once and for all on the update's own last factor: B, or R.
    """
    for name, parameter in adapter.model.named_parameters():
        if parameter.requires_grad and ".lora_B." in name:
            parameter.mul_(share)


class ParameterAdapter:
    """Parameters of the model itself; the file holds their new values under their own names.

    Args:
        model: The model.
        trained: Name -> parameter.
    """

    def __init__(self, model: nn.Module, trained: Mapping[str, nn.Parameter]) -> None:
        self.model = model
        self._trained = dict(trained)

    def parameters(self) -> list[nn.Parameter]:
        return list(self._trained.values())

    def tensors(self) -> dict[str, Tensor]:
        return {name: parameter.detach() for name, parameter in self._trained.items()}

    def save(self, folder: Path, base_model: str) -> None:  # noqa: ARG002 - lowshot.json names the backbone
        (folder / TENSORS_FILE).write_bytes(serialized(self.tensors()))

    @torch.no_grad()
    def load(self, folder: Path) -> None:
        for name, tensor in read_tensors(folder / TENSORS_FILE, self.tensors()).items():
            self._trained[name].copy_(tensor)

    def merge(self) -> nn.Module:
        for module in list(self.model.modules()):
            for field in list(getattr(module, "parametrizations", {})):
                parametrize.remove_parametrizations(module, field)
        return self.model.requires_grad_(False)

    def merged(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()


def to_be_merged(layers: Iterable[_Layer], base_of: Callable[[_Layer], nn.Linear]) -> list[_Layer]:
    """Those that ``Adapter.merged`` may replace for a while; none where a frozen weight has fewer bits than float32.

    One whose forward pass is replaced already is left to whoever did that: it may be this, in another thread.
    """
    free = [layer for layer in layers if "forward" not in vars(layer)]
    exact = all(base_of(layer).weight.dtype in (torch.float32, torch.float64) for layer in free)
    return free if exact else []


@contextlib.contextmanager
def computing_as(plain: Sequence[tuple[nn.Module, nn.Linear]]) -> Iterator[None]:
    """For the length of a block each layer's forward pass is that of the plain one beside it."""
    for layer, linear in plain:
        vars(layer)["forward"] = linear.forward
    try:
        yield
    finally:
        for layer, _ in plain:
            vars(layer).pop("forward", None)
