"""A step that is recorded once and replayed is the step that is launched each time.

Without a GPU the recorder does the work again: the same buffers, the same order, the same rows that fill a batch up.
"""

import dataclasses

import numpy as np
import pytest
import torch

from lowshot.data import task_of_arrays
from lowshot.models import load_backbone
from lowshot.progress import silent
from lowshot.settings import preset_recipe
from lowshot.training import create_learner, recorded, run, weights
from lowshot.training.images import ImagesWhenAsked, step_images
from lowshot.training.recorded import PlainRecorder, RecordedSteps
from lowshot.training.steps import learning_rate

from .steps import Losses, crops, interrupted_before

PROMPTS = [f"a photo of {name}." for name in ("cats", "dogs", "long names", "x", "horse")]
STEPS = 5


@pytest.fixture(scope="module")
def examples():
    generator = np.random.default_rng(0)
    images = [generator.integers(0, 255, (20, 24, 3), dtype=np.uint8) for _ in range(10)]
    return task_of_arrays(images, [name for name in "abcde" for _ in range(2)]).train


@pytest.fixture
def recording(monkeypatch):
    """Steps are recorded here as they are on CUDA; what was recorded is counted."""
    recorder = Counting()
    monkeypatch.setattr(run, "recorder_on", lambda device: recorder)
    return recorder


class Counting(PlainRecorder):
    def __init__(self):
        self.recorded = self.replayed = 0

    def __call__(self, work):
        self.recorded += 1

        def replay():
            self.replayed += 1
            work()

        return replay


def learner_on(model, method="lora", **chosen):
    low_rank = {"rank": 3, "dropout": 0.25} if method in ("lora", "lora-xs", "dora") else {}
    quick = {"base_steps": STEPS, "steps_per_shot": 0, "batch_size": 4, "learning_rate": 1e-2, "precision": "fp32"}
    recipe = preset_recipe("paper", method).replace(model=str(model), **{**quick, **low_rank, **chosen})
    return create_learner(load_backbone(str(model)), PROMPTS, recipe)


def fitted(model, examples, method="lora", checkpoint=None, track=silent, **chosen):
    learner = learner_on(model, method, **chosen)
    losses = Losses()
    learner.outcome = learner.fit(examples, 1, track, checkpoint, report=losses)
    return learner, losses.all


def values(learner):
    return [parameter.detach().clone() for parameter in learner.parameters]


@pytest.mark.parametrize(
    ("method", "chosen"),
    [
        ("lora", {}),  # ten images in batches of four: every third is filled up
        ("lora", {"images_per_pass": 3, "prompts_per_pass": 2}),
        ("lora", {"encoder": "vision"}),
        ("lora", {"encoder": "text", "views": 2}),
        ("lora", {"views": 2, "position": "up"}),
        ("lora", {"gradient_checkpointing": True}),
        ("lora", {"quantize": "nf4"}),
        ("lora", {"quantize": "int8", "precision": "bf16"}),
        ("lora", {"adapter_precision": "base", "precision": "bf16"}),
        ("lora-xs", {}),
        ("dora", {}),
        ("layernorm", {}),
        ("full", {"learning_rate": 1e-4}),
        ("clip-svd", {}),
        ("coop", {"optimizer": "adamw", "learning_rate": 1e-3}),
        ("coop", {}),
    ],
    ids=str,
)
def test_it_learns_what_launched_steps_learn(tiny_clip, examples, recording, method, chosen):
    replayed, losses = fitted(tiny_clip, examples, method, **chosen)
    assert (recording.recorded, recording.replayed) == (1, STEPS - recorded.LAUNCHED_FIRST)
    launched, expected = fitted(tiny_clip, examples, method, cuda_graph=False, **chosen)
    assert recording.recorded == 1
    tolerance = 3e-2 if chosen.get("precision") == "bf16" else 1e-4
    assert losses == pytest.approx(expected, rel=tolerance)
    shown = crops(range(4)).float()
    torch.testing.assert_close(replayed.logits(shown), launched.logits(shown), atol=100 * tolerance, rtol=0)
    assert losses[-1] != losses[0]


