"""A step's gradients where memory or float16's range does not suffice at first."""

import numpy as np
import pytest
import torch

from lowshot.data import task_of_arrays
from lowshot.progress import silent
from lowshot.training.loop import LaunchedSteps
from lowshot.training.state import FIRST_LOSS_SCALE, TrainingState
from lowshot.training.step import ExactStep, Passes
from lowshot.training.steps import Stage

from .steps import LABELS, ROWS, WHOLE, assert_same, crops, gradients, learner_on


def taken(learner, scale=1.0, passes=WHOLE):
    """The state after the fourth step of a run, and the step's loss and gradients; nothing is learnt from it."""
    optimizer = torch.optim.SGD(learner.parameters, lr=0.0)
    is_float16 = learner.backbone.dtype == torch.float16
    state = TrainingState(learner.parameters, optimizer, passes, scale, is_float16=is_float16, losses=[1.0] * 3)
    exact = ExactStep(learner.backbone, learner.class_vectors.in_steps(), learner.keys, passes, True)
    labels = torch.zeros(10, dtype=torch.int64).index_copy(0, torch.tensor(ROWS), LABELS)
    steps = LaunchedSteps(state, [Stage(9, exact)], lambda number, rows: crops(rows), labels)
    with learner.backbone.training():
        steps.take(ROWS, 0.0)
    return state, (state.losses[3] if steps.settle() else float("nan"), [p.grad for p in learner.parameters])


def test_where_memory_runs_out_the_step_is_taken_in_halves_with_the_same_result(tiny_clip, monkeypatch):
    learner = learner_on(tiny_clip)
    whole = gradients(learner, WHOLE)
    encode, asked, most = type(learner.backbone).encode_images, [], [2]

    def small(self, images):
        asked.append(len(images))
        if len(images) > most[0]:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return encode(self, images)

    monkeypatch.setattr(type(learner.backbone), "encode_images", small)
    state, found = taken(learner)
    assert_same(found, whole, 1e-10)
    assert asked[:2] == [7, 3]
    assert state.passes == Passes(1, 1)
    most[0] = 0
    with pytest.raises(torch.OutOfMemoryError):
        taken(learner)


@pytest.mark.parametrize("method", ["lora", "lora-xs"])
def test_a_scaled_loss_has_the_same_gradients(tiny_clip, method):
    learner = learner_on(tiny_clip, method)
    state, found = taken(learner, FIRST_LOSS_SCALE)
    assert state.loss_scale == FIRST_LOSS_SCALE
    assert_same(found, gradients(learner, WHOLE), 1e-12)


def test_in_float16_gradients_are_those_of_float32_but_for_its_rounding(tiny_clip):
    exact = learner_on(tiny_clip, dtype=torch.float32, dropout=0.0)
    half = learner_on(tiny_clip, dtype=torch.float32, dropout=0.0, precision="fp16")
    assert half.backbone.dtype == torch.float16
    assert {p.dtype for p in half.parameters} == {torch.float32}
    state, found = taken(half, FIRST_LOSS_SCALE)
    assert_same(found, gradients(exact, WHOLE), 0.03)
    assert state.loss_scale >= 1


def test_a_scale_that_is_too_large_for_float16_is_halved_until_it_is_not(tiny_clip):
    half = learner_on(tiny_clip, dtype=torch.float32, dropout=0.0, precision="fp16")
    expected = taken(half, FIRST_LOSS_SCALE)[1]
    state, found = taken(half, 2.0**40)
    assert 1 <= state.loss_scale < 2.0**40
    assert_same(found, expected, 0.02)


def test_a_loss_that_is_no_number_is_not_a_matter_of_scale(tiny_clip):
    half = learner_on(tiny_clip, dtype=torch.float32, dropout=0.0, precision="fp16")
    with torch.no_grad():
        half.parameters[0].fill_(float("nan"))
    state, (loss, _) = taken(half, FIRST_LOSS_SCALE)
    assert loss != loss
    assert state.loss_scale == FIRST_LOSS_SCALE


def test_half_precision_learns_what_full_precision_does(tiny_clip):
    generator = np.random.default_rng(0)
    images = [generator.integers(0, 255, (20, 20, 3), dtype=np.uint8) for _ in range(10)]
    examples = task_of_arrays(images, [name for name in "abcde" for _ in range(2)]).train
    outcomes = []
    for precision in ("fp32", "fp16"):
        learner = learner_on(
            tiny_clip, dtype=torch.float32, precision=precision, base_steps=10, steps_per_shot=0, learning_rate=1e-3
        )
        outcomes.append(learner.fit(examples, 2, silent))
    full, half = outcomes
    assert not half.stopped
    assert half.final_loss == pytest.approx(full.final_loss, rel=0.02)
