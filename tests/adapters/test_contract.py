"""The contract of every method that trains weights, on a base in full precision and in 4 and 8 bits."""

import copy
import dataclasses
import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lowshot.adapters import adapter_bytes
from lowshot.errors import InputError
from lowshot.methods import METHODS, method_spec
from lowshot.models import load_backbone
from lowshot.training.placing import adapt
from refusing import refused

from .conftest import images, take_steps

# What 2sfs adapts it adapts as layernorm; tests/training/test_two_stage.py has its classifier.
WEIGHT_METHODS = [name for name, spec in METHODS.items() if spec.kind == "weights" and not spec.has_classifier]
PROMPT_METHODS = [name for name, spec in METHODS.items() if spec.kind == "prompts"]
"""They start at random, or as words that the prompts do not have, and no weights can hold them."""
PEFT_METHODS = {"peft:loha": ("r=2",), "peft:oft": ("oft_block_size=4",), "peft:vera": ("r=8",)}
"""Some of PEFT's tuners; ``test_peft_types.py`` tries all of them."""
EVERY = {**dict.fromkeys([*WEIGHT_METHODS, *PROMPT_METHODS], ()), **PEFT_METHODS}
QUANTIZABLE = [name for name in EVERY if name not in ("full", "clip-svd", "peft:loha")]

# At the start LoRA's update is zero and parameters are what they were. DoRA divides by a norm it recomputes, VeRA, OFT
# and R start within rounding or at 1e-5: differences of logits of order 10.
TOLERANCE_AT_START = {"dora": 2e-5, "lora-xs": 2e-3, "peft:oft": 2e-5}
# A quantised base computes in bfloat16 unless asked for float32, and a step of rounding in a logit of 10 is 0.06.
FULL = {"precision": "fp32"}

everything = pytest.mark.parametrize("method", EVERY)
on_every_base = pytest.mark.parametrize(
    ("method", "quantize"),
    [(method, "none") for method in EVERY] + [(m, q) for q in ("nf4", "int8") for m in QUANTIZABLE],
)


inside_the_towers = pytest.mark.parametrize(
    ("method", "quantize"), [case for case in on_every_base.args[1] if case[0] not in PROMPT_METHODS]
)


def building(learner_on):
    def build(method, quantize="none", **settings):
        options = {"peft": EVERY[method]} if method in PEFT_METHODS else {}
        return learner_on(method, quantize, **{**FULL, **options, **settings})

    return build


@pytest.fixture(scope="module")
def fresh(learner_on):
    return building(learner_on)


@pytest.fixture(scope="module")
def shallow(shallow_learner_on):
    return building(shallow_learner_on)


@dataclasses.dataclass
class Course:
    """A learner after two steps, to be read only, and what it was before."""

    learner: Any
    logits_at_first: torch.Tensor
    start: dict[str, torch.Tensor]
    """The adapter's tensors before the steps."""
    base: dict[str, torch.Tensor]
    """Every other tensor of the model then."""
    gradients: list[torch.Tensor | None]
    """Of the second step."""
    logits: torch.Tensor
    saved: Path


@pytest.fixture(scope="module")
def course(shallow, tmp_path_factory):
    """``course("lora", "nf4")``: each is trained once."""

    @functools.cache
    def take(method, quantize="none", precision="fp32"):
        learner = shallow(method, quantize, precision=precision)
        start = {name: tensor.detach().clone() for name, tensor in learner.adapter.tensors().items()}
        base = {name: tensor.detach().clone() for name, tensor in frozen(learner).items()}
        at_first = learner.logits(images())
        learner._classes = None
        gradients, folder = take_steps(learner), tmp_path_factory.mktemp("course")
        learner.save(folder)
        return Course(learner, at_first, start, base, gradients, learner.logits(images()), folder)

    return take


def frozen(learner):
    """Every tensor of the model that is not trained, by name: parameters, buffers, quantisation constants."""
    trained = {id(parameter) for parameter in learner.parameters}
    return {name: t for name, t in learner.adapter.model.state_dict(keep_vars=True).items() if id(t) not in trained}


@inside_the_towers
def test_a_new_adapter_changes_nothing(shallow, course, method, quantize):
    plain = shallow("zero-shot", quantize).logits(images())
    logits = course(method, quantize).logits_at_first
    torch.testing.assert_close(logits, plain, atol=TOLERANCE_AT_START.get(method, 0.0), rtol=0)


