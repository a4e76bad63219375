"""How much goes through a tower at once, and what it is predicted to take."""

import gc
import math
from dataclasses import replace
from unittest.mock import ANY

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lowshot.errors import InputError
from lowshot.models import load_backbone
from lowshot.settings import EngineConfig, preset_recipe
from lowshot.training import create_learner
from lowshot.training.passes import Needs, choose_passes, kept_bytes, measure_needs
from lowshot.training.step import Batch, Passes
from refusing import refused

PROMPTS = [f"a photo of {name}." for name in ("cats", "dogs", "long names", "x", "horse")]
NEEDS = Needs(resident=1000, image=100, prompt=10, workspace=50, prompt_workspace=5, adapter=7)


def test_what_autograd_keeps_is_counted_once_and_without_the_model():
    with torch.random.fork_rng():
        layer = torch.nn.Linear(8, 8)
    x = torch.ones(4, 8, requires_grad=True)
    assert kept_bytes(layer, lambda: (layer(x) * layer(x)).sum()) == x.nbytes + 2 * x.nbytes
    assert kept_bytes(layer, lambda: layer(x.detach())) == x.nbytes


def test_measuring_keeps_no_graph_alive(tiny_clip):
    """A node that saves its own output would hold on to itself; for CUDA it would be one of another stream."""

    def alive():
        gc.collect()
        return sum(type(each).__name__ == "_Saved" for each in gc.get_objects())

    before = alive()
    for method in ("layernorm", "lora"):
        learner_on(tiny_clip, method=method).cuts(4)
    assert alive() == before


def test_what_a_graph_let_go_of_on_the_way_is_not_counted():
    x = torch.ones(4, 8, requires_grad=True)

    def forward():
        dropped = (2 * x).sin()  # as DoRA's norms: computed from what is trained, then taken for constant
        return (x * dropped.detach()).sum()

    assert kept_bytes(torch.nn.Identity(), forward) == x.nbytes


def learner_on(folder, **settings):
    recipe = preset_recipe("paper", "lora").replace(model=str(folder), **settings)
    return create_learner(load_backbone(str(folder)), PROMPTS, recipe)


def measured(folder, checkpointing=False, shared_prefix=True, **settings):
    return needs_of(learner_on(folder, **settings), checkpointing=checkpointing, shared_prefix=shared_prefix)


def needs_of(learner, **how):
    levers = {"shared_prefix": how.pop("shared_prefix")} if "shared_prefix" in how else {}
    text = learner.recipe.method.encoder != "vision"
    return measure_needs(
        learner.backbone,
        learner.class_vectors.in_steps(**levers),
        learner.keys,
        learner.trainable_parameters,
        vectors_are_trained=text,
        **how,
    )


def test_needs_follow_the_model_and_the_recipe(tiny_clip):
    full = measured(tiny_clip)
    assert full.resident > 50_000_000
    assert full.image > 4 * 5 * 24 * 3  # five tokens of width 24 in three layers, several times over
    assert full.prompt > 0
    assert measured(tiny_clip, precision="bf16").image < full.image
    assert measured(tiny_clip, checkpointing=True).image < full.image
    assert measured(tiny_clip, encoder="vision").prompt == 0
    assert measured(tiny_clip, encoder="text").image < full.image / 2


@pytest.mark.parametrize("method", ["lora", "lora-xs", "dora", "clip-svd", "full"])
@pytest.mark.parametrize("shared_prefix", [True, False])
def test_what_prompts_keep_together_is_foretold_from_one_and_two(tiny_clip, method, shared_prefix):
    learner = learner_on(tiny_clip, method=method, **({} if method in ("clip-svd", "full") else {"dropout": 0.0}))
    needs = needs_of(learner, shared_prefix=shared_prefix)
    exact = replace(
        learner.exact_step(Passes(1, 5)), vectors=learner.class_vectors.in_steps(shared_prefix=shared_prefix)
    )
    exact.updates.begin()
    step = Batch(0, torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64), lambda at: torch.empty(0))
    with learner.backbone.training():
        frozen = exact.updates.frozen_factors
        kept = kept_bytes(learner.backbone.model, lambda: exact._encode(step, range(5)), frozen)
    assert kept == pytest.approx(needs.prompts_once + 5 * needs.prompt, rel=0.01)


