"""Every tuner of PEFT is either reached or refused with its reason."""

import dataclasses

import pytest
import torch
from peft import get_peft_model
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from torch import nn

import lowshot.adapters.lora_xs.tuner  # noqa: F401 - registers our own type with PEFT
from lowshot.adapters.peft_types import KNOW_QUANTISED_WEIGHTS, NOT_FOR_LINEAR_LAYERS, tuner_config, tuners
from lowshot.errors import AdapterError, InputError, UnknownNameError
from lowshot.methods import refuse_idle_options
from lowshot.models import load_backbone
from lowshot.training.placing import adapt
from refusing import refused

from .conftest import images, take_steps

# Where PEFT's defaults are for language models' widths, or an option is required.
OPTIONS = {
    "peft:c3a": ("block_size=8",),
    "peft:fourierft": ("n_frequency=16",),
    "peft:ia3": ("feedforward_modules=[]",),
    "peft:miss": ("r=4",),
    "peft:psoft": ("r=4",),
    "peft:road": ("group_size=8",),
    "peft:shira": ("r=2",),
    "peft:vblora": ("vector_length=8", "num_vectors=16"),
    "peft:waveft": ("n_frequency=16",),
}
PROMPT_TUNERS = {"CARTRIDGE", "CPT", "MULTITASK_PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "PROMPT_TUNING"}
NO_TARGETS = PROMPT_TUNERS | {"XLORA"}


def test_every_registered_tuner_is_reached_or_has_a_reason():
    registered = {str(getattr(t, "value", t)) for t in PEFT_TYPE_TO_CONFIG_MAPPING}
    assert registered == {n.removeprefix("peft:").upper() for n in tuners()} | set(NOT_FOR_LINEAR_LAYERS) | NO_TARGETS


# FRoD decomposes all layers of one name together: they must have one shape.
ONE_TOWER = {"peft:frod": {"encoder": "vision", "projections": ("q",)}}


@pytest.mark.filterwarnings("ignore::UserWarning")  # of block sizes that do not divide 16, of missing CUDA compilers
@pytest.mark.parametrize("method", tuners())
def test_every_tuner_trains_on_both_towers_and_comes_back_from_its_file(shallow_learner_on, tmp_path, method):
    settings = {"peft": OPTIONS.get(method, ()), "projections": ("q", "fc1"), **ONE_TOWER.get(method, {})}
    learner = shallow_learner_on(method, **settings)
    before = [p.detach().clone() for p in learner.parameters]
    gradients = take_steps(learner, 4)  # products of three zero-initialised factors wake up one step at a time
    assert all(g is not None for g in gradients)
    moved = [not torch.equal(p.detach(), b) for p, b in zip(learner.parameters, before, strict=True)]
    assert all(moved)
    learner.save(tmp_path)
    assert (tmp_path / "adapter_model.safetensors").stat().st_size == learner.adapter_bytes
    again = shallow_learner_on(method, seed=7, **settings)
    again.load(tmp_path)
    torch.testing.assert_close(again.logits(images()), learner.logits(images()), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", NOT_FOR_LINEAR_LAYERS)
def test_tuners_for_other_things_are_refused_with_the_reason(learner_on, name):
    with refused(InputError, f"peft:{name.lower()}", "linear layers", NOT_FOR_LINEAR_LAYERS[name]):
        learner_on(f"peft:{name.lower()}")


@pytest.mark.parametrize("name", ["prefix_tuning", "xlora", "nonsense", "loah"])
def test_unknown_tuners_are_refused(learner_on, name):
    with refused(UnknownNameError, f"method 'peft:{name}'"):
        learner_on(f"peft:{name}")


@pytest.mark.parametrize(
    ("kind", "options", "fact"),
    [
        (UnknownNameError, ("rank=3",), "'rank'"),
        (UnknownNameError, ("target_modules=all",), "'target_modules'"),
        (UnknownNameError, ("inference_mode=true",), "'inference_mode'"),
        (UnknownNameError, ("bias=all",), "'bias'"),
        (InputError, ("oft_block_size=4", "oft_block_size=8"), "oft_block_size"),
        (InputError, ('oft_block_size="a word"',), "method peft:oft"),
        (InputError, ("r=4", "oft_block_size=4"), "method peft:oft"),
    ],
)
def test_options_are_checked(learner_on, kind, options, fact):
    with refused(kind, "peft:oft", fact):
        learner_on("peft:oft", peft=options)


def test_options_reach_the_tuner(learner_on):
    blocks = {size: learner_on("peft:oft", peft=(f"oft_block_size={size}",)).trainable_parameters for size in (2, 4, 8)}
    assert len(set(blocks.values())) == 3
    config = learner_on("peft:oft", peft={"oft_block_size": 4, "coft": True}).adapter.model.peft_config
    assert config["default"].coft is True


@pytest.mark.parametrize("method", sorted(set(tuners()) - KNOW_QUANTISED_WEIGHTS))
@pytest.mark.parametrize("quantize", ["nf4", "int8"])
def test_tuners_that_do_not_know_quantised_weights_are_refused(shallow_learner_on, method, quantize):
    with refused(InputError, f"method {method}", "quantize none"):
        shallow_learner_on(method, quantize, peft=OPTIONS.get(method, ()), encoder="vision", projections=("q",))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("method", sorted(KNOW_QUANTISED_WEIGHTS))
@pytest.mark.parametrize("quantize", ["nf4", "int8"])
def test_the_others_are_the_same_function_on_plain_layers_of_the_rounded_values(
    shallow_learner_on, tmp_path, method, quantize
):
    options = {**OPTIONS, "peft:oft": ("oft_block_size=4",)}
    learner = shallow_learner_on(method, quantize, peft=options.get(method, ()), precision="fp32")
    before = learner.logits(images())
    take_steps(learner, 4, rate=5e-2)
    trained = learner.logits(images())
    assert (trained - before).abs().max() > 0.01
    learner.save(tmp_path)
    backbone = load_backbone(learner.recipe.model.model)
    adapt(backbone, learner.recipe, rounded=True).load(tmp_path)
    learner.backbone, learner._classes = backbone, None
    torch.testing.assert_close(learner.logits(images()), trained, atol=1e-4, rtol=0)


@pytest.mark.parametrize("option", ["init_lora_weights=pissa", "init_lora_weights=olora"])
def test_an_option_that_changes_the_frozen_weights_is_refused(learner_on, option):
    with refused(InputError, "method peft:lora", "frozen weight", "text_model.encoder.layers.0.self_attn.q_proj"):
        learner_on("peft:lora", peft=(option,))


def trained(method, *options):
    """The outputs of two small layers after three steps of a tuner with these options."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = nn.Sequential(nn.Linear(16, 16), nn.GELU(), nn.Linear(16, 16))
        config = tuner_config(method, (*OPTIONS.get(method, ()), *options), ["0", "2"])
        model = get_peft_model(layers, config).train()
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.eye(16)).square().mean().backward()
            optimizer.step()
        return model.eval()(torch.eye(16)).detach()


def is_same(method, before, after):
    return torch.allclose(trained(method, *before), trained(method, *after), atol=1e-6, rtol=0)


IDLE = [
    *(("adamss", f"{name}=2") for name in ("asa_target_subspaces", "mask_interval", "init_warmup", "final_warmup")),
    *(("adamss", f"{name}=0.5") for name in ("asa_importance_beta", "asa_uncertainty_beta", "asa_schedule_exponent")),
    ("adamss", "use_asa=true"),
    ("boft", "boft_n_butterfly_factor=2"),
    ("lily", "stride_A=2"),
    ("loha", "use_effective_conv2d=true"),
    ("lora", "ensure_weight_tying=true"),
    ("lora", "fan_in_fan_out=true"),
    ("lora", "init_lora_weights=lora_ga"),
    ("lora", "qalora_group_size=4"),
    ("lora", "use_qalora=true"),
    ("oft", "module_dropout=0.5"),
    ("psoft", "psoft_alpha=3"),
]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("tuner", "option"), IDLE)
def test_an_option_that_does_nothing_is_refused_where_something_is_to_be_learnt(tuner, option):
    """PEFT takes it, and the adapter is the same; the record would say that it had been obeyed."""
    assert is_same(f"peft:{tuner}", (), (option,))
    name = option.partition("=")[0]
    with refused(InputError, f"{name} of peft:{tuner}", "leave it out"):
        refuse_idle_options(f"peft:{tuner}", (option,))


@pytest.mark.parametrize("value", ["corda", "eva", "loftq", "lora_ga"])
def test_starts_that_need_a_pass_over_the_data_are_refused_by_name(value):
    """PEFT fails, or goes on with the usual start."""
    with refused(InputError, "init_lora_weights of peft:lora", f"'{value}'", "leave it out"):
        refuse_idle_options("peft:lora", (f"init_lora_weights={value}",))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("tuner", "option", "others"),
    [
        ("adamss", "svd_threshold=0.9999999", ("r=8", "subspace_rank=4", "num_subspaces=2", "use_dynamic_rank=true")),
        ("deft", "init_scale=2", ("init_weights=false",)),
        ("lokr", "rank_dropout_scale=true", ("rank_dropout=0.5",)),
        ("miss", "mini_r=2", ("init_weights=mini",)),
        ("oft", "eps=1", ("oft_block_size=4", "coft=true")),
        ("oft", "num_cayley_neumann_terms=2", ("oft_block_size=4", "use_cayley_neumann=true")),
        ("psoft", "num_cayley_neumann_terms=1", ("use_cayley_neumann=true",)),
        ("psoft", "cayley_neumann_eps=1e-4", ("use_cayley_neumann=true",)),
        ("psoft", "psoft_svd_lowrank_niter=1", ("psoft_svd=lowrank",)),
        ("psoft", "random_seed=3", ("psoft_svd=lowrank",)),
        ("supertuning", "lora_dropout=0.5", ("r=2",)),
        ("tinylora", "init_v_bound=0.5", ("init_weights=uniform",)),
    ],
)
def test_an_option_that_does_nothing_without_another_one_is_refused_without_it(tuner, option, others):
    method, (*sizes, companion) = f"peft:{tuner}", others
    key = companion.partition("=")[0]
    without = sizes if tuner != "oft" or key == "coft" else [*sizes, "use_cayley_neumann=false"]
    assert is_same(method, without, (*without, option))
    assert not is_same(method, others, (*others, option))
    needed = key if key in ("r", "rank_dropout") else companion  # of these any value does
    with refused(InputError, option.partition("=")[0], f"nothing without {needed}"):
        refuse_idle_options(method, (*without, option))
    refuse_idle_options(method, (*others, option))


def test_a_dropout_that_drops_all_is_refused():
    for value in ("1", "2", "-0.5", "true", "much", "NaN"):
        with refused(InputError, "module_dropout", "0 or more", "below 1"):
            refuse_idle_options("peft:loha", (f"module_dropout={value}",))
    refuse_idle_options("peft:loha", ("module_dropout=0.5", "rank_dropout=0"))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_adapter_that_was_saved_with_an_idle_option_is_read(learner_on, tmp_path):
    options = ("init_lora_weights=eva", "fan_in_fan_out=true")
    learner = learner_on("peft:lora", peft=options)
    take_steps(learner)
    learner.save(tmp_path)
    again = learner_on("peft:lora", peft=options)
    again.load(tmp_path)
    assert torch.equal(again.logits(images()), learner.logits(images()))


@pytest.mark.parametrize("option", ["megatron_config={}", "arrow_config={}", "alora_invocation_tokens=[1]"])
def test_options_for_language_models_are_refused(learner_on, option):
    with refused(UnknownNameError, "peft:lora", repr(option.partition("=")[0])):
        learner_on("peft:lora", peft=(option,))


def test_a_config_that_contradicts_the_recipe_in_any_field_is_refused(learner_on, tmp_path):
    learner_on("peft:loha", peft=("r=2", "alpha=4")).save(tmp_path)
    with refused(AdapterError, tmp_path, "alpha = 4", "lowshot.json says 8"):
        learner_on("peft:loha", peft=("r=2", "alpha=8")).load(tmp_path)


def test_the_list_of_fields_that_are_ours_exists_in_peft():
    from peft import PeftConfig

    from lowshot.adapters.peft_types import _OURS

    fields = {f.name for kind in PEFT_TYPE_TO_CONFIG_MAPPING.values() for f in dataclasses.fields(kind)}
    assert fields >= _OURS
    assert {f.name for f in dataclasses.fields(PeftConfig)} <= _OURS
