"""PLOT++ is what its authors' code computes, written a second time with loops and transformers' own modules."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from lowshot.data import task_of_arrays
from lowshot.errors import InputError
from lowshot.models import load_backbone
from lowshot.progress import silent
from lowshot.settings import preset_recipe
from lowshot.training import create_learner, run
from lowshot.training.optimizers import create_optimizer
from lowshot.training.passes import kept_bytes
from lowshot.training.plot import TransportScoring
from lowshot.training.prompts import Owners
from lowshot.training.step import Passes
from refusing import refused

from .steps import CUTS, LABELS, ROWS, WHOLE, assert_same, crops, gradients, interrupted_before

NAMES = ("cats.", "dogs.", "long names.", "x.", "horse.")
QUICK = {"context": 3, "openings": ("red", "oak"), "vision_prompts": 3, "precision": "fp32"}


def learner_on(model, names=NAMES, dtype=torch.float64, **settings):
    recipe = preset_recipe("paper", "plot++").replace(model=str(model), **{**QUICK, **settings})
    learner = create_learner(load_backbone(str(model)), names, recipe)
    learner.backbone.model.to(dtype)
    return learner


# --- Written by hand --------------------------------------------------------------------------------------------------


def plan_by_loops(cosines):
    """A plan (M, N) of lists, the authors' numbers: regularisation 0.1, 100 iterations, 0.01."""
    many, others = len(cosines), len(cosines[0])
    kernel = [[math.exp(-(1 - cosine) / 0.1) for cosine in row] for row in cosines]
    r, c = [1.0] * many, [1.0] * others
    for _ in range(100):
        before = r
        r = [1 / many / sum(kernel[m][n] * c[n] for n in range(others)) for m in range(many)]
        c = [1 / others / sum(kernel[m][n] * r[m] for m in range(many)) for n in range(others)]
        if sum(abs(one - other) for one, other in zip(r, before, strict=True)) / many < 1e-2:
            break
    return [[r[m] * kernel[m][n] * c[n] for n in range(others)] for m in range(many)]


def scores_by_loops(images, classes, scale):
    """(B, C) of images (B, M, D) and classes (C, N, D)."""
    table = torch.zeros(len(images), len(classes), dtype=torch.float64)
    for row, image in enumerate(images.double()):
        for column, prompts in enumerate(classes.double()):
            cosines = (image @ prompts.T).tolist()
            plan = plan_by_loops(cosines)
            pairs = [plan[m][n] * cosines[m][n] for m in range(len(cosines)) for n in range(len(cosines[0]))]
            table[row, column] = scale * sum(pairs)
    return table


def plain_images(model, pixels, vectors):
    """Unit embeddings (B, M, D): the class token, the patches, then trained tokens, before the first layer norm."""
    vision, seen = model.vision_model, []
    for prompt in vectors:
        patches = vision.embeddings(pixels)
        hidden = torch.cat([patches, prompt.expand(len(pixels), -1, -1)], dim=1)
        out = vision.encoder(inputs_embeds=vision.pre_layrnorm(hidden)).last_hidden_state
        seen.append(model.visual_projection(vision.post_layernorm(out[:, 0])))
    return functional.normalize(torch.stack(seen, dim=1), dim=-1)


def test_the_embeddings_of_an_image_are_those_of_plain_modules(tiny_clip):
    learner, plain = learner_on(tiny_clip), load_backbone(str(tiny_clip))
    plain.model.double()
    mean, std = (torch.tensor(values, dtype=torch.float64).view(3, 1, 1) for values in (plain.mean, plain.std))
    expected = plain_images(plain.model, (crops(ROWS) - mean) / std, learner.adapter.vision.vectors.double())
    found = learner.backbone.encode_images(crops(ROWS))
    assert found.shape == (len(ROWS), 3, 16)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    assert (found[:, 0] - found[:, 1]).abs().max() > 1e-4


def test_the_scores_are_those_of_plain_loops(tiny_clip):
    learner = learner_on(tiny_clip)
    with torch.no_grad():
        images, classes = learner.backbone.encode_images(crops(ROWS)), learner.encode_classes()
    assert classes.shape == (5, 2, 16)
    expected = scores_by_loops(images, classes, learner.backbone.logit_scale)
    torch.testing.assert_close(learner.logits_of(images), expected, rtol=1e-9, atol=0)


def test_the_first_stage_adds_the_cosine_of_the_means(tiny_clip):
    learner = learner_on(tiny_clip)
    images, classes = learner.backbone.encode_images(crops(ROWS)), learner.encode_classes()
    of_means = torch.cosine_similarity(images.mean(1)[:, None], classes.mean(1)[None], dim=-1)
    expected = learner.logits_of(images) + learner.backbone.logit_scale * of_means
    found = learner.first_step(WHOLE).scoring.scores(images, classes)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)