@on_every_base
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_parameter_of_both_towers_gets_a_gradient_and_moves_and_nothing_else_does(
    course, method, quantize, precision
):
    run = course(method, quantize, precision)
    model, trained = run.learner.adapter.model, {id(parameter) for parameter in run.learner.parameters}
    assert all(p.dtype == torch.float32 for p in run.learner.parameters)
    assert all(g is not None and g.isfinite().all() for g in run.gradients)
    now = run.learner.adapter.tensors()
    moved = [name for name, tensor in run.start.items() if not torch.equal(now[name], tensor)]
    assert len(moved) == len(run.learner.parameters)
    after = frozen(run.learner)
    assert run.base.keys() == after.keys()
    assert all(torch.equal(tensor.detach(), run.base[name]) for name, tensor in after.items())
    names = [name for name, parameter in model.named_parameters() if id(parameter) in trained]
    assert len(names) == len(trained)
    assert any("text_model" in name for name in names) or method == "peft:vera"  # VeRA shares its matrices
    assert any("vision_model" in name for name in names) or method == "coop"  # which leaves the images alone


@everything
def test_only_what_the_method_declares_is_trainable(course, method):
    learner = course(method).learner
    trainable = [p for p in learner.adapter.model.parameters() if p.requires_grad]
    assert {id(p) for p in trainable} == {id(p) for p in learner.parameters}
    assert learner.trainable_parameters == sum(p.numel() for p in trainable)


@on_every_base
def test_what_is_saved_is_the_adapter_alone_and_comes_back_the_same(shallow, course, method, quantize):
    run = course(method, quantize)
    tensors = run.learner.adapter.tensors()
    extra = sum(t.numel() for t in tensors.values()) - run.learner.trainable_parameters
    assert extra == (8 * 24 + 8 * 24 if method == "peft:vera" else 0)  # VeRA's random matrices travel along
    assert (run.saved / "adapter_model.safetensors").stat().st_size == run.learner.adapter_bytes
    again = shallow(method, quantize, seed=99)
    again.load(run.saved)
    assert torch.equal(again.logits(images()), run.logits)


@everything
def test_the_size_of_the_file_is_known_without_any_values(course, method):
    class Meta:
        def __init__(self, adapter):
            self.adapter = adapter

        def tensors(self):
            return {name: tensor.to("meta") for name, tensor in self.adapter.tensors().items()}

    learner = course(method).learner
    assert adapter_bytes(Meta(learner.adapter)) == learner.adapter_bytes


