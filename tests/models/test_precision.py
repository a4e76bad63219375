"""The precision that ``auto`` means, on devices that models only say they are on."""

import numpy as np
import pytest
import torch

from lowshot import FewShotClassifier
from lowshot.models import Towers, load_backbone, resolve_precision, set_precision
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


@pytest.fixture
def cpu(monkeypatch):
    """From here on torch says that the CPU has these instructions, and no others."""

    def cpu(*instructions):
        monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
        has = {"avx2": True, "avx512_bf16": False, **dict.fromkeys(instructions, True)}
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has, raising=False)

    return cpu


@pytest.mark.parametrize("instructions", ["avx512_bf16", "amx_bf16", "bf16"])
def test_on_a_cpu_auto_is_float32_but_on_a_quantised_base_where_it_multiplies_bfloat16(tiny_clip, cpu, instructions):
    """Without instructions for it qlora took ten times as long on digits."""
    towers = load_backbone(str(tiny_clip))
    cpu("avx512_f", "neon")
    assert [resolve_precision(each, "auto", towers) for each in ("none", "nf4", "int8")] == ["fp32", "fp32", "fp32"]
    assert resolve_precision("nf4", "bf16", towers) == "bf16"
    cpu(instructions)
    assert [resolve_precision(each, "auto", towers) for each in ("none", "nf4", "int8")] == ["fp32", "bf16", "bf16"]


def test_what_torch_does_not_tell_of_a_cpu_it_does_not_have(tiny_clip, cpu, monkeypatch):
    towers = load_backbone(str(tiny_clip))
    cpu("avx512_bf16")
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)  # nothing would use the instructions
    assert resolve_precision("nf4", "auto", towers) == "fp32"
    cpu("avx512_bf16")
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert resolve_precision("nf4", "auto", towers) == "fp32"


@pytest.mark.parametrize(("instructions", "expected"), [((), "fp32"), (("avx512_bf16",), "bf16")])
def test_a_quantised_adapter_records_what_it_was_computed_in(tiny_clip, cpu, instructions, expected):
    cpu(*instructions)
    quick = {"base_steps": 1, "steps_per_shot": 0, "batch_size": 2, "images_per_pass": 2}
    classifier = FewShotClassifier(str(tiny_clip), method="qlora", preset="paper", **quick)
    generator = np.random.default_rng(1)
    images = [generator.integers(0, 255, (16, 16, 3), dtype=np.uint8) for _ in range(2)]
    classifier.fit(images, ["a", "b"], shots=1)
    assert classifier.record_.recipe["model"]["precision"] == expected


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_attention_in_half_precision_is_the_same_on_every_cpu(tiny_clip, cpu, dtype):
    """Where the CPU does not multiply it, it goes through float32, and what comes out has its type."""
    backbone = load_backbone(str(tiny_clip))
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        exact = backbone.encode_images(images)
        set_precision(backbone.model, [], precision={torch.bfloat16: "bf16", torch.float16: "fp16"}[dtype])
        for instructions in ((), ("avx512_bf16",)):
            cpu(*instructions)
            assert torch.nn.functional.cosine_similarity(backbone.encode_images(images).float(), exact).min() > 0.999


@pytest.mark.parametrize("preset", ["paper", "builtin"])
def test_an_adapter_is_put_into_a_model_of_that_type(tiny_clip, cuda, preset):
    backbone = load_backbone(str(tiny_clip))
    cuda()
    adapter = adapt(backbone, preset_recipe(preset, "lora"))
    assert backbone.dtype == torch.float16
    assert {parameter.dtype for parameter in adapter.parameters()} == {torch.float32}
