"""Steps of several runs that are computed together have the gradients that each has alone."""

import contextlib

import pytest
import torch

from lowshot.models import load_backbone
from lowshot.settings import preset_recipe
from lowshot.training import create_learner
from lowshot.training.joint_step import JointStep
from lowshot.training.scoring import SigmoidLoss
from lowshot.training.step import Batch, ExactStep, Passes

from .steps import PROMPTS, assert_same, crops

NAMES = (PROMPTS, PROMPTS[:3], ["a photo of a zebra.", *PROMPTS[1:4]])
"""Prompts of three runs: as many as they like, of any length."""
ROWS = ([4, 0, 7, 2, 9, 1, 3], [5, 5, 1], [8, 2, 0, 6, 3, 1])
NUMBERS = (3, 0, 11)
CUTS = (Passes(100, 100), Passes(6, 6), Passes(3, 3))


def learners_on(model, method="lora", dtype=torch.float64, names=NAMES, **chosen):
    learners = []
    for run, prompts in enumerate(names):
        settings = {"rank": 4, "dropout": 0.25, "precision": "fp32", "seed": run, "alpha": 1.0 + run, **chosen}
        recipe = preset_recipe("paper", method).replace(model=str(model), **settings)
        learner = create_learner(load_backbone(str(model)), prompts, recipe)
        for index, parameter in enumerate(learner.adapter.parameters()):  # B is zero at first
            generator = torch.Generator().manual_seed(100 * run + index)
            parameter.data = parameter.data + 0.1 * torch.randn(parameter.shape, generator=generator)
        if dtype != torch.float32:
            learner.backbone.model.to(dtype)
        learners.append(learner)
    return learners


def exact_steps(learners, **more):
    whole = Passes(100, 100)
    return [
        ExactStep(
            *(each.backbone, each.class_vectors.in_steps(), each.keys, whole, each.vectors_are_trained),
            scoring=each.scoring,
            **more,
        )
        for each in learners
    ]


def batches(learners, labels_of=lambda rows, classes: torch.arange(rows) % classes):
    def images_of(rows):
        return crops(rows) if rows else crops([0])[:0]

    labels = [labels_of(len(rows), len(each.class_vectors.texts)) for rows, each in zip(ROWS, learners, strict=False)]
    return [Batch.of(*each, images_of) for each in zip(NUMBERS, ROWS, labels, strict=False)]


def taken(learners, gradients, *, checkpointing=False):
    """Loss and gradients of each run."""
    for learner in learners:
        for parameter in learner.parameters:
            parameter.grad = None
    with contextlib.ExitStack() as training:
        for learner in learners:
            training.enter_context(learner.backbone.training(checkpointing=checkpointing))
        losses = [loss.item() for loss in gradients()]
    return [(loss, [p.grad for p in each.parameters]) for loss, each in zip(losses, learners, strict=True)]


def assert_joined_is_alone(learners, passes, tolerance, given=None, *, checkpointing=False, **more):
    steps, given = exact_steps(learners, **more), given or batches(learners)
    alone = taken(learners, lambda: [step.gradients(batch) for step, batch in zip(steps, given, strict=True)])
    joint = JointStep(exact_steps(learners, **more), passes)
    joined = taken(learners, lambda: joint.gradients(given), checkpointing=checkpointing)
    for one, other in zip(joined, alone, strict=True):
        assert all(gradient.abs().max() > 0 for gradient in other[1])
        assert_same(one, other, tolerance)


@pytest.mark.parametrize("method", ["lora", "lora-xs"])
@pytest.mark.parametrize("chosen", [{}, {"dropout": 0.0}, {"projections": ("q", "k", "v", "o", "fc1", "fc2")}], ids=str)
def test_gradients_are_those_of_each_run_alone(tiny_clip, method, chosen):
    assert_joined_is_alone(learners_on(tiny_clip, method, names=NAMES[:2], **chosen), CUTS[0], 1e-10)


@pytest.mark.parametrize("dropout", [0.0, 0.25])
@pytest.mark.parametrize("passes", CUTS[1:], ids=str)
def test_it_is_so_however_the_work_is_cut(tiny_clip, dropout, passes):
    assert_joined_is_alone(learners_on(tiny_clip, dropout=dropout), passes, 1e-10)


@pytest.mark.parametrize("position", ["1", "0"])
def test_it_is_so_where_what_comes_before_is_computed_once(tiny_clip, position):
    assert_joined_is_alone(learners_on(tiny_clip, position=position), CUTS[1], 1e-10)


@pytest.mark.parametrize("encoder", ["vision", "text"])
def test_it_is_so_where_one_tower_is_trained(tiny_clip, encoder):
    assert_joined_is_alone(learners_on(tiny_clip, encoder=encoder), CUTS[1], 1e-10)


def test_it_is_so_on_every_family(any_tiny_model):
    assert_joined_is_alone(learners_on(any_tiny_model), CUTS[1], 1e-8)


@pytest.mark.parametrize("quantize", ["nf4", "int8"])
def test_it_is_so_on_weights_in_fewer_bits(tiny_clip, quantize):
    assert_joined_is_alone(learners_on(tiny_clip, dtype=torch.float32, quantize=quantize), CUTS[0], 2e-5)


def test_it_is_so_where_blocks_are_computed_again(tiny_clip):
    assert_joined_is_alone(learners_on(tiny_clip), CUTS[1], 1e-10, checkpointing=True)


def test_it_is_so_where_classes_have_several_prompts(tiny_clip):
    names = ([["a cat.", "one cat."], "a dog."], PROMPTS[:4], [PROMPTS[:2], PROMPTS[2:]])
    assert_joined_is_alone(learners_on(tiny_clip, names=names), CUTS[1], 1e-10)


def test_it_is_so_where_images_have_several_labels(tiny_clip):
    learners = learners_on(tiny_clip, names=(PROMPTS,) * 3)
    given = batches(learners, lambda rows, classes: (torch.arange(rows * classes).view(rows, classes) % 3 == 0).long())
    assert_joined_is_alone(learners, CUTS[1], 1e-10, given, loss=SigmoidLoss(torch.linspace(-1, 1, len(PROMPTS))))


def test_it_is_so_in_float16_with_a_scale(tiny_clip):
    learners = learners_on(tiny_clip, dtype=torch.float32, precision="fp16", dropout=0.0)
    assert_joined_is_alone(learners, CUTS[0], 0.02, loss_scale=2.0**10)


def test_it_is_so_where_no_text_tower_reads_the_classes(tiny_image_encoder):
    learners = learners_on(tiny_image_encoder)
    for learner in learners:
        generator = torch.Generator().manual_seed(len(learner.class_vectors))
        learner.class_vectors.rows.data = torch.randn(learner.class_vectors.rows.shape, generator=generator).double()
    assert_joined_is_alone(learners, CUTS[1], 1e-10)