@everything
def test_the_same_seed_saves_the_same_byte_for_byte_and_another_one_starts_elsewhere(
    shallow, course, method, tmp_path, monkeypatch
):
    start, other = course(method).start, shallow(method, seed=2).adapter.tensors()
    random = method in ("lora", "dora", "lora-xs", "peft:loha", *PROMPT_METHODS)  # VeRA's matrices have a key of theirs
    assert any(not torch.equal(start[name], other[name]) for name in start) == random
    monkeypatch.setenv("LOWSHOT_CACHE", str(tmp_path / "cache"))  # the second finds there what the first computed
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        shallow(method).save(tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert "adapter_model.safetensors" in files
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


@inside_the_towers
def test_a_merged_model_is_a_plain_one_with_the_same_answers(course, method, quantize):
    """On a quantised base: plain layers with the rounded weights, plus the update."""
    run = course(method, quantize)
    backbone = load_backbone(run.learner.recipe.model.model)
    names = {name for name, _ in backbone.model.named_parameters()}
    adapter = adapt(backbone, run.learner.recipe, rounded=True)
    adapter.load(run.saved)
    merged = adapter.merge()
    assert merged is backbone.model
    assert {name for name, _ in merged.named_parameters()} == names
    assert all(type(m) in (nn.Linear, nn.modules.linear.NonDynamicallyQuantizableLinear) for m in linears(merged))
    learner = copy.copy(run.learner)
    learner.backbone, learner._classes = backbone, None
    torch.testing.assert_close(learner.logits(images()), run.logits, atol=2e-4, rtol=0)


@pytest.mark.parametrize("quantize", ["nf4", "int8"])
def test_a_projection_in_fewer_bits_is_a_plain_one_of_its_rounded_weights(fresh, quantize, tmp_path):
    learner = fresh("lora", quantize, quantize_projection=True)
    assert not learner.backbone.model.visual_projection.weight.is_floating_point()
    take_steps(learner)
    learner.save(tmp_path)
    unmerged = learner.logits(images())
    backbone = load_backbone(learner.recipe.model.model)
    whole = backbone.model.visual_projection.weight.clone()
    adapter = adapt(backbone, learner.recipe, rounded=True)
    assert 0 < (backbone.model.visual_projection.weight - whole).abs().max() < whole.abs().max() / 3
    adapter.load(tmp_path)
    learner.backbone, learner._classes = backbone, None
    torch.testing.assert_close(learner.logits(images()), unmerged, atol=2e-4, rtol=0)


def linears(model):
    return [module for module in model.modules() if isinstance(module, nn.Linear)]


@pytest.mark.parametrize("method", ["lora", "lora-xs"])
def test_merging_adds_the_update_to_the_base_once_however_often_it_is_called(fresh, method):
    learner = fresh(method)
    take_steps(learner)
    layer = learner.backbone.model.get_submodule("text_model.encoder.layers.1.self_attn.v_proj")
    base = layer.base_layer.weight.detach().clone()
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    expected = base + layer.scaling["default"] * (b @ a)
    layer.merge()
    torch.testing.assert_close(layer.base_layer.weight, expected, atol=1e-6, rtol=0)
    with pytest.warns(UserWarning, match="already merged, nothing to do"):
        layer.merge()
    torch.testing.assert_close(layer.base_layer.weight, expected, atol=1e-6, rtol=0)
    layer.unmerge()
    torch.testing.assert_close(layer.base_layer.weight, base, atol=1e-6, rtol=0)


@everything
@pytest.mark.parametrize(
    "settings",
    [
        {"encoder": "vision"},
        {"encoder": "text"},
        {"projections": ("q",)},
        {"projections": ("q", "k", "v", "o")},
        {"projections": ("o", "fc1", "fc2")},
        {"position": "top3"},
        {"position": "up"},
        {"position": "half-bottom"},
        {"position": "0,1"},
    ],
    ids=lambda s: "-".join(f"{key}-{value}" for key, value in s.items()),
)
def test_placement_settings_decide_where_it_sits_or_are_refused(fresh, method, settings):
    name = next(iter(settings))
    if name not in method_spec(method).settings:
        with refused(InputError, f"method {method}", f"no {name}", "leave it out"):
            fresh(method, **settings)
        return
    model = fresh(method, **settings).adapter.model
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    blocks = {tuple(name.split(".encoder.layers.")[1].split(".")[:1]) for name in names if ".encoder.layers." in name}
    towers = {tower for tower in ("text_model", "vision_model") if any(tower in n for n in names)}
    if name == "encoder":
        assert towers == {f"{settings['encoder']}_model"}
    elif name == "projections":
        ends = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "o": "out_proj", "fc1": "fc1", "fc2": "fc2"}
        adapted = {end for end in ends.values() if any(f".{end}." in n for n in names)}
        assert adapted == {ends[p] for p in settings["projections"]}
    else:  # three layers in the vision tower, two in the text tower
        expected = {"top3": {"0", "1", "2"}, "up": {"1", "2"}, "half-bottom": {"0", "1"}, "0,1": {"0", "1"}}[
            settings["position"]
        ]
        assert {block for (block,) in blocks} == expected


@pytest.mark.parametrize("method", ["lora", "dora", "lora-xs"])
def test_rank_alpha_and_scaling_change_the_update(fresh, method):
    def shift(**settings):
        learner = fresh(method, **settings)
        for index, parameter in enumerate(learner.parameters):
            if parameter.ndim == 2:
                parameter.data = 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(index))
        return learner.logits(images())

    usual = shift()
    assert not torch.allclose(shift(alpha=3.0), usual, atol=1e-3)
    assert not torch.allclose(shift(scaling="rank"), usual, atol=1e-3)
    # alpha/r at alpha 4 with r = 4 is 1; alpha/sqrt(r) at alpha 2 is 1 too: the same function
    torch.testing.assert_close(shift(alpha=4.0, scaling="rank"), shift(alpha=2.0), atol=1e-5, rtol=0)


