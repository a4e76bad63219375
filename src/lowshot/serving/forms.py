"""The updates of adapters with trained weights, read through PEFT as ``FewShotClassifier`` reads them.

PEFT is slow to import, so this file is imported with the first adapter that needs it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from ..adapters import Adapter, add_adapter, place, prepare
from ..adapters.lora_xs import Basis
from ..adapters.lora_xs.layer import LoraXsMixin
from ..models import Backbone
from ..settings import MethodConfig, Tower
from .bases import Bases
from .mixing import OwnFactors, Updates

_MOST_FORMS = 8
_PEFT_PREFIX = "base_model.model."


class Forms:
    """Adapters without numbers, one for each method with its settings, to be filled from files.

    Args:
        backbone: In the bank's precision.
        bases: Those that LoRA-XS adapters share; what an adapter needs is prepared here.
    """

    def __init__(self, backbone: Backbone, bases: Bases) -> None:
        self._backbone = backbone
        self._bases = bases
        self._forms: dict[MethodConfig, Adapter] = {}  # least recently used first

    @torch.no_grad()
    def updates(self, folder: Path, method: MethodConfig) -> tuple[Updates, Updates]:
        """Updates that a saved adapter adds in the text tower and in the vision tower."""
        form = self._form(method)
        form.load(folder)
        middles: dict[str, Tensor] = {}
        own: dict[str, OwnFactors] = {}
        for full_name, module in form.model.named_modules():
            if not isinstance(module, LoraLayer):
                continue
            layer: Any = module
            name, scale = full_name.removeprefix(_PEFT_PREFIX), layer.scaling["default"]
            a, b = layer.lora_A["default"].weight, layer.lora_B["default"]
            if not isinstance(layer, LoraXsMixin):
                own[name] = OwnFactors(a.clone(), scale * b.weight)
            elif a.data_ptr() == (basis := layer.basis("default")).right.data_ptr():
                middles[name] = basis.on_input_side(scale * b.R).T.contiguous()
            else:
                own[name] = OwnFactors(a.clone(), scale * b.weight)
                self._forms.pop(method, None)  # the adapter's own factors have become the form's basis
        return self._in_tower("text", middles, own), self._in_tower("vision", middles, own)

    def _form(self, method: MethodConfig) -> Adapter:
        """The whole of an adapter of this method, on a backbone without weights."""
        form = self._forms.pop(method, None)
        if form is None:
            with torch.device("meta"):
                model: nn.Module = self._backbone.without_weights()
            for module in model.modules():
                for name, parameter in module.named_parameters(recurse=False):  # of their shapes, without memory
                    empty = nn.Parameter(torch.zeros(()).expand(parameter.shape), requires_grad=False)
                    setattr(module, name, empty)
            where = place(method, self._backbone)
            if method.method == "lora-xs":
                self._bases.prepare(dict.fromkeys(where.linears, method.rank))
                shared = self._bases.on_cpu(where.linears, method.rank)
                bases: dict[str, Basis] | None = {n: b.with_values_on(method.basis_side) for n, b in shared.items()}
            else:
                bases = prepare(model, method, where)
            form = add_adapter(model, method, where, seed=0, bases=bases)
        self._forms[method] = form
        if len(self._forms) > _MOST_FORMS:
            self._forms.pop(next(iter(self._forms)))
        return form

    def _in_tower(self, tower: Tower, middles: Mapping[str, Tensor], own: Mapping[str, OwnFactors]) -> Updates:
        """The updates of those layers that are in one of the towers."""
        inside = tuple(f"{module}." for module in self._backbone.tower_modules(tower))
        matrices = {name: middle for name, middle in middles.items() if name.startswith(inside)}
        factors = {name: each for name, each in own.items() if name.startswith(inside)}
        stacked = torch.stack(list(matrices.values())) if matrices else None
        return Updates(tuple(matrices), stacked, factors).to(self._backbone.device)
