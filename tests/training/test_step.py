"""However a batch is cut up, the gradient is that of the whole batch."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.nn import functional

from lowshot.adapters.dropout import MaskKeys, SampleDropout
from lowshot.config import preset_recipe
from lowshot.methods import method_spec
from lowshot.models import load_backbone
from lowshot.training import create_learner
from lowshot.training.step import ExactStep, Passes

PROMPTS = [f"a photo of {name}." for name in ("cats", "dogs", "long names", "x", "horse")]
ROWS = [4, 0, 7, 2, 9, 1, 3]
LABELS = torch.tensor([0, 4, 1, 1, 2, 3, 0])


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


def gradients(learner, passes, *, checkpointing=False, step=3, frozen=False):
    exact = ExactStep(learner.backbone, learner._tokens, learner._keys, passes, learner._text_is_trained)
    for parameter in learner.parameters:
        parameter.grad = None
    with learner.backbone.training(checkpointing=checkpointing):
        classes = learner._encode_classes().detach() if frozen else None
        loss = exact.accumulate(step, ROWS, LABELS, crops, classes)
    return loss, [p.grad for p in learner.parameters]


def assert_same(found, expected, tolerance):
    assert found[0] == pytest.approx(expected[0], rel=tolerance)
    scale = max(float(g.abs().max()) for g in expected[1])
    for one, other in zip(found[1], expected[1], strict=True):
        assert (one - other).abs().max() <= tolerance * scale


WHOLE = Passes(images=len(ROWS), prompts=len(PROMPTS))
CUTS = [Passes(1, 5), Passes(3, 5), Passes(7, 2), Passes(2, 1), Passes(100, 100)]


@pytest.mark.parametrize("method", ["lora", "lora-xs", "dora", "layernorm", "full"])
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
    scores = learner.backbone.logits(learner.backbone.encode_images(crops(ROWS)), learner._encode_classes())
    loss = functional.cross_entropy(scores, LABELS)
    assert_same(found, (loss.item(), torch.autograd.grad(loss, learner.parameters)), 1e-10)


@pytest.mark.parametrize("encoder", ["vision", "text"])
def test_one_trained_tower_is_enough(tiny_clip, encoder):
    learner = learner_on(tiny_clip, encoder=encoder)
    whole = gradients(learner, WHOLE)
    for passes in CUTS:
        assert_same(gradients(learner, passes, frozen=encoder == "vision"), whole, 1e-10)


def test_every_family_and_a_quantised_base_can_be_cut(tiny_model):
    for quantize in ("none", "nf4"):
        learner = learner_on(tiny_model, dtype=torch.float32, quantize=quantize)
        assert_same(gradients(learner, Passes(2, 2)), gradients(learner, WHOLE), 2e-5)


@pytest.mark.parametrize("passes", [WHOLE, Passes(2, 2)])
def test_checkpointing_draws_the_same_masks_again(tiny_clip, passes):
    learner = learner_on(tiny_clip)
    assert_same(gradients(learner, passes, checkpointing=True), gradients(learner, WHOLE), 1e-10)


def test_masks_belong_to_seed_step_and_sample(tiny_clip):
    learner = learner_on(tiny_clip)
    loss, _ = gradients(learner, WHOLE)
    assert gradients(learner, WHOLE)[0] == loss
    assert gradients(learner, WHOLE, step=4)[0] != loss
    learner._keys.seed += 1
    assert gradients(learner, WHOLE)[0] != loss


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=30)
@given(
    samples=st.lists(st.integers(0, 10_000), min_size=1, max_size=8, unique=True),
    cut=st.integers(0, 8),
    p=st.sampled_from([0.1, 0.25, 0.9]),
)
def test_a_mask_does_not_depend_on_what_else_is_in_the_batch(samples, cut, p):
    keys = MaskKeys(seed=1)
    layer = SampleDropout(p, 5, keys)
    ones = torch.ones(len(samples), 3, 16)
    with keys.of(2, samples):
        whole = layer(ones)
    parts = []
    for part in (samples[:cut], samples[cut:]):
        if part:
            with keys.of(2, part):
                parts.append(layer(torch.ones(len(part), 3, 16)))
    assert torch.equal(torch.cat(parts), whole)
    assert set(whole.unique().tolist()) <= {0.0, float(torch.tensor(1.0) / layer.share_kept)}
    assert layer.share_kept == pytest.approx(1 - p, abs=1e-5)


def test_entries_are_dropped_as_often_as_asked_and_their_mean_stays():
    keys = MaskKeys(seed=1)
    layer = SampleDropout(0.25, 0, keys)
    with keys.of(0, range(50)):
        dropped = layer(torch.ones(50, 2000))
    assert (dropped == 0).float().mean() == pytest.approx(0.25, abs=0.005)
    assert dropped.mean() == pytest.approx(1, abs=0.01)
    other = SampleDropout(0.25, 1, keys)
    with keys.of(0, range(50)):
        assert ((dropped == 0) == (other(torch.ones(50, 2000)) == 0)).float().mean() < 0.7


def test_rows_without_keys_are_an_error_and_not_another_mask():
    layer = SampleDropout(0.5, 0, MaskKeys(seed=1))
    with pytest.raises(RuntimeError, match="keys of 0 samples for 3 rows"):
        layer(torch.ones(3, 4))
    assert torch.equal(layer.eval()(torch.ones(3, 4)), torch.ones(3, 4))


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


def test_where_memory_runs_out_the_step_is_taken_in_halves_with_the_same_result(tiny_clip, monkeypatch):
    learner = learner_on(tiny_clip)
    whole = gradients(learner, WHOLE)
    encode, asked = type(learner.backbone).encode_images, []

    def small(self, images):
        asked.append(len(images))
        if len(images) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return encode(self, images)

    monkeypatch.setattr(type(learner.backbone), "encode_images", small)
    exact = ExactStep(learner.backbone, learner._tokens, learner._keys, WHOLE, True)
    with learner.backbone.training():
        loss = learner._accumulate(exact, 3, ROWS, LABELS, crops, None)
    assert_same((loss, [p.grad for p in learner.parameters]), whole, 1e-10)
    assert asked[:2] == [7, 3]
    assert exact.passes == Passes(1, 1)
    monkeypatch.setattr(
        type(learner.backbone), "encode_images", lambda self, images: small(self, images.repeat(3, 1, 1, 1))
    )
    with pytest.raises(torch.OutOfMemoryError), learner.backbone.training():
        learner._accumulate(exact, 3, ROWS, LABELS, crops, None)
