"""Adapters of PEFT's: modules beside a model's linear layers, saved in PEFT's two files."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import peft
import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from ..errors import AdapterError, InputError
from ..files import canonical_json, read_json_object
from ..methods import PEFT_PREFIX
from ..randomness import seeded, torch_seeded
from ..settings import MethodConfig
from ..tensor_file import TENSORS_FILE, read_tensors, serialized
from ..threads import BUILDING
from .adapter import CONFIG_FILE, computing_as, to_be_merged
from .lean import LeanMixin, modules_with
from .lora_xs.basis import BASIS_FILE, Basis
from .lora_xs.portable import basis_facts, restore_basis
from .lora_xs.tuner import LoraXsConfig
from .peft_types import KNOW_QUANTISED_WEIGHTS, SEED_TORCH, tuner_config
from .placement import Place
from .ranks import layer_ranks

_DECIDES_NOTHING = {
    *("auto_mapping", "base_model_name_or_path", "inference_mode", "peft_version", "revision", "task_type"),
    *("megatron_config", "megatron_core"),
    *("init_lora_weights", "corda_config", "eva_config", "loftq_config", "lora_ga_config"),
}
"""Keys of a configuration that say where an adapter was made, or what its tensors were before they were trained."""


class PeftAdapter:
    """A PEFT model's one adapter."""

    def __init__(self, model: PeftModel) -> None:
        self.model = model
        self._config: Any = model.peft_config["default"]

    def parameters(self) -> list[nn.Parameter]:
        return [p for p in self.model.parameters() if p.requires_grad]

    def tensors(self) -> dict[str, Tensor]:
        tensors = get_peft_model_state_dict(self.model, save_embedding_layers=False)
        return {name: tensor.detach() for name, tensor in tensors.items()}

    def save(self, folder: Path, base_model: str) -> None:
        self._config.base_model_name_or_path = base_model
        self._config.save_pretrained(folder)
        # PEFT writes its sets in an order that changes from process to process.
        written = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        (folder / CONFIG_FILE).write_text(canonical_json(_ordered(written)), encoding="utf-8")
        (folder / TENSORS_FILE).write_bytes(serialized(self.tensors()))
        if isinstance(self._config, LoraXsConfig):
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
            kind = self._config.peft_type
            raise InputError(f"adapters of type {getattr(kind, 'value', kind)} cannot be merged: {error}") from error
        return merged

    @contextlib.contextmanager
    def merged(self) -> Iterator[None]:
        with computing_as(_plain_layers(self.model)):
            yield

    def _check_config(self, path: Path) -> None:
        """Refuse a configuration file that is not of this adapter's settings."""
        try:
            saved = read_json_object(path)
        except FileNotFoundError:
            raise AdapterError(f"adapter {path.parent} is incomplete: {path.name} is missing") from None
        except InputError as error:
            raise AdapterError(f"adapter {error}") from None
        expected = _ordered(json.loads(canonical_json(_plain(self._config.to_dict()))))
        # What a file lacks is younger than the file, and was as it is by default. What is not known here another
        # version of PEFT has: lowshot sets no key that the recipe has not, so that it is as it is there by default.
        saved = {**{key: value for key, value in _defaults(self._config).items() if key in expected}, **saved}
        known = expected.keys() if saved.get("peft_version") != peft.__version__ else expected.keys() | saved.keys()
        for key in sorted(known - _DECIDES_NOTHING):
            here, there = expected.get(key), saved.get(key)
            if key == "target_modules":
                if _as_set(there) != _as_set(here):
                    raise AdapterError(f"adapter file {path} adapts other modules than lowshot.json says")
            elif there != here:
                raise AdapterError(f"adapter file {path} has {key} = {there!r}; lowshot.json says {here!r}")


def add_lora(model: nn.Module, method: MethodConfig, place: Place, *, seed: int) -> PeftAdapter:
    """LoRA: h = W x + scaling * B A x; A Kaiming uniform, B zero (arXiv 2106.09685, section 4.1)."""
    config = LoraConfig(**_low_rank(method, place))
    config._register_custom_module(modules_with(LeanMixin))
    return _added(model, method, config, seed)


def add_dora(model: nn.Module, method: MethodConfig, place: Place, *, seed: int) -> PeftAdapter:
    """DoRA: W' = m (W + scaling * B A) / ||W + scaling * B A||, norms per output row (arXiv 2402.09353, equation 5)."""
    return _added(model, method, LoraConfig(**_low_rank(method, place), use_dora=True), seed)


def add_lora_xs(
    model: nn.Module, method: MethodConfig, place: Place, *, seed: int, bases: Mapping[str, Basis]
) -> PeftAdapter:
    """LoRA-XS: h = W x + scaling * U R diag(S) V^T x (arXiv 2405.17604, equation 2); see ``Basis.side``."""
    config = LoraXsConfig(**_low_rank(method, place), basis_side=method.basis_side)
    config.bases = bases
    return _added(model, method, config, seed)


