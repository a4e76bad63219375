"""A step on the tiny models, its gradients, and when two of them are the same."""

import pytest
import torch

from lowshot.methods import method_spec
from lowshot.models import load_backbone
from lowshot.settings import preset_recipe
from lowshot.training import create_learner
from lowshot.training.step import ExactStep, Passes

PROMPTS = [f"a photo of {name}." for name in ("cats", "dogs", "long names", "x", "horse")]
ROWS = [4, 0, 7, 2, 9, 1, 3]
LABELS = torch.tensor([0, 4, 1, 1, 2, 3, 0])
OF_PROMPTS = ("shared_prefix", "partway")


def learner_on(model, method="lora", dtype=torch.float64, **chosen):
    low_rank = {"rank": 4, "dropout": 0.25} if "rank" in method_spec(method).settings else {}
    recipe = preset_recipe("paper", method).replace(model=str(model), **{**low_rank, "precision": "fp32", **chosen})
    learner = create_learner(load_backbone(str(model)), PROMPTS, recipe)
    for index, parameter in enumerate(learner.parameters):  # B is zero at first, and with it half of all gradients
        generator = torch.Generator().manual_seed(index)
        parameter.data = parameter.data + 0.1 * torch.randn(parameter.shape, generator=generator)
    if dtype != torch.float32:
        learner.backbone.model.to(dtype)
    return learner


def crops(rows):
    one = [torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(row), dtype=torch.float64) for row in rows]
    return torch.cat(one)


def gradients(learner, passes, *, labels=LABELS, checkpointing=False, step=3, images_of=crops, **levers):
    vectors = learner.class_vectors.in_steps(**{name: levers.pop(name) for name in OF_PROMPTS if name in levers})
    exact = ExactStep(learner.backbone, vectors, learner.keys, passes, learner.vectors_are_trained, **levers)
    for parameter in learner.parameters:
        parameter.grad = None
    with learner.backbone.training(checkpointing=checkpointing):
        loss = exact.accumulate(step, ROWS, labels, images_of)
    return loss, [p.grad for p in learner.parameters]


def assert_same(found, expected, tolerance):
    assert found[0] == pytest.approx(expected[0], rel=tolerance)
    scale = max(float(g.abs().max()) for g in expected[1])
    for one, other in zip(found[1], expected[1], strict=True):
        assert (one - other).abs().max() <= tolerance * scale


WHOLE = Passes(images=len(ROWS), prompts=len(PROMPTS))
CUTS = [Passes(1, 5), Passes(3, 5), Passes(7, 2), Passes(2, 1), Passes(100, 100)]


def interrupted_before(step):
    """Progress that a person interrupts."""

    def track(items, *, what, total):
        for number, item in enumerate(items):
            if number == step:
                raise KeyboardInterrupt
            yield item

    return track


class Losses:
    """A report that notes the loss of every step, of those before an interruption too."""

    def __init__(self):
        self.all = []

    def begin(self, run, losses):
        self.all = list(losses)

    def step(self, taken):
        assert taken.step == len(self.all) + 1
        self.all.append(taken.loss)
