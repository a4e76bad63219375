"""A run that ends anywhere and is taken up again is the run that was never interrupted, bit for bit."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from lowshot.config import preset_recipe
from lowshot.data import task_of_arrays
from lowshot.errors import InputError
from lowshot.methods import method_spec
from lowshot.models import load_backbone
from lowshot.progress import silent
from lowshot.training import checkpoints, create_learner
from lowshot.training.state import TrainingState
from lowshot.training.step import ExactStep, Passes

STEPS = 7
PROMPTS = ("a blue", "a green", "a red")


@pytest.fixture(scope="module")
def examples():
    generator = np.random.default_rng(0)
    images = [generator.integers(0, 255, (20, 20, 3), dtype=np.uint8) for _ in range(9)]
    return task_of_arrays(images, ["red", "green", "blue"] * 3).train


def learner_of(folder, method="lora", prompts=PROMPTS, **chosen):
    low_rank = {"rank": 4, "dropout": 0.25} if "rank" in method_spec(method).settings else {}
    quick = {"steps_per_shot": 0, "base_steps": STEPS, "batch_size": 4, "checkpoint_seconds": 0.0}
    recipe = preset_recipe("paper", method).replace(
        model=str(folder), **{"learning_rate": 1e-2, **quick, **low_rank, **chosen}
    )
    return create_learner(load_backbone(str(folder)), prompts, recipe)


def interrupted_before(step):
    """Progress that a person interrupts."""

    def track(items, *, what, total):
        for number, item in enumerate(items):
            if number == step:
                raise KeyboardInterrupt
            yield item

    return track


def values(learner):
    return [p.detach().clone() for p in learner.parameters]


def assert_equal(found, expected):
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize(
    ("method", "chosen"),
    [
        ("lora", {}),
        ("lora", {"precision": "bf16", "encoder": "vision"}),
        ("lora", {"images_per_pass": 3, "prompts_per_pass": 2, "gradient_checkpointing": True}),
        ("qlora", {}),
        ("lora-xs", {}),
        ("dora", {}),
        ("full", {}),
        ("peft:loha", {"peft": ("module_dropout=0.5",)}),  # draws from torch's own generator
    ],
)
def test_an_interrupted_run_goes_on_to_the_same_weights(tiny_clip, examples, tmp_path, method, chosen):
    whole = learner_of(tiny_clip, method, **chosen)
    expected = whole.fit(examples, 1, silent)
    path = tmp_path / "state"
    with pytest.raises(KeyboardInterrupt):
        learner_of(tiny_clip, method, **chosen).fit(examples, 1, interrupted_before(3), path)
    again = learner_of(tiny_clip, method, **chosen)
    outcome = again.fit(examples, 1, silent, path)
    assert_equal(values(again), values(whole))
    assert (outcome.begun_at_step, outcome.steps) == (3, STEPS)
    assert outcome.final_loss == expected.final_loss


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=8)
@given(ends=st.lists(st.integers(0, STEPS), max_size=3))
def test_however_often_and_wherever_it_ends(tiny_clip, examples, tmp_path_factory, ends):
    if not hasattr(test_however_often_and_wherever_it_ends, "expected"):
        whole = learner_of(tiny_clip)
        whole.fit(examples, 1, silent)
        test_however_often_and_wherever_it_ends.expected = values(whole)
    path = tmp_path_factory.mktemp("run") / "state"
    for end in ends:
        try:
            learner_of(tiny_clip).fit(examples, 1, interrupted_before(end), path)
        except KeyboardInterrupt:
            continue
    last = learner_of(tiny_clip)
    last.fit(examples, 1, silent, path)
    assert_equal(values(last), test_however_often_and_wherever_it_ends.expected)


def test_a_state_that_was_written_between_two_steps_is_enough(tiny_clip, examples, tmp_path, monkeypatch):
    """A process that is killed writes nothing more."""
    whole = learner_of(tiny_clip)
    whole.fit(examples, 1, silent)
    path, write = tmp_path / "state", checkpoints.CheckpointFile.write

    def killed(self, state):
        if state.step > 4:
            raise SystemExit
        write(self, state)

    monkeypatch.setattr(checkpoints.CheckpointFile, "write", killed)
    with pytest.raises(SystemExit):
        learner_of(tiny_clip).fit(examples, 1, silent, path)
    monkeypatch.undo()
    again = learner_of(tiny_clip)
    assert again.fit(examples, 1, silent, path).begun_at_step == 4
    assert_equal(values(again), values(whole))


def test_an_interruption_in_the_middle_of_an_update_writes_nothing(tiny_clip, examples, tmp_path, monkeypatch):
    path, step, calls = tmp_path / "state", torch.optim.AdamW.step, []

    def interrupted(self, *arguments, **keywords):
        calls.append(1)
        step(self, *arguments, **keywords)
        if len(calls) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(torch.optim.AdamW, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        learner_of(tiny_clip).fit(examples, 1, silent, path)
    monkeypatch.undo()
    assert learner_of(tiny_clip).fit(examples, 1, silent, path).begun_at_step == 2


def test_a_finished_run_is_not_run_again(tiny_clip, examples, tmp_path):
    first, again = learner_of(tiny_clip), learner_of(tiny_clip)
    first.fit(examples, 1, silent, tmp_path / "state")
    outcome = again.fit(examples, 1, silent, tmp_path / "state")
    assert (outcome.begun_at_step, outcome.steps) == (STEPS, STEPS)
    assert_equal(values(again), values(first))


def test_a_run_that_had_to_be_cut_smaller_goes_on_with_the_smaller_cuts(tiny_clip, examples, tmp_path, monkeypatch):
    path, seen = tmp_path / "state", []
    accumulate = ExactStep.accumulate

    def small(self, number, *rest):
        if self.passes.images > 2:
            raise torch.OutOfMemoryError("out of memory")
        seen.append(self.passes)
        return accumulate(self, number, *rest)

    monkeypatch.setattr(ExactStep, "accumulate", small)
    with pytest.raises(KeyboardInterrupt):
        learner_of(tiny_clip).fit(examples, 1, interrupted_before(2), path)
    monkeypatch.setattr(ExactStep, "accumulate", lambda self, *rest: (seen.append(self.passes), 1.0)[1])
    learner_of(tiny_clip).fit(examples, 1, silent, path)
    assert set(seen) == {Passes(2, 1)}


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ({"seed": 2}, "seed was 1 and is 2"),
        ({"learning_rate": 2e-2}, "learning-rate was 0.01 and is 0.02"),
        ({"base_steps": 8}, "base-steps was 7 and is 8"),
        ({"prompts": ("a blue", "a green", "a tree")}, "prompts was"),
    ],
)
def test_the_state_of_another_run_is_refused(tiny_clip, examples, tmp_path, chosen, said):
    path = tmp_path / "state"
    learner_of(tiny_clip).fit(examples, 1, silent, path)
    with pytest.raises(
        InputError, match=f"training state .*state is of another run: {said}.*; remove it to begin anew"
    ):
        learner_of(tiny_clip, **chosen).fit(examples, 1, silent, path)


def test_other_images_and_other_frozen_factors_are_another_run(tiny_clip, examples, tmp_path):
    path = tmp_path / "state"
    learner_of(tiny_clip, "lora-xs").fit(examples, 1, silent, path)
    with pytest.raises(InputError, match="images was"):
        learner_of(tiny_clip, "lora-xs").fit(examples.subset(range(8)), 1, silent, path)
    turned = learner_of(tiny_clip, "lora-xs")
    with torch.no_grad():
        for buffer in turned.backbone.model.buffers():
            if buffer.is_floating_point():
                buffer.neg_()
    with pytest.raises(InputError, match="frozen-factors was"):
        turned.fit(examples, 1, silent, path)


def test_how_the_arithmetic_is_cut_up_does_not_make_it_another_run(tiny_clip, examples, tmp_path):
    path = tmp_path / "state"
    learner_of(tiny_clip).fit(examples, 1, silent, path)
    learner_of(tiny_clip, images_per_pass=1, checkpoint_seconds=9.0).fit(examples, 1, silent, path)


def test_damaged_and_foreign_files_are_refused(tiny_clip, examples, tmp_path):
    path = tmp_path / "state"
    learner_of(tiny_clip).fit(examples, 1, silent, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"training state .* is damaged: .*; remove it to begin anew"):
        learner_of(tiny_clip).fit(examples, 1, silent, path)
    save_file({"x": torch.ones(1)}, path)
    with pytest.raises(InputError, match="is of another lowshot"):
        learner_of(tiny_clip).fit(examples, 1, silent, path)


def test_a_diverged_run_leaves_no_state_to_diverge_from_again(tiny_clip, examples, tmp_path):
    path = tmp_path / "state"
    outcome = learner_of(tiny_clip, learning_rate=1e30).fit(examples, 1, silent, path)
    assert outcome.stopped
    assert not path.exists()


def test_slow_writing_is_done_seldom(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(checkpoints, "write_bytes", lambda *_: now.__setitem__(0, now[0] + 10))
    parameter = torch.nn.Parameter(torch.zeros(2))
    state = TrainingState([parameter], torch.optim.AdamW([parameter]), Passes(1, 1))
    file = checkpoints.CheckpointFile(tmp_path / "state", {}, seconds=60)
    due = []
    for second in range(0, 600):
        now[0] = max(now[0], float(second))
        if file.is_due():
            due.append(second)
            file.write(state)
    assert due == [60, 270, 480]  # ten seconds of writing, then twenty times as long without