@pytest.mark.parametrize("method", ["lora", "dora", "lora-xs"])
@pytest.mark.parametrize("rank", [17, 25])
def test_a_rank_beyond_a_weight_is_refused_with_its_name(fresh, method, rank):
    with refused(InputError, f"rank is {rank}", "self_attn.q_proj", "16 x 16", "at most 16"):
        fresh(method, rank=rank)


def test_a_layer_beyond_the_depth_is_refused_with_the_tower(fresh):
    with refused(InputError, "layer 2", "text tower", "2 layers, 0"):
        fresh("lora", position="0,2")
    assert fresh("lora", position="0,2", encoder="vision").trainable_parameters == 2 * 3 * 2 * 4 * 24


@everything
def test_a_position_without_a_layer_in_a_tower_is_refused(fresh, method):
    if "position" in method_spec(method).settings:
        with refused(InputError, "position mid", "text tower", "has 2"):
            fresh(method, position="mid")


@pytest.mark.parametrize("quantize", ["nf4", "int8"])
@pytest.mark.parametrize(("method", "why"), [("full", "weights themselves"), ("clip-svd", "singular vectors")])
def test_what_makes_no_sense_on_quantised_weights_is_refused(fresh, method, why, quantize):
    with refused(InputError, f"method {method}", why, f"quantize is {quantize}", "expected none"):
        fresh(method, quantize)


def test_full_trains_all_but_the_logit_scale_and_bitfit_all_biases_and_layernorm_all_norms(fresh):
    model = fresh("zero-shot").backbone.model
    everything = {name for name, _ in model.named_parameters()} - {"logit_scale"}
    norms = {f"{n}.{p}" for n, m in model.named_modules() if isinstance(m, nn.LayerNorm) for p in ("weight", "bias")}
    assert set(fresh("full").adapter.tensors()) == everything
    assert set(fresh("bitfit").adapter.tensors()) == {name for name in everything if name.endswith(".bias")}
    assert set(fresh("layernorm").adapter.tensors()) == norms


def test_the_frozen_model_is_not_copied(fresh):
    """An adapter adds its own tensors and nothing else."""
    plain, adapted = fresh("zero-shot").backbone, fresh("lora")
    added = sum(p.numel() for p in adapted.adapter.model.parameters()) - plain.parameters
    assert added == adapted.trainable_parameters


def test_lora_is_the_formula(fresh):
    learner = fresh("lora", alpha=3.0)
    layer = learner.backbone.model.get_submodule("vision_model.encoder.layers.1.self_attn.k_proj")
    b = layer.lora_B["default"].weight
    b.data = torch.randn(b.shape, generator=torch.Generator().manual_seed(5))
    x = torch.randn(7, 24, generator=torch.Generator().manual_seed(6))
    update = 3.0 / 4**0.5 * b @ layer.lora_A["default"].weight
    expected = x @ (layer.base_layer.weight + update).T + layer.base_layer.bias
    torch.testing.assert_close(layer(x), expected, atol=1e-5, rtol=1e-5)


def test_dora_is_the_formula(fresh):
    learner = fresh("dora", alpha=3.0)
    layer = learner.backbone.model.get_submodule("text_model.encoder.layers.0.self_attn.q_proj")
    b = layer.lora_B["default"].weight
    b.data = torch.randn(b.shape, generator=torch.Generator().manual_seed(5))
    magnitude = layer.lora_magnitude_vector["default"].weight
    magnitude.data = magnitude.data * 1.5
    x = torch.randn(7, 16, generator=torch.Generator().manual_seed(6))
    direction = layer.base_layer.weight + 3.0 / 4**0.5 * b @ layer.lora_A["default"].weight
    weight = magnitude[:, None] * direction / direction.norm(dim=1, keepdim=True)
    torch.testing.assert_close(layer(x), x @ weight.T + layer.base_layer.bias, atol=1e-5, rtol=1e-5)


def test_dora_and_qlora_really_differ_from_lora(fresh):
    results = {}
    for method, quantize in (("lora", "none"), ("lora", "nf4"), ("lora", "int8"), ("dora", "none")):
        learner = fresh(method, quantize)
        take_steps(learner, 5)
        results[method, quantize] = learner.logits(images())
    plain = results.pop(("lora", "none"))
    assert all(not torch.allclose(other, plain, atol=1e-3) for other in results.values())
