"""Format ``peft``: a folder that ``peft.PeftModel.from_pretrained`` loads onto the backbone, without lowshot.

LoRA-XS becomes LoRA, exactly and without another decomposition: with h = W x + scaling * U R diag(S) V^T x (arXiv
2405.17604, equation 2) lora_A is diag(S) V^T and lora_B is U R; with the singular values on the output's side they are
V^T and U diag(S) R. The other methods' files are PEFT's already.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from peft import PeftConfig, PeftModel
from peft.tuners.lora import LoraLayer

from ..adapters.adapter import CONFIG_FILE
from ..adapters.peft_adapter import attaching
from ..files import canonical_json, read_json_object, write_bytes, write_text
from ..models import load_backbone, round_to
from ..models.writing import refuse_foreign_to_transformers
from ..tensor_file import TENSORS_FILE, serialized
from .source import Source, as_input, class_probabilities
from .trained import Trained


def write(source: Source, trained: Trained, folder: Path) -> None:
    """Write PEFT's two files: those of the adapter as they are, or for LoRA-XS those of the same update as LoRA."""
    assert trained.adapter is not None
    refuse_foreign_to_transformers(trained.backbone)
    if source.record.method_used != "lora-xs":
        for name in (CONFIG_FILE, TENSORS_FILE):
            write_bytes(folder / name, (source.folder / name).read_bytes())
        return
    config = {**read_json_object(source.folder / CONFIG_FILE), "peft_type": "LORA"}
    config.pop("basis_side", None)  # is in the factors
    write_text(folder / CONFIG_FILE, canonical_json(config))
    factors = {  # lora_A (R, I) and lora_B (O, R) of every adapted layer, by the names PEFT saves them under
        f"{name}.{factor}.weight": getattr(layer, factor)["default"].weight.detach()
        for name, layer in trained.adapter.model.named_modules()
        if isinstance(layer, LoraLayer)
        for factor in ("lora_A", "lora_B")
    }
    write_bytes(folder / TENSORS_FILE, serialized(factors))


def read_back(source: Source, folder: Path) -> NDArray[np.float32]:
    """Probabilities ``(N, C)`` of the probes by PEFT alone, on the base that the adapter was trained on."""
    backbone = load_backbone(source.recipe.model.model, exportable=True)
    model = source.recipe.model
    round_to(backbone.model, backbone.quantized_linears(projection=model.quantize_projection), model.quantize)
    with attaching(0, PeftConfig.from_pretrained(folder)):
        PeftModel.from_pretrained(backbone.model, folder).eval()  # the layers are replaced in the backbone's model
    return class_probabilities(backbone, source.record.prompts, as_input(source.probes), source.temperature)
