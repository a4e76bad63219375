"""Learners on the tiny CLIP, and steps by hand."""

import functools

import pytest
import torch
from torch.nn import functional

from lowshot.methods import method_spec
from lowshot.models import load_backbone
from lowshot.settings import preset_recipe
from lowshot.training import create_learner

PROMPTS = ("a photo of a cat.", "a photo of a dog.", "a photo of a very long name.")


@pytest.fixture(scope="session")
def learner_on(tiny_clip):
    """A fresh learner: ``learner_on("lora", "nf4", rank=4)``. Low-rank methods have rank 4 and no dropout."""
    return functools.partial(built, str(tiny_clip))


@pytest.fixture(scope="session")
def shallow_learner_on(shallow_clip):
    """The same on two blocks for images and one for texts: for what every tuner is asked in turn."""
    return functools.partial(built, str(shallow_clip))


def built(model, method, quantize="none", **settings):
    recipe = preset_recipe("paper", method).replace(model=model, quantize=quantize)
    small = {"rank": 4, "dropout": 0.0} if "rank" in method_spec(method).settings else {}
    recipe = recipe.replace(**{**small, **settings})
    return create_learner(load_backbone(model), PROMPTS, recipe)


def images(count=5):
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def take_steps(learner, count=2, rate=1e-2):
    """Optimiser steps on five images; returns the gradients of the last one by position."""
    optimizer = torch.optim.AdamW(learner.parameters, lr=rate)
    for _ in range(count):
        optimizer.zero_grad()
        scores = learner.scoring.scores(learner.backbone.encode_images(images()), learner.encode_classes())
        functional.cross_entropy(scores, torch.tensor([0, 1, 2, 0, 1])).backward()
        optimizer.step()
    learner._classes = None
    return [parameter.grad for parameter in learner.parameters]