@pytest.mark.parametrize("chosen", [{}, {"images_per_pass": 3, "prompts_per_pass": 2}, {"precision": "fp16"}], ids=str)
def test_several_labels_are_learnt_as_launched_steps_learn_them(tiny_clip, examples, recording, chosen):
    """Ten images in batches of four: every third is filled up with rows that no class counts."""
    table = np.random.default_rng(0).integers(0, 2, (10, 5))
    several = dataclasses.replace(examples, labels=table)
    replayed, losses = fitted(tiny_clip, several, **chosen)
    assert recording.recorded == 1
    launched, expected = fitted(tiny_clip, several, cuda_graph=False, **chosen)
    tolerance = 5e-3 if chosen.get("precision") == "fp16" else 1e-4
    assert losses == pytest.approx(expected, rel=tolerance)
    assert (replayed.offsets == launched.offsets).all()
    shown = crops(range(4)).float()
    torch.testing.assert_close(replayed.logits(shown), launched.logits(shown), atol=100 * tolerance, rtol=0)


def test_sgd_in_float16_is_recorded_though_its_first_steps_are_taken_again(tiny_clip, examples, recording):
    """Its momentum is written by a step that leaves float16, and must be as if it had not been."""
    replayed, losses = fitted(tiny_clip, examples, "coop", precision="fp16")
    assert recording.recorded == 1 and recording.replayed > STEPS  # the scale began too high
    launched, expected = fitted(tiny_clip, examples, "coop", precision="fp16", cuda_graph=False)
    assert losses == pytest.approx(expected, rel=5e-3)
    shown = crops(range(4)).float()
    torch.testing.assert_close(replayed.logits(shown), launched.logits(shown), atol=2e-2, rtol=0)


