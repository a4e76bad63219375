"""Layers that see the same input are computed together in a step; each by itself gives the same gradients."""

import pytest
import torch
from peft import LoraConfig, get_peft_model

from lowshot.adapters.joint import JointUpdates
from lowshot.adapters.lean import LeanMixin, modules_with
from lowshot.models.frozen import side_by_side
from lowshot.training.step import ExactStep, Passes

from ..training import steps
from ..training.steps import LABELS, ROWS, WHOLE, crops, learner_on

CUT = Passes(2, 1)


def gradients(learner, passes=WHOLE, checkpointing=False, **how):
    loss, each = steps.gradients(learner, passes, checkpointing=checkpointing, step=5, **how)
    return torch.tensor(loss), *each


def assert_same(ours, expected, tolerance):
    assert all(gradient.abs().max() > 0 for gradient in expected)
    steps.assert_same((ours[0].item(), ours[1:]), (expected[0].item(), expected[1:]), tolerance)


@pytest.mark.parametrize("method", ["lora", "lora-xs"])
@pytest.mark.parametrize(
    "chosen",
    [
        {},
        {"dropout": 0.0},
        {"projections": ("q",)},
        {"projections": ("q", "k")},  # next to each other among what is adapted, and not in memory
        {"projections": ("q", "k", "v", "o")},
        {"projections": ("fc1", "fc2")},
        {"projections": ("v", "o", "fc2")},
        {"position": "0"},
    ],
    ids=lambda c: "-".join(map(str, c.values())) or "qkv",
)
def test_together_is_each_by_itself(tiny_clip, method, chosen):
    learner = learner_on(tiny_clip, method, **chosen)
    assert_same(gradients(learner), gradients(learner, joint=False), 1e-10)
    assert_same(gradients(learner, CUT), gradients(learner, joint=False), 1e-10)


def test_it_is_so_for_ranks_that_differ_from_layer_to_layer(tiny_clip):
    learner = learner_on(tiny_clip, rank_by_depth="increasing")
    assert_same(gradients(learner), gradients(learner, joint=False), 1e-10)


@pytest.mark.parametrize("method", ["dora", "layernorm", "full", "bitfit", "clip-svd", "2sfs"])
def test_it_is_so_for_methods_without_plain_lora_layers(tiny_clip, method):
    learner = learner_on(tiny_clip, method)
    if method == "2sfs":
        learner.parameters[-1].requires_grad_(False)
    trained = [index for index, p in enumerate(learner.parameters) if p.requires_grad]
    together, alone = gradients(learner), gradients(learner, joint=False)
    for index in trained:
        torch.testing.assert_close(together[1 + index], alone[1 + index], atol=1e-10, rtol=1e-9)


def assert_same_in_fewer_bits(model, method, quantize):
    learner = learner_on(model, method, torch.float32, quantize=quantize)
    # A MobileCLIP of random weights makes a hundred times as much of float32's rounding, on plain weights too.
    tolerance = 5e-4 if learner.backbone.model.config.model_type == "mobileclip" else 2e-5
    assert_same(gradients(learner), gradients(learner, joint=False), tolerance)


def test_it_is_so_on_weights_in_fewer_bits(any_tiny_model):
    assert_same_in_fewer_bits(any_tiny_model, "lora", "nf4")


@pytest.mark.parametrize(
    ("method", "quantize"),
    [("lora", "int8"), *((method, bits) for method in ("lora-xs", "layernorm") for bits in ("nf4", "int8"))],
)
@pytest.mark.parametrize("family", ["tiny_clip", "tiny_chinese_clip"])  # whose attention has other layers for texts
def test_it_is_so_whatever_the_bits_and_the_method(request, family, method, quantize):
    assert_same_in_fewer_bits(request.getfixturevalue(family), method, quantize)


@pytest.mark.parametrize("method", ["lora", "lora-xs"])
def test_a_block_that_is_computed_again_finds_the_factors_it_had(tiny_clip, method):
    learner = learner_on(tiny_clip, method)
    plain = gradients(learner, joint=False)
    assert_same(gradients(learner, checkpointing=True), plain, 1e-10)
    assert_same(gradients(learner, CUT, checkpointing=True), plain, 1e-10)


