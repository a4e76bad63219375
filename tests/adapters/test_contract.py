"""What every adapter method must do, with every precision of the base."""

import pytest
import torch
from torch.nn import functional

from lowshot.adapters import adapter_tensors
from lowshot.config import preset_recipe
from lowshot.methods import METHODS
from lowshot.models import load_backbone
from lowshot.training import create_learner

PROMPTS = ("a photo of a cat.", "a photo of a dog.", "a photo of a very long name.")
WEIGHT_METHODS = [name for name, spec in METHODS.items() if spec.kind == "weights"]
# At the start LoRA's and DoRA's update is zero; DoRA divides by a norm it recomputes, and R starts at 1e-5.
TOLERANCE_AT_START = {"lora": 0.0, "dora": 2e-5, "lora-xs": 2e-3}

everything = pytest.mark.parametrize("method", WEIGHT_METHODS)
both_bases = pytest.mark.parametrize("quantize", ["none", "nf4"])


def learner_on(tiny_clip, method, quantize="none", **settings):
    recipe = preset_recipe("paper", method).replace(model=str(tiny_clip), quantize=quantize)
    recipe = recipe.replace(**{"rank": 4, "dropout": 0.0, **settings})
    return create_learner(load_backbone(str(tiny_clip)), PROMPTS, recipe)


def images(count=5):
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def take_steps(learner, count=2):
    optimizer = torch.optim.AdamW(learner.parameters, lr=1e-2)
    for _ in range(count):
        optimizer.zero_grad()
        scores = learner.backbone.logits(learner.backbone.encode_images(images()), learner._encode_classes())
        functional.cross_entropy(scores, torch.tensor([0, 1, 2, 0, 1])).backward()
        optimizer.step()
    learner._classes = None


@everything
@both_bases
def test_a_new_adapter_changes_nothing(tiny_clip, method, quantize):
    plain = learner_on(tiny_clip, "zero-shot", quantize).logits(images())
    torch.testing.assert_close(
        learner_on(tiny_clip, method, quantize).logits(images()), plain, atol=TOLERANCE_AT_START[method], rtol=0
    )


@everything
@both_bases
def test_training_moves_every_adapter_parameter_of_both_towers_and_nothing_else(tiny_clip, method, quantize):
    learner = learner_on(tiny_clip, method, quantize)
    before = {name: p.detach().clone() for name, p in learner.adapter.named_parameters()}
    take_steps(learner)
    moved = {name for name, p in learner.adapter.named_parameters() if not torch.equal(p.detach(), before[name])}
    trained = {name for name, p in learner.adapter.named_parameters() if p.requires_grad}
    assert moved == trained
    assert any("text_model" in name for name in moved)
    assert any("vision_model" in name for name in moved)
    assert all("lora_" in name for name in moved)


@everything
@both_bases
def test_what_is_saved_is_the_adapter_alone_and_comes_back_the_same(tiny_clip, method, quantize, tmp_path):
    learner = learner_on(tiny_clip, method, quantize)
    take_steps(learner)
    tensors = adapter_tensors(learner.adapter)
    assert sum(t.numel() for t in tensors.values()) == learner.trainable_parameters
    learner.save(tmp_path)
    assert (tmp_path / "adapter_model.safetensors").stat().st_size == learner.adapter_bytes
    again = learner_on(tiny_clip, method, quantize, seed=99)
    again.load(tmp_path)
    torch.testing.assert_close(again.logits(images()), learner.logits(images()), atol=1e-5, rtol=0)