def _low_rank(method: MethodConfig, place: Place) -> dict[str, Any]:
    """Settings that the configurations of these three share."""
    return {
        "r": method.rank,
        # alpha is the same in all layers: each has the scaling of its own rank
        "rank_pattern": {} if method.rank_by_depth == "uniform" else layer_ranks(method, place),
        "lora_alpha": method.alpha,
        "use_rslora": method.scaling == "sqrt-rank",
        "lora_dropout": method.dropout,
        "target_modules": list(place.linears),
        "bias": "none",
    }


def add_tuner(model: nn.Module, method: MethodConfig, place: Place, *, seed: int) -> PeftAdapter:
    """A tuner of PEFT's that the method is called after, tried on each layer.

    Raises:
        InputError: PEFT has no such tuner, it refuses its options, or it does not leave the base alone.
    """
    tuner = PEFT_PREFIX + method.method.removeprefix(PEFT_PREFIX)
    config = tuner_config(tuner, method.peft, place.linears)
    before = [cast(Tensor, model.get_submodule(name).weight).detach().clone() for name in place.linears]
    if tuner not in KNOW_QUANTISED_WEIGHTS and not all(weight.is_floating_point() for weight in before):
        raise InputError(f"method {method.method} does not fit: it does not know quantised weights; use quantize none")
    return _added(model, method, config, seed, lambda: _try_layers(model, place.linears, before))


def _added(
    model: nn.Module, method: MethodConfig, config: PeftConfig, seed: int, check: Callable[[], None] = lambda: None
) -> PeftAdapter:
    """The adapter of a configuration, put into the model and checked.

    Raises:
        InputError: It does not fit these layers.
    """
    with attaching(seed, config):
        try:
            # New layers come in training mode, whatever mode the model is in: their dropout would blur predictions.
            adapted = get_peft_model(model, config).eval()
            check()
        except Exception as error:  # each tuner has limits of its own, and words for them
            raise InputError(f"method {method.method} does not fit: {' '.join(str(error).split())}") from error
    return PeftAdapter(adapted)


@contextlib.contextmanager
def attaching(seed: int, config: PeftConfig) -> Iterator[None]:
    """Around PEFT's putting of layers into a model: initial values drawn from a seed, and no needless warning."""
    seeds_itself = str(config.peft_type.value) in SEED_TORCH
    with BUILDING, (torch_seeded if seeds_itself else seeded)(seed), warnings.catch_warnings():
        # transformers warns of an attribute that it renamed itself and that PEFT reads.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        yield


def _try_layers(model: nn.Module, names: Sequence[str], weights: Sequence[Tensor]) -> None:
    """Find out what PEFT does not say: that a tuner fails when its layer is used, or does not leave the base alone.

    Raises:
        InputError: It changes weights.
    """
    for name, weight in zip(names, weights, strict=True):
        layer: Any = model.get_submodule(name)
        base = layer.get_base_layer()
        if weight.is_meta:
            continue
        if not torch.equal(base.weight, weight):
            raise InputError(f"it changes the frozen weight of {name}; expected options that leave the base alone")
        dtype = weight.dtype if weight.is_floating_point() else torch.float32
        inputs = torch.zeros(1, base.in_features, dtype=dtype, device=weight.device, requires_grad=True)
        layer(inputs).float().sum().backward()
    model.zero_grad(set_to_none=True)


@torch.no_grad()
def _plain_layers(model: nn.Module) -> list[tuple[Any, nn.Linear]]:
    """Each adapted layer beside a plain one of the same function, or none at all; see ``Adapter.merged``."""
    adapted = [cast(Any, module) for module in model.modules() if isinstance(module, BaseTunerLayer)]
    plain = []
    try:
        for layer in to_be_merged(adapted, lambda layer: layer.get_base_layer()):
            twin = copy.deepcopy(layer)
            twin.merge()
            plain.append((layer, cast(nn.Linear, twin.get_base_layer())))
    except (RuntimeError, ValueError):  # what a tuner says that cannot be merged, or not with its options
        return []
    return plain


def _defaults(config: PeftConfig) -> dict[str, Any]:
    """The default of each key of a configuration, as JSON can say it; of those that have one."""
    defaults = {
        field.name: field.default_factory() if callable(field.default_factory) else field.default
        for field in dataclasses.fields(config)
        if field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
    }
    return {name: _plain(value) for name, value in defaults.items() if name != "peft_version"}


def _ordered(config: dict[str, Any]) -> dict[str, Any]:
    """The same configuration with its target modules in alphabetical order."""
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


def _as_set(targets: object) -> object:
    return set(map(str, targets)) if isinstance(targets, list) else targets
