"""The precision that ``auto`` means, on devices that models only say they are on."""

import pytest
import torch

from lowshot.models import load_backbone, resolve_precision
from lowshot.models.backbone import Towers
from lowshot.settings import preset_recipe
from lowshot.training.placing import adapt


@pytest.fixture
def cuda(monkeypatch):
    """From here on all models are on a GPU, which computes in bfloat16 or is too old for it."""

    def cuda(bf16=True):
        monkeypatch.setattr(Towers, "device", torch.device("cuda"))
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: bf16)

    return cuda


@pytest.mark.parametrize(
    ("model", "quantize", "bf16", "expected"),
    [
        ("tiny_clip", "none", True, "fp16"),
        ("tiny_clip", "none", False, "fp16"),
        ("tiny_clip", "nf4", True, "bf16"),
        ("tiny_clip", "int8", False, "fp16"),
        ("tiny_siglip", "none", True, "bf16"),
        ("tiny_naflex", "none", True, "bf16"),
        ("tiny_siglip", "none", False, "fp16"),
    ],
)
def test_on_a_gpu_auto_is_what_published_code_computes_in(request, cuda, model, quantize, bf16, expected):
    """For CLIP-LoRA that is float16; it was bfloat16, whose gradients are nine times as far from float32's."""
    towers = load_backbone(str(request.getfixturevalue(model)))
    cuda(bf16)
    assert resolve_precision(quantize, "auto", towers) == expected
    assert [resolve_precision(quantize, named, towers) for named in ("fp32", "bf16", "fp16")] == [
        "fp32",
        "bf16",
        "fp16",
    ]


@pytest.mark.parametrize(("quantize", "expected"), [("none", "fp32"), ("nf4", "bf16"), ("int8", "bf16")])
def test_on_a_cpu_auto_is_float32_but_on_a_quantised_base(tiny_clip, quantize, expected):
    assert resolve_precision(quantize, "auto", load_backbone(str(tiny_clip))) == expected


@pytest.mark.parametrize("preset", ["paper", "builtin"])
def test_an_adapter_is_put_into_a_model_of_that_type(tiny_clip, cuda, preset):
    backbone = load_backbone(str(tiny_clip))
    cuda()
    adapter = adapt(backbone, preset_recipe(preset, "lora"))
    assert backbone.dtype == torch.float16
    assert {parameter.dtype for parameter in adapter.parameters()} == {torch.float32}
