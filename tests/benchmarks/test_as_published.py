"""The procedures that lowshot is measured against are what their authors run, and compute what lowshot computes."""

import copy
import math

import numpy as np
import pytest
import torch

pytestmark = pytest.mark.long

LABELS = torch.tensor([0, 1, 2, 0])


@pytest.fixture
def shape(program):
    return program("shapes").smoke()


@pytest.fixture
def as_published(program):
    return program("as_published")


@pytest.fixture
def model(shape):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return shape.random_model()


@pytest.fixture
def pixels(shape):
    return torch.randn(4, 3, shape.image_size, shape.image_size, generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def without_dropout(procedure):
    for module in procedure.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return procedure


def test_the_layer_adds_alpha_over_root_r_times_b_a_x(as_published):
    layer = as_published.PublishedLinear(torch.nn.Linear(6, 5)).eval()
    torch.nn.init.normal_(layer.lora_b)
    x = torch.randn(3, 6)
    expected = layer.base(x) + x @ layer.lora_a.T @ layer.lora_b.T / math.sqrt(2)
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("procedure", ["PublishedProcedure", "PublishedFused"])
def test_lowshot_and_the_published_procedure_take_the_same_steps(
    as_published, program, model, shape, pixels, procedure
):
    """In float32 without dropout, from the same initial adapter, on the same pixels, for three updates."""
    from lowshot.models import Backbone, Identity
    from lowshot.settings import preset_recipe
    from lowshot.training.optimizers import create_optimizer
    from lowshot.training.weights import WeightsLearner

    ours = Backbone(
        copy.deepcopy(model),
        program("shapes").PromptTokens(shape, 3),
        (0.0,) * 3,
        (1.0,) * 3,
        Identity("random", None, "", "", {}),
    )
    ours._log_scale = math.log(100)
    recipe = preset_recipe("paper", "lora").replace(dropout=0.0)
    learner = WeightsLearner(ours, ["a", "b", "c"], recipe)
    procedure = without_dropout(getattr(as_published, procedure)(model, shape.prompts(3), "fp32"))
    theirs = dict(model.named_modules())
    for name, module in ours.model.named_modules():
        if hasattr(module, "lora_A"):
            their_a = theirs[name].lora_A["default"].weight if hasattr(theirs[name], "lora_A") else theirs[name].lora_a
            their_a.data = module.lora_A["default"].weight.detach().clone()
    optimizer = create_optimizer(learner.parameters, recipe.training, ours.device)
    step = learner.exact_step(learner.cuts(4)[1])
    for number in range(3):
        optimizer.zero_grad()
        with ours.training():
            loss = step.accumulate(number, [0, 1, 2, 3], LABELS, lambda rows: pixels[list(rows)])
        optimizer.step()
        assert procedure.step(pixels, LABELS) == pytest.approx(loss, rel=1e-5)
    assert loss != pytest.approx(math.log(3), rel=1e-3)  # the steps had something to do


def test_in_16_bits_only_attention_and_what_is_trained_stay_in_32(as_published, model, shape, pixels):
    exact = as_published.PublishedFused(copy.deepcopy(model), shape.prompts(3), "fp32").step(pixels, LABELS)
    procedure = as_published.PublishedFused(model, shape.prompts(3), "bf16")
    wide = {name for name, p in procedure.model.named_parameters() if p.dtype == torch.float32}
    assert wide == {name for name, _ in procedure.model.named_parameters() if ".self_attn." in name}
    trained = {name for name, p in procedure.model.named_parameters() if p.requires_grad}
    assert trained == {name for name in wide if name.endswith(("lora_a", "lora_b"))}
    assert procedure.step(pixels, LABELS) == pytest.approx(exact, rel=0.05)


def test_published_qlora_keeps_norms_in_float32_and_trains_no_text_adapter(as_published, model, shape, pixels):
    import bitsandbytes

    procedure = as_published.PublishedQLoRA(
        model, shape.prompts(3)[:, :10], torch.device("cpu"), images_per_pass=4, checkpointing=False
    )
    layer = procedure._clip.vision_model.encoder.layers[0]
    assert layer.layer_norm1.weight.dtype == torch.float32
    assert isinstance(layer.mlp.fc1, bitsandbytes.nn.Linear4bit)
    assert layer.mlp.fc1.weight.quant_state.nested  # double quantisation
    for _ in range(2):  # A has no gradient while B is zero
        procedure.step(pixels, LABELS)
    moments = {name for name, p in procedure.model.named_parameters() if p in procedure.optimizer.state}
    assert moments
    assert all(".vision_model." in name for name in moments)


def test_published_qlora_has_one_gradient_however_its_batch_is_passed(as_published, model, shape, pixels):
    def losses(images_per_pass, checkpointing):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            procedure = as_published.PublishedQLoRA(
                copy.deepcopy(model),
                shape.prompts(3)[:, :10],
                torch.device("cpu"),
                images_per_pass=images_per_pass,
                checkpointing=checkpointing,
            )
        without_dropout(procedure)
        return [procedure.step(pixels, LABELS) for _ in range(3)]

    whole = losses(4, False)
    np.testing.assert_allclose(losses(2, False), whole, rtol=2e-3)  # bfloat16
    np.testing.assert_allclose(losses(2, True), losses(2, False), rtol=1e-6)
    assert len(set(whole)) == 3
