"""A run that ends anywhere and is taken up again is the run that was never interrupted, bit for bit."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from lowshot.data import task_of_arrays
from lowshot.errors import DataError, InputError, OutputError
from lowshot.methods import method_spec
from lowshot.models import load_backbone
from lowshot.progress import silent
from lowshot.settings import preset_recipe
from lowshot.training import checkpoints, create_learner, weights
from lowshot.training.run import run_facts
from lowshot.training.state import TrainingState
from lowshot.training.step import ExactStep, Passes
from refusing import refused

from .steps import interrupted_before

STEPS = 5
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
        ("clip-svd", {}),
        ("lora", {"rank_by_depth": "increasing"}),
        ("peft:loha", {"peft": ("module_dropout=0.5",)}),  # draws from torch's own generator
        ("lora", {"views": 2, "encoder": "text"}),
        ("lora", {"precision": "fp16"}),
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


@pytest.fixture(scope="module")
def uninterrupted(tiny_clip, examples):
    """The values that a whole run ends with."""
    learner = learner_of(tiny_clip)
    learner.fit(examples, 1, silent)
    return values(learner)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=8)
@given(ends=st.lists(st.integers(0, STEPS), max_size=3))
def test_however_often_and_wherever_it_ends(tiny_clip, examples, tmp_path_factory, uninterrupted, ends):
    path = tmp_path_factory.mktemp("run") / "state"
    for end in ends:
        try:
            learner_of(tiny_clip).fit(examples, 1, interrupted_before(end), path)
        except KeyboardInterrupt:
            continue
    last = learner_of(tiny_clip)
    last.fit(examples, 1, silent, path)
    assert_equal(values(last), uninterrupted)


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
    gradients = ExactStep.gradients

    def small(self, batch):
        if self.passes.images > 2:
            raise torch.OutOfMemoryError("out of memory")
        seen.append(self.passes)
        return gradients(self, batch)

    monkeypatch.setattr(ExactStep, "gradients", small)
    with pytest.raises(KeyboardInterrupt):
        learner_of(tiny_clip).fit(examples, 1, interrupted_before(2), path)
    monkeypatch.setattr(ExactStep, "gradients", lambda self, batch: (seen.append(self.passes), torch.ones(()))[1])
    learner_of(tiny_clip).fit(examples, 1, silent, path)
    assert set(seen) == {Passes(2, 1)}


@pytest.mark.parametrize(
    ("chosen", "facts"),
    [
        ({"seed": 2}, ("seed was 1", 2)),
        ({"learning_rate": 2e-2}, ("learning-rate was 0.01", 0.02)),
        ({"base_steps": 8}, ("base-steps was 5", 8)),
        ({"prompts": ("a blue", "a green", "a tree")}, ("prompts",)),
    ],
)
def test_the_state_of_another_run_is_refused(tiny_clip, examples, tmp_path, chosen, facts):
    path = tmp_path / "state"
    learner_of(tiny_clip).fit(examples, 1, silent, path)
    with refused(InputError, "of another run", path, *facts):
        learner_of(tiny_clip, **chosen).fit(examples, 1, silent, path)


@pytest.mark.parametrize(("here", "goes_on"), [("auto", True), ("fp32", False)])
def test_the_state_of_a_run_older_than_a_setting_is_of_one_with_its_default(
    tiny_clip, examples, tmp_path, here, goes_on
):
    path = tmp_path / "state"
    older = learner_of(tiny_clip)

    def before_it(*run):
        return {name: fact for name, fact in run_facts(*run).items() if name != "adapter_precision"}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weights, "run_facts", before_it)
        older.fit(examples, 1, silent, path)
    younger = learner_of(tiny_clip, adapter_precision=here)
    if goes_on:
        younger.fit(examples, 1, silent, path)
        assert_equal(values(younger), values(older))
    else:
        with refused(InputError, "adapter-precision", '"auto"', '"fp32"'):
            younger.fit(examples, 1, silent, path)


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


def test_cuts_that_are_asked_for_anew_are_obeyed(tiny_clip, examples, tmp_path, monkeypatch):
    path, seen, gradients = tmp_path / "state", [], ExactStep.gradients
    with pytest.raises(KeyboardInterrupt):
        learner_of(tiny_clip).fit(examples, 1, interrupted_before(3), path)
    monkeypatch.setattr(
        ExactStep, "gradients", lambda self, batch: (seen.append(self.passes), gradients(self, batch))[1]
    )
    learner_of(tiny_clip, images_per_pass=1, checkpoint_seconds=9.0).fit(examples, 1, silent, path)
    assert {passes.images for passes in seen} == {1}
    assert len(seen) == STEPS - 3


def test_images_that_show_something_else_are_another_run(tiny_clip, examples, tmp_path):
    path = tmp_path / "state"
    learner_of(tiny_clip).fit(examples, 1, silent, path, ["a"] * 9)
    with pytest.raises(InputError, match="image-contents was"):
        learner_of(tiny_clip).fit(examples, 1, silent, path, ["a"] * 8 + ["b"])


def test_a_run_interrupted_after_a_ruinous_update_still_knows_its_last_good_weights(tiny_clip, examples, tmp_path):
    path, ruinous = tmp_path / "state", {"learning_rate": 1e30}
    whole, again = learner_of(tiny_clip, **ruinous), learner_of(tiny_clip, **ruinous)
    expected = whole.fit(examples, 1, silent)
    with pytest.raises(KeyboardInterrupt):
        learner_of(tiny_clip, **ruinous).fit(examples, 1, interrupted_before(1), path)
    outcome = again.fit(examples, 1, silent, path)
    assert (outcome.stopped, outcome.steps) == (expected.stopped, expected.steps)
    assert_equal(values(again), values(whole))


def test_a_state_that_cannot_be_written_costs_no_training(tiny_clip, examples, tmp_path, uninterrupted, monkeypatch):
    def full(*_):
        raise OutputError("output state cannot be written: No space left on device")

    monkeypatch.setattr(checkpoints, "write_bytes", full)
    learner = learner_of(tiny_clip)
    outcome = learner.fit(examples, 1, silent, tmp_path / "state")
    assert outcome.unwritten == (
        "the state of training was not written: output state cannot be written: No space left on device"
    )
    assert_equal(values(learner), uninterrupted)


def test_whatever_interrupts_a_run_its_state_is_written(tiny_clip, examples, tmp_path):
    def vanished(items, *, what, total):
        for number, item in enumerate(items):
            if number == 2:
                raise DataError("a.jpg does not exist")
            yield item

    path = tmp_path / "state"
    with pytest.raises(DataError):
        learner_of(tiny_clip, checkpoint_seconds=1000.0).fit(examples, 1, vanished, path)
    assert learner_of(tiny_clip).fit(examples, 1, silent, path).begun_at_step == 2


def test_the_states_of_an_optimizer_in_8_bits_are_written_too(tmp_path):
    optimizers = pytest.importorskip("bitsandbytes.optim")
    generator = torch.Generator().manual_seed(0)

    def state():
        parameter = torch.nn.Parameter(torch.ones(4096 * 2))
        return TrainingState([parameter], optimizers.PagedAdamW8bit([parameter]), Passes(1, 1))

    before, after = state(), state()
    moments = {"step": 3, "state1": torch.randint(0, 255, (8192,), dtype=torch.uint8, generator=generator)}
    before.optimizer.state[before.parameters[0]].update(moments)
    file = checkpoints.CheckpointFile(tmp_path / "state", {}, seconds=0)
    file.write(before)
    file.read_into(after)
    found = after.optimizer.state[after.parameters[0]]
    assert found["step"] == 3
    assert torch.equal(found["state1"], moments["state1"])


def test_a_folder_is_no_state(tiny_clip, examples, tmp_path):
    with refused(InputError, tmp_path, "is a folder"):
        learner_of(tiny_clip).fit(examples, 1, silent, tmp_path)


def test_where_nothing_is_trained_a_state_is_another_runs(tiny_clip, examples, tmp_path):
    path = tmp_path / "state"
    learner_of(tiny_clip).fit(examples, 1, silent, path)
    recipe = preset_recipe("paper", "zero-shot").replace(model=str(tiny_clip))
    with refused(InputError, path, "of another run", "zero-shot"):
        create_learner(load_backbone(str(tiny_clip)), PROMPTS, recipe).fit(examples, 1, silent, path)


def test_damaged_and_foreign_files_are_refused(tiny_clip, examples, tmp_path):
    path = tmp_path / "state"
    learner_of(tiny_clip).fit(examples, 1, silent, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with refused(InputError, path, "is damaged"):
        learner_of(tiny_clip).fit(examples, 1, silent, path)
    save_file({"x": torch.ones(1)}, path)
    with pytest.raises(InputError, match="is of another lowshot"):
        learner_of(tiny_clip).fit(examples, 1, silent, path)
    save_file({"x": torch.ones(1)}, path, metadata={"format": "1", "facts": "{}"})
    with pytest.raises(InputError, match="is damaged: 'belongs_to'"):
        learner_of(tiny_clip).fit(examples, 1, silent, path)


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