def test_rows_that_fill_a_batch_up_change_nothing(tiny_clip, examples, recording):
    learner = learner_on(tiny_clip, dropout=0.25)
    taken = []
    for size in (3, 8):
        state, steps = steps_of(learner, examples, size)
        with learner.backbone.training():
            steps.take([4, 0, 7], 0.0)
        assert steps.settle()
        taken.append((state.losses, [parameter.grad.clone() for parameter in learner.parameters]))
    assert taken[0][0] == pytest.approx(taken[1][0], rel=1e-6)
    for one, other in zip(taken[0][1], taken[1][1], strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


def steps_of(learner, examples, size, scale=1.0):
    from lowshot.training.state import TrainingState
    from lowshot.training.step import Passes

    passes = Passes(size, 5)
    optimizer = torch.optim.AdamW(learner.parameters, lr=0.0, fused=True)
    is_float16 = learner.backbone.dtype == torch.float16
    state = TrainingState(learner.parameters, optimizer, passes, scale, is_float16=is_float16)
    labels = torch.from_numpy(examples.labels)
    images_of = step_images(examples, learner.backbone, learner.recipe.training, beside=True)
    return state, RecordedSteps(state, learner.exact_step(passes), images_of, labels, size, PlainRecorder())


@pytest.mark.parametrize("method", ["lora", "layernorm"])
@pytest.mark.parametrize("step", [1, 3, 4])
def test_a_run_that_is_interrupted_goes_on_to_the_very_same(tiny_clip, examples, recording, tmp_path, method, step):
    whole, losses = fitted(tiny_clip, examples, method)
    path = tmp_path / "state"
    with pytest.raises(KeyboardInterrupt):
        fitted(tiny_clip, examples, method, path, interrupted_before(step))
    again, rest = fitted(tiny_clip, examples, method, path)
    assert again.outcome.begun_at_step == step
    assert rest == losses
    assert all(torch.equal(one, other) for one, other in zip(values(again), values(whole), strict=True))


def test_a_state_that_launched_steps_left_is_gone_on_from(tiny_clip, examples, recording, tmp_path):
    """The state is the same whatever takes the steps."""
    path = tmp_path / "state"
    with pytest.raises(KeyboardInterrupt):
        fitted(tiny_clip, examples, checkpoint=path, track=interrupted_before(3), cuda_graph=False)
    again, losses = fitted(tiny_clip, examples, checkpoint=path)
    assert again.outcome.begun_at_step == 3
    assert losses == pytest.approx(fitted(tiny_clip, examples)[1], rel=1e-5)


def test_a_step_that_is_no_number_stops_all_after_it(tiny_clip, examples, recording, monkeypatch):
    learned = []
    for graph in (True, False):
        learner = learner_on(tiny_clip, cuda_graph=graph)
        give = step_images(examples, learner.backbone, learner.recipe.training, beside=True)

        def spoilt(number, rows, give=give):
            return give(number, rows) * (float("nan") if number == 4 else 1.0)

        images = ImagesWhenAsked(spoilt)
        monkeypatch.setattr(weights, "step_images", lambda *_, images=images, **__: images)
        outcome = learner.fit(examples, 1, silent)
        assert outcome.stopped.startswith("training diverged at step 5 of 5")
        assert outcome.steps == 3
        learned.append(values(learner))
    for one, other in zip(*learned, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


def test_where_float16_is_too_narrow_the_step_is_taken_again_with_half_the_scale(tiny_clip, examples, recording):
    learner = learner_on(tiny_clip, precision="fp16", dropout=0.0)
    state, steps = steps_of(learner, examples, 4, 2.0**40)
    with learner.backbone.training():
        for rows in ([0, 1, 2, 3], [4, 5, 6, 7], [8, 9]):
            steps.take(rows, 1e-3)
        assert steps.settle()
    assert len(state.losses) == 3
    assert 1 <= state.loss_scale < 2.0**40
    other = learner_on(tiny_clip, precision="fp16", dropout=0.0)
    again, steps = steps_of(other, examples, 4, state.loss_scale)
    with other.backbone.training():
        for rows in ([0, 1, 2, 3], [4, 5, 6, 7], [8, 9]):
            steps.take(rows, 1e-3)
        assert steps.settle()
    assert state.losses == again.losses
    assert all(torch.equal(one, other) for one, other in zip(values(learner), values(other), strict=True))


def test_where_memory_runs_out_passes_are_halved_and_the_step_recorded_anew(
    tiny_clip, examples, recording, monkeypatch
):
    expected = fitted(tiny_clip, examples, cuda_graph=False)[1]
    backbone = type(load_backbone(str(tiny_clip)))
    encode, calls = backbone.encode_images, []

    def small(self, images):
        calls.append(len(images))
        if len(images) > 2 and len(calls) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return encode(self, images)

    monkeypatch.setattr(backbone, "encode_images", small)
    assert fitted(tiny_clip, examples)[1] == pytest.approx(expected, rel=1e-5)
    assert recording.recorded == 2
    assert set(calls) == {1, 2, 4}


def test_what_cannot_be_recorded_is_launched_and_said(tiny_clip, examples, monkeypatch):
    def fails(work):
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    refusing = PlainRecorder()
    monkeypatch.setattr(type(refusing), "__call__", lambda self, work: fails(work))
    monkeypatch.setattr(run, "recorder_on", lambda device: refusing)
    learner, losses = fitted(tiny_clip, examples)
    [note] = learner.outcome.notes
    assert note.startswith("each step was launched by itself")
    assert "operation not permitted when stream is capturing" in note
    assert losses == pytest.approx(fitted(tiny_clip, examples, cuda_graph=False)[1], rel=1e-5)


@pytest.mark.parametrize(
    ("method", "chosen", "why"),
    [
        ("2sfs", {}, "two stages"),
        ("2sfs", {"first_stage": 0.3}, "two stages"),
        ("plot++", {"template": ("{}.",)}, "two stages"),
        ("peft:loha", {}, "may draw from torch's generator"),
    ],
)
def test_what_is_never_recorded_says_why(tiny_clip, examples, recording, method, chosen, why):
    learner, _ = fitted(tiny_clip, examples, method, **chosen)
    assert recording.recorded == 0
    assert why in learner.outcome.notes[0]


def test_losses_are_read_every_few_steps(tiny_clip, examples, recording, monkeypatch):
    settled = []
    settle = RecordedSteps.settle
    monkeypatch.setattr(RecordedSteps, "settle", lambda self: (settled.append(len(self._begun)), settle(self))[1])
    fitted(tiny_clip, examples, base_steps=40)
    assert [count for count in settled if count] == [16, 16, 8]


def test_a_plan_measures_the_step_that_is_replayed_and_learns_nothing(tiny_clip, recording):
    from lowshot.training.planning import step_seconds
    from lowshot.training.step import Passes

    learner = learner_on(tiny_clip)
    before = values(learner)
    with learner.backbone.training():
        assert step_seconds(learner, Passes(4, 5), 4) > 0
    assert recording.recorded == 1
    assert all(parameter.grad is None for parameter in learner.parameters)
    assert all(torch.equal(one, other) for one, other in zip(values(learner), before, strict=True))
    with learner.backbone.training():
        assert step_seconds(learner_on(tiny_clip, cuda_graph=False), Passes(4, 5), 4) is None


def test_an_interrupt_in_the_middle_of_an_update_leaves_the_state_that_was_written_before(
    tiny_clip, examples, recording, tmp_path, monkeypatch
):
    whole, losses = fitted(tiny_clip, examples)
    step, calls = torch.optim.AdamW.step, []

    def interrupted(self, *arguments):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return step(self, *arguments)

    path = tmp_path / "state"
    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fitted(tiny_clip, examples, checkpoint=path, checkpoint_seconds=0.0)
    again, rest = fitted(tiny_clip, examples, checkpoint=path)
    assert again.outcome.begun_at_step == 4
    assert rest == losses
    assert all(torch.equal(one, other) for one, other in zip(values(again), values(whole), strict=True))


def test_a_run_that_is_over_when_its_scale_would_grow_stays_where_it_was(tiny_clip, examples, monkeypatch):
    monkeypatch.setattr("lowshot.training.state.STEPS_TO_DOUBLE", 4)
    learner = learner_on(tiny_clip, precision="fp16", dropout=0.0)
    state, steps = steps_of(learner, examples, 4, 2.0**8)
    give = steps._images_of
    steps._images_of = lambda number, rows: give(number, rows) * (float("nan") if number == 2 else 1.0)
    with learner.backbone.training():
        for _ in range(6):
            steps.take([0, 1, 2, 3], 1e-3)
        assert not steps.settle()
        assert not steps.settle()
    assert (len(state.losses), state.stopped_at) == (1, 3)


def test_the_learning_rate_follows_the_steps_where_the_scale_grows(tiny_clip, examples, recording, monkeypatch):
    """A scale that grows settles steps before the loop asks for it."""

    class Rates(Losses):
        def step(self, taken):
            super().step(taken)
            rates.append(taken.learning_rate)

    monkeypatch.setattr("lowshot.training.state.STEPS_TO_DOUBLE", 2)
    monkeypatch.setattr("lowshot.training.state.FIRST_LOSS_SCALE", 2.0**40)
    rates, learner = [], learner_on(tiny_clip, precision="fp16", dropout=0.0)
    assert not learner.fit(examples, 1, silent, report=Rates()).stopped
    assert rates == [learning_rate(step, STEPS, learner.recipe.training) for step in range(STEPS)]


def test_nothing_of_a_step_is_held_on_to_afterwards(tiny_clip, examples, recording):
    learner, _ = fitted(tiny_clip, examples)
    assert all(parameter.grad is None for parameter in learner.parameters)
    other = learner_on(tiny_clip)
    with pytest.raises(KeyboardInterrupt):
        other.fit(examples, 1, interrupted_before(3))
    assert all(parameter.grad is None for parameter in other.parameters)
