"""However a batch is cut up, the gradient is that of the whole batch."""

import pytest
import torch
from torch.nn import functional

from lowshot.training.scoring import IGNORED, SigmoidLoss
from lowshot.training.step import Passes
from meta_device import META, counted

from .steps import CUTS, LABELS, ROWS, WHOLE, assert_same, crops, gradients, learner_on


@pytest.mark.parametrize("method", ["lora", "lora-xs", "dora", "clip-svd", "layernorm", "full"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_every_cut_has_the_gradient_of_the_whole_dropout_included(tiny_clip, method, dtype, tolerance):
    learner = learner_on(tiny_clip, method, dtype)
    whole = gradients(learner, WHOLE)
    assert all(g.abs().max() > 0 for g in whole[1])
    for passes in CUTS:
        assert_same(gradients(learner, passes), whole, tolerance)


def test_it_is_the_gradient_that_autograd_gives_the_plain_loss(tiny_clip):
    learner = learner_on(tiny_clip, dropout=0.0)
    found = gradients(learner, Passes(2, 2))
    scores = learner.backbone.logits(learner.backbone.encode_images(crops(ROWS)), learner.encode_classes())
    loss = functional.cross_entropy(scores, LABELS)
    assert_same(found, (loss.item(), torch.autograd.grad(loss, learner.parameters)), 1e-10)


@pytest.mark.parametrize("encoder", ["vision", "text"])
def test_one_trained_tower_is_enough(tiny_clip, encoder):
    learner = learner_on(tiny_clip, encoder=encoder)
    whole = gradients(learner, WHOLE)
    for passes in CUTS:
        assert_same(gradients(learner, passes), whole, 1e-10)


def test_every_family_and_a_quantised_base_can_be_cut(any_tiny_model):
    for quantize, dtype, tolerance in (("none", torch.float64, 1e-10), ("nf4", torch.float32, 5e-5)):
        learner = learner_on(any_tiny_model, dtype=dtype, quantize=quantize)
        assert_same(gradients(learner, Passes(2, 2)), gradients(learner, WHOLE), tolerance)


@pytest.mark.parametrize("passes", [WHOLE, Passes(2, 2)])
def test_checkpointing_draws_the_same_masks_again(tiny_clip, passes):
    learner = learner_on(tiny_clip)
    assert_same(gradients(learner, passes, checkpointing=True), gradients(learner, WHOLE), 1e-10)


def test_masks_belong_to_seed_step_and_sample(tiny_clip):
    learner = learner_on(tiny_clip)
    loss, _ = gradients(learner, WHOLE)
    assert gradients(learner, WHOLE)[0] == loss
    assert gradients(learner, WHOLE, step=4)[0] != loss
    learner.keys.seed += 1
    assert gradients(learner, WHOLE)[0] != loss


def test_cuts_do_not_change_what_is_learnt(tiny_clip, monkeypatch):
    import numpy as np

    from lowshot.data import task_of_arrays
    from lowshot.progress import silent

    generator = np.random.default_rng(0)
    images = [generator.integers(0, 255, (20, 20, 3), dtype=np.uint8) for _ in range(10)]
    examples = task_of_arrays(images, [name for name in "abcde" for _ in range(2)]).train
    results = []
    monkeypatch.setattr("lowshot.training.passes.resident_bytes", lambda device: 0)
    cuts = {"images_per_pass": 3, "prompts_per_pass": 2, "gradient_checkpointing": True}
    for engine in ({}, cuts, {"memory_budget": "400KB"}):
        learner = learner_on(tiny_clip, dtype=torch.float32, base_steps=6, steps_per_shot=0, **engine)
        learner.fit(examples, 2, silent)
        results.append(learner.logits(crops(ROWS).float()))
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], atol=2e-3, rtol=0)


# -- several labels ----------------------------------------------------------------------------------------------------

SHOWN = torch.tensor([[1, 0, 0, 0, 1], [0, 0, 0, 0, 0], [0, 1, 1, 0, 0], [1, 1, 1, 1, 1], [0, 0, 0, 1, 0]])[
    [0, 1, 2, 3, 4, 0, 2]
]
OFFSETS = SigmoidLoss(torch.tensor([-9.0, -8.0, -10.0, -9.5, -7.0]))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_every_cut_has_the_gradient_of_the_whole_where_images_have_several_labels(tiny_clip, dtype, tolerance):
    learner = learner_on(tiny_clip, dtype=dtype)
    whole = gradients(learner, WHOLE, labels=SHOWN, loss=OFFSETS)
    assert all(g.abs().max() > 0 for g in whole[1])
    for passes in CUTS:
        assert_same(gradients(learner, passes, labels=SHOWN, loss=OFFSETS), whole, tolerance)


def test_the_loss_of_several_labels_is_siglips_summed_over_the_classes(tiny_clip):
    learner = learner_on(tiny_clip, dropout=0.0)
    found = gradients(learner, Passes(2, 2), labels=SHOWN, loss=OFFSETS)
    scores = learner.backbone.logits(learner.backbone.encode_images(crops(ROWS)), learner.encode_classes())
    signs = 2.0 * SHOWN - 1
    loss = -functional.logsigmoid(signs * (scores + OFFSETS.offsets)).sum() / len(ROWS)
    assert_same(found, (loss.item(), torch.autograd.grad(loss, learner.parameters)), 1e-10)


def test_rows_that_are_ignored_have_no_part_in_the_loss_of_several_labels():
    scores = torch.linspace(-20, 20, 35).view(7, 5).requires_grad_()
    filled = SHOWN.clone()
    filled[4:] = IGNORED
    loss = OFFSETS(scores, filled)
    assert loss.item() == pytest.approx(OFFSETS(scores[:4], SHOWN[:4]).item())
    (gradient,) = torch.autograd.grad(loss, scores)
    assert not gradient[4:].any() and gradient[:4].all()


def test_the_loss_of_several_labels_asks_nothing_of_the_device():
    scores, shown = torch.zeros(7, 5, device=META), torch.zeros(7, 5, dtype=torch.int64, device=META)
    loss = SigmoidLoss(torch.zeros(5, device=META))
    with counted() as counts:
        loss(scores, shown)
    assert (counts.copies, counts.waits, counts.answers) == (0, 0, 0) and counts.kernels
