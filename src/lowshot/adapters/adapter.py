"""What is trained, in one of two shapes: modules that PEFT adds, or parameters the model already has."""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import torch
from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ..errors import AdapterError, InputError
from ..files import canonical_json, read_json_object
from .checkpoint import TENSORS_FILE, read_tensors, serialized, serialized_size
from .lora_xs import BASIS_FILE, LoraXsConfig, basis_facts, restore_basis

CONFIG_FILE = "adapter_config.json"
_Layer = TypeVar("_Layer", bound=nn.Module)


class Adapter(Protocol):
    """An adapter in a model."""

    @property
    def model(self) -> nn.Module:
        """The model with the adapter in it; names of its parameters are the adapter's own affair."""

    def parameters(self) -> list[nn.Parameter]:
        """What is trained, float32."""

    def tensors(self) -> dict[str, Tensor]:
        """What is saved, by the names it is saved under."""

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


class PeftAdapter:
    """A PEFT model's one adapter, in PEFT's two files."""

    def __init__(self, model: PeftModel) -> None:
        self.model = model

    def parameters(self) -> list[nn.Parameter]:
        return [p for p in self.model.parameters() if p.requires_grad]

    def tensors(self) -> dict[str, Tensor]:
        tensors = get_peft_model_state_dict(self.model, save_embedding_layers=False)
        return {name: tensor.detach() for name, tensor in tensors.items()}

    def save(self, folder: Path, base_model: str) -> None:
        config = self._config
        config.base_model_name_or_path = base_model
        config.save_pretrained(folder)
        # PEFT writes its sets in an order that changes from process to process.
        written = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        (folder / CONFIG_FILE).write_text(canonical_json(_ordered(written)), encoding="utf-8")
        (folder / TENSORS_FILE).write_bytes(serialized(self.tensors()))
        if isinstance(config, LoraXsConfig):
            (folder / BASIS_FILE).write_bytes(basis_facts(self.model))

    def load(self, folder: Path) -> None:
        self._check_config(folder / CONFIG_FILE)
        set_peft_model_state_dict(self.model, read_tensors(folder / TENSORS_FILE, self.tensors()))
        if isinstance(self._config, LoraXsConfig):
            restore_basis(self.model, folder / BASIS_FILE)

    def merge(self) -> nn.Module:
        try:
            merged: nn.Module = self.model.merge_and_unload()
        except NotImplementedError as error:
            raise InputError(f"adapters of type {_text(self._config.peft_type)} cannot be merged: {error}") from error
        return merged

    @contextlib.contextmanager
    def merged(self) -> Iterator[None]:
        with computing_as(_plain_layers(self.model)):
            yield

    @property
    def _config(self) -> Any:
        return self.model.peft_config["default"]

    def _check_config(self, path: Path) -> None:
        try:
            saved = read_json_object(path)
        except FileNotFoundError:
            raise AdapterError(f"adapter {path.parent} is incomplete: {path.name} is missing") from None
        except InputError as error:
            raise AdapterError(f"adapter {error}") from None
        expected = _ordered(json.loads(canonical_json(_plain(self._config.to_dict()))))
        for key in sorted(saved.keys() | expected.keys()):
            self._check_field(path, key, saved.get(key), expected.get(key))

    def _check_field(self, path: Path, key: str, found: object, expected: object) -> None:
        if key == "target_modules":
            if _names(found) != _names(expected):
                raise AdapterError(f"adapter file {path} adapts other modules than lowshot.json says")
        elif key not in _WHERE_IT_WAS_MADE and found != expected:
            raise AdapterError(f"adapter file {path} has {key} = {found!r}; lowshot.json says {expected!r}")


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


_WHERE_IT_WAS_MADE = {"auto_mapping", "base_model_name_or_path", "inference_mode", "peft_version", "revision"}


@torch.no_grad()
def _plain_layers(model: nn.Module) -> list[tuple[Any, nn.Linear]]:
    """Each adapted layer beside a plain one of the same function, or none at all; see ``Adapter.merged``."""
    adapted = [cast(Any, module) for module in model.modules() if isinstance(module, BaseTunerLayer)]
    try:
        return [(layer, _merged_copy(layer)) for layer in to_be_merged(adapted, lambda layer: layer.get_base_layer())]
    except (RuntimeError, ValueError):  # what a tuner says that cannot be merged, or not with its options
        return []


def _merged_copy(layer: Any) -> nn.Linear:
    twin = copy.deepcopy(layer)
    twin.merge()
    return cast(nn.Linear, twin.get_base_layer())


def _ordered(config: dict[str, Any]) -> dict[str, Any]:
    targets = config.get("target_modules")
    return {**config, "target_modules": sorted(targets) if isinstance(targets, list) else targets}


def _plain(value: Any) -> Any:
    """A configuration as JSON can say it: sets become sorted lists; PEFT's enumerations are strings already."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(_plain(item) for item in value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _names(targets: object) -> object:
    return set(map(str, targets)) if isinstance(targets, list) else targets


def _text(peft_type: Any) -> str:
    return str(getattr(peft_type, "value", peft_type))