def test_the_gradient_is_that_of_the_plain_loss_with_the_plan_held_fixed(tiny_clip):
    learner = learner_on(tiny_clip)
    found = gradients(learner, WHOLE, scoring=learner.scoring)
    cosines = torch.einsum("bmd,cnd->bcmn", learner.backbone.encode_images(crops(ROWS)), learner.encode_classes())
    rows = [[plan_by_loops(pairs) for pairs in row] for row in cosines.tolist()]
    plans = torch.tensor(rows, dtype=torch.float64)
    loss = functional.cross_entropy(learner.backbone.logit_scale * (plans * cosines).sum((-2, -1)), LABELS)
    expected = torch.autograd.grad(loss, learner.parameters)
    assert all(gradient.abs().max() > 0 for gradient in expected)
    assert_same(found, (loss.item(), expected), 1e-8)


# --- By the engine ----------------------------------------------------------------------------------------------------


def test_every_cut_has_the_gradient_of_the_whole(any_tiny_model):
    learner = learner_on(any_tiny_model)
    whole = gradients(learner, WHOLE, scoring=learner.scoring)
    assert all(gradient.abs().max() > 0 for gradient in whole[1])
    for passes in CUTS:
        assert_same(gradients(learner, passes, scoring=learner.scoring), whole, 1e-9)


@pytest.mark.parametrize("passes", [WHOLE, Passes(2, 3)], ids=str)
def test_the_first_stage_trains_the_vision_tower_alone_and_encodes_the_prompts_once(tiny_clip, passes, monkeypatch):
    learner = learner_on(tiny_clip)
    exact, encoded = learner.first_step(passes), []
    begin = type(exact.vectors).begin
    monkeypatch.setattr(
        type(exact.vectors), "begin", lambda self, chunk: (encoded.append(chunk), begin(self, chunk))[1]
    )
    for step in range(3):
        for parameter in learner.parameters:
            parameter.grad = None
        loss = exact.accumulate(step, ROWS, LABELS, crops)
    text, vision = learner.parameters
    assert len(encoded) == 1
    assert text.grad is None
    assert text.requires_grad
    scores = exact.scoring.scores(learner.backbone.encode_images(crops(ROWS)), learner.encode_classes())
    plain = functional.cross_entropy(scores, LABELS)
    assert loss == pytest.approx(plain.item(), rel=1e-9)
    torch.testing.assert_close(vision.grad, torch.autograd.grad(plain, vision)[0], rtol=1e-7, atol=1e-10)


@pytest.fixture(scope="module")
def examples():
    generator = np.random.default_rng(0)
    images = [generator.integers(0, 255, (20, 20, 3), dtype=np.uint8) for _ in range(10)]
    return task_of_arrays(images, [name for name in "abcde" for _ in range(2)]).train


def fitted(tiny_clip, examples, steps, checkpoint=None, report=None, **settings):
    learner = learner_on(tiny_clip, dtype=torch.float32, base_steps=steps, steps_per_shot=0, batch_size=4, **settings)
    start = [parameter.detach().clone() for parameter in learner.parameters]
    outcome = learner.fit(examples, 2, silent, checkpoint, **({} if report is None else {"report": report}))
    return learner, start, outcome


def test_in_the_first_half_of_the_steps_the_words_stay_and_each_half_has_a_cosine(tiny_clip, examples):
    class Rates:
        def __init__(self):
            self.rates = []

        def begin(self, run, losses):
            pass

        def step(self, taken):
            self.rates.append(taken.learning_rate)

    rates = Rates()
    learner, (text, vision), outcome = fitted(tiny_clip, examples, 8, report=rates, learning_rate=1e-2)
    assert outcome.steps == 8
    assert rates.rates[:4] == rates.rates[4:]
    assert rates.rates[0] == 1e-2 > rates.rates[3]
    assert not torch.equal(learner.parameters[0], text)
    assert not torch.equal(learner.parameters[1], vision)
    only_first = learner_on(tiny_clip, dtype=torch.float32, base_steps=8, steps_per_shot=0, batch_size=4)
    with pytest.raises(KeyboardInterrupt):
        only_first.fit(examples, 2, interrupted_before(4))
    assert torch.equal(only_first.parameters[0], text)
    assert not torch.equal(only_first.parameters[1], vision)


