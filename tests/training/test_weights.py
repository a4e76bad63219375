import functools
import re

import numpy as np
import pytest
import torch

from lowshot.data import task_of_arrays
from lowshot.errors import InputError
from lowshot.methods import method_spec
from lowshot.models import blocks, load_backbone
from lowshot.progress import silent
from lowshot.settings import TrainingConfig, preset_recipe
from lowshot.training import create_learner
from lowshot.training.optimizers import create_optimizer
from lowshot.training.prompts import TokenizedPrompts
from lowshot.training.step import ExactStep
from lowshot.training.steps import learning_rate
from refusing import refused


@pytest.fixture(scope="module")
def examples():
    """Twelve pictures in which only the colour tells the class."""
    generator = np.random.default_rng(0)
    images, labels = [], []
    for index in range(12):
        picture = generator.integers(0, 60, (20, 20, 3), dtype=np.uint8)
        picture[..., index % 3] += 150
        images.append(picture)
        labels.append(("red", "green", "blue")[index % 3])
    return task_of_arrays(images, labels).train


def fitted(tiny_clip, examples, method="lora", **settings):
    quick = {"steps_per_shot": 2, "learning_rate": 1e-2, "crop_minimum": 0.5}
    low_rank = {"rank": 4} if "rank" in method_spec(method).settings else {}
    recipe = preset_recipe("paper", method).replace(model=str(tiny_clip), **{**quick, **low_rank, **settings})
    learner = create_learner(load_backbone(str(tiny_clip)), ("a blue", "a green", "a red"), recipe)
    return learner, learner.fit(examples, 4, silent)


def scores(learner):
    return learner.logits(torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(2)))


def test_training_lowers_the_loss(tiny_clip, examples):
    _, short = fitted(tiny_clip, examples, steps_per_shot=1)
    _, long = fitted(tiny_clip, examples, steps_per_shot=10)
    assert long.steps == 40
    assert long.final_loss < 0.5 * short.final_loss


def test_the_same_seed_gives_the_same_classifier_bit_for_bit(tiny_clip, examples):
    one, two, other = (fitted(tiny_clip, examples, seed=seed)[0] for seed in (1, 1, 2))
    assert torch.equal(scores(one), scores(two))
    assert not torch.equal(scores(one), scores(other))


def test_gradient_checkpointing_changes_nothing_but_what_is_kept(tiny_clip, examples, monkeypatch):
    """Dropout on: what is computed again is computed with the same masks."""
    settings = {"steps_per_shot": 3, "dropout": 0.25, "batch_size": 6}
    calls, forward = [], blocks.run_block
    monkeypatch.setattr(blocks, "run_block", lambda *a, **k: (calls.append(1), forward(*a, **k))[1])
    plain, _ = fitted(tiny_clip, examples, **settings)
    once = len(calls)
    with_it, _ = fitted(tiny_clip, examples, gradient_checkpointing=True, **settings)
    layers, steps = 3 + 2, 12
    assert len(calls) - 2 * once == layers * steps  # each is computed again in each step's backward pass
    torch.testing.assert_close(scores(with_it), scores(plain), atol=1e-5, rtol=0)


def test_accumulated_passes_have_the_gradient_of_one_large_one(tiny_clip, examples):
    settings = {"steps_per_shot": 3, "dropout": 0.0}
    once, first = fitted(tiny_clip, examples, batch_size=8, **settings)
    twice, second = fitted(tiny_clip, examples, batch_size=4, gradient_accumulation_steps=2, **settings)
    torch.testing.assert_close(scores(twice), scores(once), atol=1e-4, rtol=0)
    assert second.final_loss == pytest.approx(first.final_loss, abs=1e-5)
    assert first.steps == second.steps == 12
    less, _ = fitted(tiny_clip, examples, batch_size=4, **settings)
    assert not torch.allclose(scores(less), scores(once), atol=1e-2)


@pytest.mark.parametrize("optimizer", ["adamw", "paged-adamw-8bit"])
def test_adams_epsilon_is_the_recipes(optimizer):
    pytest.importorskip("bitsandbytes")
    for epsilon in (1e-8, 1e-5):
        config = TrainingConfig(optimizer=optimizer, adam_epsilon=epsilon)
        made = create_optimizer([torch.nn.Parameter(torch.zeros(3))], config, torch.device("cuda"))
        assert {group["eps"] for group in made.param_groups} == {epsilon}


def test_an_optimizer_that_cannot_be_had_here_is_refused_and_not_replaced(tiny_clip, examples):
    with refused(InputError, "paged-adamw-8bit", "CUDA", "cpu", "optimizer"):
        fitted(tiny_clip, examples, optimizer="paged-adamw-8bit")


