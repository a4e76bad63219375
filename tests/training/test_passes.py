"""How much goes through a tower at once, and what it is predicted to take."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lowshot.config import EngineConfig, preset_recipe
from lowshot.errors import InputError
from lowshot.models import load_backbone
from lowshot.training import create_learner
from lowshot.training.passes import Needs, choose_passes, kept_bytes, measure_needs, parse_bytes
from lowshot.training.step import Passes

PROMPTS = [f"a photo of {name}." for name in ("cats", "dogs", "long names", "x", "horse")]
NEEDS = Needs(resident=1000, image=100, prompt=10, workspace=50, prompt_workspace=5, adapter=7)


@pytest.mark.parametrize(
    ("text", "amount"), [("2GB", 2 * 10**9), ("1.5 GiB", 3 << 29), ("800mb", 8 * 10**8), ("512", 512), ("64KiB", 65536)]
)
def test_amounts_of_memory_are_read(text, amount):
    assert parse_bytes(text) == amount


@pytest.mark.parametrize("text", ["", "lots", "2 G B", "-1GB", "0", "1e9", "2TB", "٣GB"])
def test_other_texts_are_refused(text):
    with pytest.raises(InputError, match="expected an amount such as 2GB"):
        parse_bytes(text)


def test_what_autograd_keeps_is_counted_once_and_without_the_model():
    with torch.random.fork_rng():
        layer = torch.nn.Linear(8, 8)
    x = torch.ones(4, 8, requires_grad=True)
    assert kept_bytes(layer, lambda: (layer(x) * layer(x)).sum()) == x.nbytes + 2 * x.nbytes
    assert kept_bytes(layer, lambda: layer(x.detach()).detach()) == x.nbytes


def measured(folder, checkpointing=False, **settings):
    recipe = preset_recipe("paper", "lora").replace(model=str(folder), **settings)
    learner = create_learner(load_backbone(str(folder)), PROMPTS, recipe)
    text = recipe.method.encoder != "vision"
    return measure_needs(
        learner.backbone,
        learner._tokens,
        learner._keys,
        learner.trainable_parameters,
        text_is_trained=text,
        checkpointing=checkpointing,
    )


def test_needs_follow_the_model_and_the_recipe(tiny_clip):
    full = measured(tiny_clip)
    assert full.resident > 50_000_000
    assert full.image > 4 * 5 * 24 * 3  # five tokens of width 24 in three layers, several times over
    assert full.prompt > 0
    assert measured(tiny_clip, precision="bf16").image < full.image
    assert measured(tiny_clip, checkpointing=True).image < full.image / 2
    assert measured(tiny_clip, encoder="vision").prompt == 0
    assert measured(tiny_clip, encoder="text").image < full.image / 2


def test_nothing_is_left_behind_by_measuring(tiny_clip):
    before = torch.random.get_rng_state()
    recipe = preset_recipe("paper", "lora").replace(model=str(tiny_clip))
    learner = create_learner(load_backbone(str(tiny_clip)), PROMPTS, recipe)
    measure_needs(learner.backbone, learner._tokens, learner._keys, 1, text_is_trained=True)
    assert all(p.grad is None for p in learner.parameters)
    assert not learner.backbone.model.training
    assert torch.equal(before, torch.random.get_rng_state())


def test_without_a_budget_a_small_model_takes_all_at_once_and_a_large_one_is_cut():
    assert choose_passes(NEEDS, EngineConfig(), 32, 5) == Passes(images=32, prompts=5)
    large = Needs(resident=0, image=100 << 20, prompt=20 << 20, workspace=0, prompt_workspace=0, adapter=0)
    assert choose_passes(large, EngineConfig(), 32, 100) == Passes(images=2, prompts=12)


def test_what_the_recipe_says_is_what_is_cut():
    fixed = EngineConfig(images_per_pass=3, prompts_per_pass=2, memory_budget="1MB")
    assert choose_passes(NEEDS, fixed, 32, 5) == Passes(3, 2)


@given(
    budget=st.integers(1_200, 10_000),
    batch=st.integers(1, 64),
    prompts=st.integers(1, 300),
)
def test_a_budget_is_kept_with_the_largest_cuts_that_fit(budget, batch, prompts):
    engine = EngineConfig(memory_budget=str(budget))
    passes = choose_passes(NEEDS, engine, batch, prompts)
    assert NEEDS.peak(passes, prompts) <= budget
    assert 1 <= passes.images <= batch
    assert 1 <= passes.prompts <= prompts
    if passes.images < batch and passes.prompts == prompts:
        assert NEEDS.peak(Passes(2 * passes.images + 1, prompts), prompts) > budget


def test_a_budget_that_nothing_fits_names_the_smallest_that_would():
    with pytest.raises(InputError, match=r"memory-budget 1100 is too small: this recipe needs 0\.00 GB at least; try"):
        choose_passes(NEEDS, EngineConfig(memory_budget="1100"), 32, 5)
    huge = Needs(resident=3 * 10**9, image=10**9, prompt=0, workspace=0, prompt_workspace=0, adapter=0)
    with pytest.raises(InputError, match=r"memory-budget 3GB is too small: this recipe needs 4\.00 GB at least$"):
        choose_passes(huge, EngineConfig(memory_budget="3GB", gradient_checkpointing=True), 32, 5)