@everything
def test_saving_is_the_same_byte_for_byte(tiny_clip, method, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        learner_on(tiny_clip, method).save(tmp_path / name)
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


@everything
def test_the_seed_alone_determines_the_start(tiny_clip, method):
    starts = [adapter_tensors(learner_on(tiny_clip, method, seed=seed).adapter) for seed in (1, 1, 2)]
    assert all(torch.equal(starts[0][name], starts[1][name]) for name in starts[0])
    assert any(not torch.equal(starts[0][name], starts[2][name]) for name in starts[0])


@everything
@pytest.mark.parametrize(
    ("settings", "places"),
    [
        ({"encoder": "vision"}, 3 * 3),
        ({"encoder": "text"}, 2 * 3),
        ({"projections": ("q",)}, 5),
        ({"projections": ("q", "k", "v", "o")}, 20),
        ({"position": "top3"}, 5 * 3),
        ({"position": "up"}, 2 * 3),
    ],
)
def test_placement_settings_decide_where_it_sits(tiny_clip, method, settings, places):
    learner = learner_on(tiny_clip, method, **settings)
    layers = {name.rsplit(".lora_", 1)[0] for name, p in learner.adapter.named_parameters() if p.requires_grad}
    assert len(layers) == places


@everything
def test_rank_alpha_and_scaling_change_the_update(tiny_clip, method):
    def shift(**settings):
        learner = learner_on(tiny_clip, method, **settings)
        for index, parameter in enumerate(learner.parameters):
            if parameter.ndim == 2:
                parameter.data = 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(index))
        return learner.logits(images())

    usual = shift()
    assert not torch.allclose(shift(alpha=3.0), usual, atol=1e-3)
    assert not torch.allclose(shift(scaling="rank"), usual, atol=1e-3)
    # alpha/r at alpha 4 with r = 4 is 1; alpha/sqrt(r) at alpha 2 is 1 too: the same function
    torch.testing.assert_close(shift(alpha=4.0, scaling="rank"), shift(alpha=2.0), atol=1e-5, rtol=0)


def test_lora_is_the_formula(tiny_clip):
    learner = learner_on(tiny_clip, "lora", alpha=3.0)
    name = "vision_model.encoder.layers.1.self_attn.k_proj"
    layer = learner.backbone.model.get_submodule(name)
    b = layer.lora_B["default"].weight
    b.data = torch.randn(b.shape, generator=torch.Generator().manual_seed(5))
    x = torch.randn(7, 24, generator=torch.Generator().manual_seed(6))
    update = 3.0 / 4**0.5 * b @ layer.lora_A["default"].weight
    expected = x @ (layer.base_layer.weight + update).T + layer.base_layer.bias
    torch.testing.assert_close(layer(x), expected, atol=1e-5, rtol=1e-5)


def test_dora_is_the_formula(tiny_clip):
    learner = learner_on(tiny_clip, "dora", alpha=3.0)
    layer = learner.backbone.model.get_submodule("text_model.encoder.layers.0.self_attn.q_proj")
    b = layer.lora_B["default"].weight
    b.data = torch.randn(b.shape, generator=torch.Generator().manual_seed(5))
    magnitude = layer.lora_magnitude_vector["default"].weight
    magnitude.data = magnitude.data * 1.5
    x = torch.randn(7, 16, generator=torch.Generator().manual_seed(6))
    direction = layer.base_layer.weight + 3.0 / 4**0.5 * b @ layer.lora_A["default"].weight
    weight = magnitude[:, None] * direction / direction.norm(dim=1, keepdim=True)
    torch.testing.assert_close(layer(x), x @ weight.T + layer.base_layer.bias, atol=1e-5, rtol=1e-5)


def test_dora_and_qlora_really_differ_from_lora(tiny_clip):
    results = {}
    for method, quantize in (("lora", "none"), ("lora", "nf4"), ("dora", "none")):
        learner = learner_on(tiny_clip, method, quantize)
        take_steps(learner, 5)
        results[method, quantize] = learner.logits(images())
    lora = results["lora", "none"]
    assert not torch.allclose(results["lora", "nf4"], lora, atol=1e-2)
    assert not torch.allclose(results["dora", "none"], lora, atol=1e-2)


def test_the_base_is_really_in_four_bits(tiny_clip):
    bitsandbytes = pytest.importorskip("bitsandbytes")
    model = learner_on(tiny_clip, "lora", "nf4").backbone.model
    quantized = [m for m in model.modules() if isinstance(m, bitsandbytes.nn.Linear4bit)]
    assert len(quantized) == 6 * 5
    assert all(m.weight.quant_type == "nf4" and m.weight.quant_state.nested for m in quantized)
    assert all(m.weight.element_size() * m.weight.numel() * 2 == m.in_features * m.out_features for m in quantized)


def test_lora_xs_on_four_bits_keeps_the_basis_of_the_full_weight(tiny_clip):
    name = "vision_model.encoder.layers.0.self_attn.v_proj"
    factors = []
    for quantize in ("none", "nf4"):
        layer = learner_on(tiny_clip, "lora-xs", quantize).backbone.model.get_submodule(name)
        factors.append((layer.lora_A["default"].weight, layer.lora_B["default"].u))
    for plain, quantized in zip(*factors, strict=True):
        assert torch.equal(plain, quantized)