def test_what_prompts_begin_with_is_kept_once(tiny_clip):
    alone, together = (measured(tiny_clip, dropout=0.0, shared_prefix=shared) for shared in (False, True))
    assert together.prompt < 0.8 * alone.prompt  # 9 tokens of 21 are those of all, but each prompt looks at them
    assert together.prompt_workspace < 0.65 * alone.prompt_workspace
    assert together.prompts_once > 0
    assert measured(tiny_clip, dropout=0.25, shared_prefix=True) == replace(
        measured(tiny_clip, dropout=0.25, shared_prefix=False), resident=ANY
    )


def test_what_is_begun_is_kept_from_step_to_step(tiny_clip):
    needs = measured(tiny_clip, position="1")
    tokens = load_backbone(str(tiny_clip)).tokenize(PROMPTS)["input_ids"].numel()
    assert needs.cached == tokens * 16 * 4
    assert needs.prompt < 0.7 * measured(tiny_clip).prompt
    assert measured(tiny_clip).cached == 0
    assert measured(tiny_clip, encoder="vision").cached == len(PROMPTS) * 16 * 4
    assert needs_of(learner_on(tiny_clip), views_bytes=77).cached == 77


def test_checkpointing_keeps_nothing_of_blocks_that_are_not_trained(tiny_clip):
    """The last block of each tower is trained here, so what enters that one is all there is to be kept besides it."""
    plain, needs = (measured(tiny_clip, checkpointing, position="half-up") for checkpointing in (False, True))
    tokens = load_backbone(str(tiny_clip)).tokenize(PROMPTS)["input_ids"].shape[1]
    assert needs.image == 2 * plain.image + 5 * 24 * 4
    assert needs.prompt == 2 * plain.prompt + tokens * 16 * 4


def test_a_single_prompt_can_be_measured(tiny_clip):
    learner = learner_on(tiny_clip)
    tokens = {name: ids[:1] for name, ids in learner.class_vectors.tokens.items()}
    learner.class_vectors = replace(learner.class_vectors, tokens=tokens)
    needs = needs_of(learner)
    assert needs.prompts_once + needs.prompt > 0
    assert choose_passes(needs, EngineConfig(), 4, 1).prompts == 1


def test_nothing_is_left_behind_by_measuring(tiny_clip):
    before = torch.random.get_rng_state()
    recipe = preset_recipe("paper", "lora").replace(model=str(tiny_clip))
    learner = create_learner(load_backbone(str(tiny_clip)), PROMPTS, recipe)
    measure_needs(learner.backbone, learner.class_vectors.in_steps(), learner.keys, 1, vectors_are_trained=True)
    assert all(p.grad is None for p in learner.parameters)
    assert not learner.backbone.model.training
    assert torch.equal(before, torch.random.get_rng_state())


def test_without_a_budget_a_small_model_takes_all_at_once_and_a_large_one_is_cut():
    assert choose_passes(NEEDS, EngineConfig(), 32, 5) == Passes(images=32, prompts=5)
    large = Needs(resident=0, image=100 << 20, prompt=20 << 20, workspace=0, prompt_workspace=0, adapter=0)
    assert choose_passes(large, EngineConfig(), 32, 96) == Passes(images=2, prompts=12)


def test_on_a_device_a_pass_is_the_whole_batch_or_what_fits_into_free_memory():
    large = Needs(resident=10**9, image=8 * 10**7, prompt=10**7, workspace=0, prompt_workspace=0, adapter=0)
    device = replace(large, at_once=math.inf, free=10**11, overhead=1.0)
    assert choose_passes(device, EngineConfig(), 32, 100) == Passes(32, 100)
    full = replace(device, free=3 * 10**9)
    passes = choose_passes(full, EngineConfig(), 32, 100)
    assert passes.images < 32
    assert full.peak(passes, 100) <= full.resident + full.free
    assert choose_passes(replace(device, free=10**6), EngineConfig(), 32, 100) == Passes(1, 1)  # tried all the same
    assert choose_passes(replace(device, free=10**6), EngineConfig(memory_budget="9GB"), 32, 100) == Passes(32, 100)
    with refused(InputError, "memory-budget 1GB"):
        choose_passes(device, EngineConfig(memory_budget="1GB"), 32, 100)