@pytest.mark.parametrize(
    ("method", "how"), [("lora", {}), ("lora-xs", {"basis_side": "input"}), ("lora-xs", {"basis_side": "output"})]
)
def test_products_in_the_type_of_the_base_are_those_of_float32_but_for_its_rounding(tiny_clip, method, how):
    learner = learner_on(tiny_clip, method, torch.float32, precision="bf16", dropout=0.0, **how)
    exact = gradients(learner_on(tiny_clip, method, torch.float32, dropout=0.0, **how))
    in_float32, in_base = gradients(learner), gradients(learner, products_in=torch.bfloat16)
    assert not torch.equal(in_base[1], in_float32[1])
    assert {gradient.dtype for gradient in in_base[1:]} == {torch.float32}
    away = [
        sum((g - e).double().square().sum() for g, e in zip(rounded, exact, strict=True))
        for rounded in (in_base, in_float32)
    ]
    assert away[0] < 3 * away[1]  # it rounds no more than the base does


@pytest.mark.parametrize("method", ["lora", "lora-xs"])
def test_a_step_adds_to_the_gradients_that_are_there(tiny_clip, method):
    learner = learner_on(tiny_clip, method)
    _, *once = gradients(learner)
    for parameter, gradient in zip(learner.parameters, once, strict=True):
        parameter.grad = 3 * gradient
    vectors = learner.class_vectors.in_steps()
    step = ExactStep(learner.backbone, vectors, learner.keys, WHOLE, learner.vectors_are_trained)
    with learner.backbone.training():
        step.accumulate(5, ROWS, LABELS, crops)
    for parameter, gradient in zip(learner.parameters, once, strict=True):
        torch.testing.assert_close(parameter.grad, 4 * gradient, atol=1e-12, rtol=1e-9)


def test_weights_that_lie_side_by_side_stay_parameters_of_their_own(tiny_clip):
    learner = learner_on(tiny_clip)
    attention = learner.backbone.model.vision_model.encoder.layers[0].self_attn
    bases = [layer.get_base_layer() for layer in (attention.k_proj, attention.v_proj, attention.q_proj)]
    before = [base.weight.clone() for base in bases]
    gradients(learner)
    joined = side_by_side([base.weight for base in bases])
    assert torch.equal(joined, torch.cat(before))
    assert all(torch.equal(base.weight, weight) for base, weight in zip(bases, before, strict=True))
    assert joined.data_ptr() == bases[0].weight.data_ptr()
    assert side_by_side([base.weight for base in bases[:2]]).data_ptr() == joined.data_ptr()
    bases[1].weight.data = bases[1].weight.data.clone()  # moved away, as a copy of the model is
    assert torch.equal(side_by_side([base.weight for base in bases]), torch.cat(before))


def test_query_key_and_value_of_a_bert_are_one_product_too(tiny_chinese_clip):
    model = learner_on(tiny_chinese_clip, "lora").backbone.model
    attention = model.text_model.encoder.layer[1].attention.self
    assert JointUpdates(model).to([attention.query, attention.key, attention.value]) is not None


def test_layers_of_other_shapes_apart_from_each_other_or_merged_are_no_product():
    config = LoraConfig(r=3, rank_pattern={"a": 2}, target_modules=list("abcd"))
    config._register_custom_module(modules_with(LeanMixin))
    with torch.random.fork_rng():
        block = torch.nn.ModuleDict({name: torch.nn.Linear(4, 4) for name in "abcd"})
        block["wide"] = torch.nn.Linear(4, 6)
        model = torch.nn.ModuleDict({"blocks": torch.nn.ModuleList([block])})
        get_peft_model(model, config)
    known, (a, b, c, d, wide) = JointUpdates(model), block.values()
    assert all(known.to(joined) is not None for joined in ([a], [b, c], [b, c, d]))
    assert known.to([a, c]) is None  # the first of its rank, and the second
    assert known.to([b, d]) is None
    assert known.to([b, wide]) is None
    d.merge()
    assert JointUpdates(model).to([c, d]) is None  # whose update is in its weight


def test_every_plain_layer_is_in_it_and_no_other(tiny_clip):
    for method, there in (("lora", True), ("lora-xs", True), ("dora", False), ("full", False)):
        model = learner_on(tiny_clip, method).backbone.model
        layers = [module for module in model.modules() if isinstance(module, LeanMixin)]
        known = JointUpdates(model)
        assert bool(layers) == there
        assert all(known.to([layer]) is not None for layer in layers)