def test_each_half_has_an_optimiser_of_its_own(tiny_clip, examples, monkeypatch):
    made = []
    monkeypatch.setattr(run, "create_optimizer", lambda *given: made.append(create_optimizer(*given)) or made[0])
    fitted(tiny_clip, examples, 7, optimizer="adamw")
    assert [int(state["step"]) for state in made[0].state.values()] == [4, 4]


@pytest.mark.parametrize("killed_after", [2, 4, 6])
def test_a_run_that_is_interrupted_in_either_stage_goes_on_to_the_very_same(
    tiny_clip, examples, killed_after, tmp_path
):
    whole, _, _ = fitted(tiny_clip, examples, 8)
    path = tmp_path / "state.safetensors"
    begun = learner_on(tiny_clip, dtype=torch.float32, base_steps=8, steps_per_shot=0, batch_size=4)
    with pytest.raises(KeyboardInterrupt):
        begun.fit(examples, 2, interrupted_before(killed_after), path)
    again, _, outcome = fitted(tiny_clip, examples, 8, path)
    assert outcome.begun_at_step == killed_after
    for one, other in zip(whole.parameters, again.parameters, strict=True):
        assert torch.equal(one, other)


# --- Memory -----------------------------------------------------------------------------------------------------------


def test_what_scores_keep_for_the_backward_pass_is_within_what_is_planned(tiny_clip):
    backbone = learner_on(tiny_clip, dtype=torch.float32).backbone
    classes, prompts = 50, 4
    scoring = TransportScoring(backbone, Owners(torch.arange(classes).repeat_interleave(prompts), classes))
    table = classes * prompts * 3 * 4
    assert scoring.image_bytes == 8 * table
    generator = torch.Generator().manual_seed(0)
    images, words = (
        functional.normalize(torch.randn(shape, generator=generator), dim=-1).requires_grad_()
        for shape in ((1, 3, 16), (classes, prompts, 16))
    )
    kept = kept_bytes(torch.nn.Identity(), lambda: scoring.scores(images, words))
    assert table < kept <= scoring.image_bytes


def test_the_scores_of_many_classes_make_the_cuts_smaller(tiny_clip, monkeypatch):
    monkeypatch.setattr("lowshot.training.passes.resident_bytes", lambda device: 0)
    few, many = (
        learner_on(tiny_clip, [f"{number}." for number in range(count)], torch.float32, memory_budget="3MB")
        for count in (5, 200)
    )
    needs, passes = few.cuts(32)
    more, fewer = many.cuts(32)
    assert more.image - needs.image == 195 * 2 * 3 * 4 * 8
    assert fewer.images < passes.images


# --- What it needs ----------------------------------------------------------------------------------------------------


def test_classes_with_different_numbers_of_prompts_are_refused(tiny_clip):
    with refused(InputError, "prompts", 2, 4):
        learner_on(tiny_clip, (("a cat", "a kitten"), "a dog"))
    assert learner_on(tiny_clip, (("a cat", "a kitten"), ("a dog", "a puppy"))).encode_classes().shape == (2, 4, 16)


def test_it_trains_the_tokens_of_both_towers_and_nothing_else(tiny_clip):
    learner = learner_on(tiny_clip)
    assert learner.trainable_parameters == 2 * 3 * 16 + 3 * 2 * 24
    assert not learner.frozen_images
    assert [name for name, p in learner.backbone.model.named_parameters() if p.requires_grad] == [
        "text_model.embeddings.token_embedding.vectors",
        "vision_model.embeddings.context.vectors",
    ]


def test_one_image_prompt_and_one_opening_are_scored_by_their_cosine(tiny_clip):
    learner = learner_on(tiny_clip, openings=("red",), vision_prompts=1)
    images, classes = learner.backbone.encode_images(crops(ROWS)), learner.encode_classes()
    torch.testing.assert_close(
        learner.logits_of(images), learner.backbone.logits(images[:, 0], classes[:, 0]), rtol=1e-9, atol=0
    )


def test_other_classes_are_scored_by_the_same_tokens(tiny_clip):
    learner = learner_on(tiny_clip)
    others = learner.with_prompts(("cats.", "birds."))
    torch.testing.assert_close(others.logits(crops(ROWS))[:, 0], learner.logits(crops(ROWS))[:, 0], rtol=1e-9, atol=0)


def test_it_stands_before_a_quantised_base(tiny_clip, examples):
    recipe = preset_recipe("paper", "plot++").replace(
        model=str(tiny_clip), **{**QUICK, "quantize": "nf4", "precision": "bf16", "base_steps": 4, "steps_per_shot": 0}
    )
    learner = create_learner(load_backbone(str(tiny_clip)), NAMES, recipe)
    assert learner.fit(examples, 2, silent).steps == 4
    assert learner.logits(crops(ROWS).float()).isfinite().all()