def test_buffers_and_libraries_count_whatever_the_cuts():
    with_buffers = replace(NEEDS, fixed=500)
    assert with_buffers.peak(Passes(1, 1), 5) == NEEDS.peak(Passes(1, 1), 5) + 500


def test_passes_are_as_even_as_their_number_allows():
    large = Needs(resident=0, image=22 << 20, prompt=3 << 20, workspace=0, prompt_workspace=0, adapter=0)
    assert choose_passes(large, EngineConfig(), 32, 100) == Passes(
        images=11, prompts=50
    )  # not 11 and 85, which is 2 too
    fixed = EngineConfig(images_per_pass=10, prompts_per_pass=85)
    assert choose_passes(large, fixed, 32, 100) == Passes(images=10, prompts=85)


def test_what_the_recipe_says_is_what_is_cut():
    fixed = EngineConfig(images_per_pass=3, prompts_per_pass=2, memory_budget="1MB")
    assert choose_passes(NEEDS, fixed, 32, 5) == Passes(3, 2)


def test_prompts_that_are_cut_are_gone_before_the_images_come():
    images, chunk = 2 * (100 + 50), 3 * (10 + 5)
    assert NEEDS.peak(Passes(2, 3), 6) == 1000 + 7 + int(NEEDS.overhead * max(images, chunk))
    assert NEEDS.peak(Passes(2, 6), 6) == 1000 + 7 + int(NEEDS.overhead * max(6 * 10 + images, 6 * (10 + 5)))


def test_what_lies_around_is_at_most_the_step_once_more():
    step = NEEDS.peak(Passes(2, 3), 6) - 1007
    for scratch, more in ((step - 1, step - 1), (10 * step, step)):
        assert replace(NEEDS, scratch=scratch).peak(Passes(2, 3), 6) == 1007 + step + more


def test_what_is_kept_once_counts_once():
    passes, more = Passes(2, 5), replace(NEEDS, prompts_once=3, cached=4)
    assert more.peak(passes, 5) == NEEDS.peak(passes, 5) + 3 + 4
    assert more.peak(passes, 6) == NEEDS.peak(passes, 6) + 4  # the prompts' graph is gone before the images come
    assert replace(more, overhead=2.0).peak(passes, 6) == replace(NEEDS, overhead=2.0).peak(passes, 6) + 4
    text_heavy = replace(more, prompt=1000)
    assert text_heavy.peak(passes, 6) == replace(NEEDS, prompt=1000).peak(passes, 6) + 3 + 4


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
        most = math.ceil(batch / (math.ceil(batch / passes.images) - 1)) - 1  # in one pass of as many
        assert NEEDS.peak(Passes(2 * most + 1, prompts), prompts) > budget


def test_what_the_towers_leave_each_other_counts_where_prompts_are_cut():
    gappy = replace(NEEDS, gaps=0.5)
    assert gappy.peak(Passes(2, 6), 6) == NEEDS.peak(Passes(2, 6), 6)
    images, chunk = 2 * (NEEDS.image + NEEDS.workspace), 3 * (NEEDS.prompt + NEEDS.prompt_workspace)
    assert gappy.peak(Passes(2, 3), 6) == NEEDS.peak(Passes(2, 3), 6) + min(images, chunk) // 2


def test_a_budget_that_nothing_fits_names_the_smallest_that_would():
    with refused(InputError, "memory-budget 1100", "0.00 GB", "try"):
        choose_passes(NEEDS, EngineConfig(memory_budget="1100"), 32, 5)
    huge = Needs(resident=3 * 10**9, image=10**9, prompt=0, workspace=0, prompt_workspace=0, adapter=0)
    with refused(InputError, "memory-budget 3GB", "4.00 GB"):
        choose_passes(huge, EngineConfig(memory_budget="3GB", gradient_checkpointing=True), 32, 5)