@pytest.mark.gpu
def test_paged_adamw_in_8_bits_trains(tiny_clip, examples):
    pytest.importorskip("bitsandbytes")
    recipe = preset_recipe("paper", "qlora").replace(
        model=str(tiny_clip), device="cuda", optimizer="paged-adamw-8bit", steps_per_shot=10, learning_rate=1e-2
    )
    learner = create_learner(load_backbone(str(tiny_clip), "cuda"), ("a blue", "a green", "a red"), recipe)
    before = scores(learner)
    outcome = learner.fit(examples, 4, silent)
    assert outcome.steps == 40
    assert not torch.equal(scores(learner), before)


@pytest.mark.parametrize("method", ["lora", "dora", "lora-xs"])
@pytest.mark.parametrize("quantize", ["nf4", "int8"])
def test_a_quantised_base_trains_as_it_is_evaluated_afterwards(tiny_clip, examples, method, quantize):
    """The CPU's kernels for evaluation alone must not repack or round what training still needs."""
    learner, outcome = fitted(tiny_clip, examples, method, quantize=quantize, steps_per_shot=3, dropout=0.0)
    first = scores(learner)
    learner.fit(examples, 2, silent)  # training goes on after an evaluation
    assert outcome.final_loss < 1.0
    assert not torch.equal(scores(learner), first)
    with learner.backbone.training():
        in_training_mode = scores(learner)
    torch.testing.assert_close(in_training_mode, scores(learner), atol=0, rtol=0)


def test_frozen_text_is_encoded_once_with_the_same_result(tiny_clip, examples, monkeypatch):
    once, _ = fitted(tiny_clip, examples, encoder="vision")
    monkeypatch.setattr(TokenizedPrompts, "in_steps", functools.partialmethod(TokenizedPrompts.in_steps, partway=False))
    again, _ = fitted(tiny_clip, examples, encoder="vision")
    torch.testing.assert_close(scores(once), scores(again), atol=1e-4, rtol=0)


def test_the_cosine_ends_at_the_minimum_learning_rate(tiny_clip, examples, monkeypatch):
    seen = []
    step = torch.optim.AdamW.step

    def spy(self, *arguments, **keywords):
        seen.append(self.param_groups[0]["lr"])
        return step(self, *arguments, **keywords)

    monkeypatch.setattr(torch.optim.AdamW, "step", spy)
    fitted(tiny_clip, examples, steps_per_shot=5, learning_rate=1e-2, minimum_learning_rate=1e-4)
    expected = [1e-4 + (1e-2 - 1e-4) * (1 + np.cos(np.pi * i / 20)) / 2 for i in range(20)]
    np.testing.assert_allclose(seen, expected, rtol=1e-6)


def test_a_loss_that_is_no_number_stops_the_run_with_the_last_good_weights(tiny_clip, examples):
    learner, outcome = fitted(tiny_clip, examples, learning_rate=1e30)
    found = re.fullmatch(
        r"training diverged at step (\d+) of 8; try a lower learning rate than 1e\+30", outcome.stopped
    )
    assert (
        outcome.steps == int(found[1]) - 2
    )  # the loss before that one was a number: with the weights before its update
    assert scores(learner).isfinite().all()


def test_the_last_good_weights_are_those_of_the_run_that_ended_before(tiny_clip, examples, monkeypatch):
    gradients = ExactStep.gradients

    def broken(self, batch):
        loss = gradients(self, batch)
        return loss * float("nan") if batch.number == 9 else loss

    monkeypatch.setattr(ExactStep, "gradients", broken)
    learner, outcome = fitted(tiny_clip, examples, steps_per_shot=6)
    assert outcome.steps == 8
    monkeypatch.setattr(ExactStep, "gradients", gradients)
    monkeypatch.setattr("lowshot.training.steps.learning_rate", lambda step, *_: rates(step) if step < 8 else 0.0)
    rates = functools.partial(learning_rate, steps=24, config=learner.recipe.training)
    shorter, _ = fitted(tiny_clip, examples, steps_per_shot=6, weight_decay=learner.recipe.training.weight_decay)
    assert torch.equal(scores(learner), scores(shorter))


def test_a_last_step_that_goes_astray_is_noticed(tiny_clip, examples):
    fresh = fitted(tiny_clip, examples, steps_per_shot=0, base_steps=1, learning_rate=0.0, minimum_learning_rate=0.0)[0]
    learner, outcome = fitted(tiny_clip, examples, steps_per_shot=0, base_steps=1, learning_rate=1e38)
    assert outcome.stopped.startswith("training diverged at the last step")
    assert outcome.steps == 0
    assert torch.equal(scores(learner), scores(fresh))


def test_the_outcome_says_what_it_took(tiny_clip, examples):
    _, outcome = fitted(tiny_clip, examples)
    assert outcome.steps == 8
    assert outcome.seconds > 0
    assert outcome.peak_memory_bytes > 50_000_000
