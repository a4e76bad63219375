"""Runs side by side: each comes to the end that it would have come to alone."""

import contextvars
import gc
import os
import signal
import threading
import time
import traceback
import weakref

import numpy as np
import pytest
import torch
from greenlet import GreenletExit

from lowshot.data import task_of_arrays
from lowshot.errors import InputError
from lowshot.models import KeptBackbone
from lowshot.progress import silent
from lowshot.settings import preset_recipe
from lowshot.torch_state import own_torch_state
from lowshot.training import create_learner
from lowshot.training.company import Company, member_here, working_seconds
from lowshot.training.run import BESIDE_OTHERS

from .steps import PROMPTS, Losses


def examples(seed, per_class=3):
    images = np.random.default_rng(seed).integers(0, 256, (per_class * len(PROMPTS), 16, 16, 3), dtype=np.uint8)
    return task_of_arrays(images, np.arange(len(images)) % len(PROMPTS)).train


class Runs:
    """Runs on one model, each with its own seed, and what came of them."""

    def __init__(self, model, folder=None):
        self.model, self.folder, self.load = str(model), folder, KeptBackbone().load
        self.learners, self.losses, self.outcomes = {}, {}, {}

    def work(self, run, steps=4, report=None, **chosen):
        def fit():
            settings = {"rank": 2, "dropout": 0.25, "precision": "fp32", "seed": run, "batch_size": 8, **chosen}
            method = settings.pop("method", "lora")
            recipe = preset_recipe("paper", method).replace(
                model=self.model, base_steps=steps, steps_per_shot=0, **settings
            )
            learner = create_learner(self.load(self.model, "cpu"), PROMPTS, recipe)
            self.learners[run], self.losses[run] = learner, report or Losses()
            file = None if self.folder is None else self.folder / f"{run}.safetensors"
            self.outcomes[run] = learner.fit(examples(run), 3, silent, file, report=self.losses[run])
            return run

        return fit

    def parameters(self, run):
        return [parameter.detach().clone() for parameter in self.learners[run].parameters]


def assert_same_runs(together, alone, runs):
    for run in runs:
        assert together.outcomes[run].steps == alone.outcomes[run].steps
        assert together.losses[run].all == pytest.approx(alone.losses[run].all, rel=1e-5)
        for one, other in zip(together.parameters(run), alone.parameters(run), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def alone(model, runs, **chosen):
    each = Runs(model)
    for run, settings in runs.items():
        each.work(run, **{**settings, **chosen})()
    return each


@pytest.mark.parametrize("method", ["lora", "lora-xs"])
def test_runs_learn_what_each_learns_alone_whatever_their_length(tiny_clip, method):
    runs = {1: {"steps": 4}, 2: {"steps": 2}, 3: {"steps": 5, "learning_rate": 1e-2}, 4: {"steps": 3, "alpha": 3.0}}
    together = Runs(tiny_clip)
    works = [together.work(run, method=method, **settings) for run, settings in runs.items()]
    assert set(Company(3).results(works)) == set(runs)
    assert_same_runs(together, alone(tiny_clip, runs, method=method), runs)
    assert all(together.outcomes[run].notes == (BESIDE_OTHERS,) for run in runs)


def test_methods_and_shapes_that_do_not_fit_together_learn_as_alone(tiny_clip):
    runs = {1: {}, 2: {"method": "dora"}, 3: {"rank": 4}, 4: {"encoder": "vision"}, 5: {}, 6: {"method": "layernorm"}}
    together = Runs(tiny_clip)
    set(Company(6).results(together.work(run, **settings) for run, settings in runs.items()))
    assert_same_runs(together, alone(tiny_clip, runs), runs)


def test_one_of_them_diverges_and_the_others_do_not_notice(tiny_clip):
    class Spoiling(Losses):
        def step(self, taken):
            super().step(taken)
            if taken.step == 2:
                with torch.no_grad():
                    together.learners[2].parameters[0].fill_(float("nan"))

    together = Runs(tiny_clip)
    list(Company(3).results([together.work(1), together.work(2, report=Spoiling()), together.work(3)]))
    assert together.outcomes[2].stopped.startswith("training diverged at step 3")
    assert_same_runs(together, alone(tiny_clip, {1: {}, 3: {}}), (1, 3))


def test_float16_has_a_scale_for_each_run(tiny_clip):
    runs = {1: {}, 2: {}}
    together = Runs(tiny_clip)
    list(Company(2).results(together.work(run, precision="fp16", dropout=0.0) for run in runs))
    one = alone(tiny_clip, runs, precision="fp16", dropout=0.0)
    for run in runs:
        assert together.losses[run].all == pytest.approx(one.losses[run].all, rel=0.02)


def test_frozen_weights_are_in_memory_once(tiny_clip):
    together = Runs(tiny_clip)
    list(Company(3).results(together.work(run, steps=1) for run in (1, 2, 3)))
    first, *others = (together.learners[run].backbone.model for run in (1, 2, 3))
    for model in others:
        for one, other in zip(first.parameters(), model.parameters(), strict=True):
            assert one.requires_grad == (one.data_ptr() != other.data_ptr())


def test_where_memory_runs_out_less_is_computed_at_once(tiny_clip, monkeypatch):
    from lowshot.models import Backbone

    encode, asked = Backbone.encode_images, []

    def small(self, images):
        asked.append(len(images))
        if len(images) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return encode(self, images)

    monkeypatch.setattr(Backbone, "encode_images", small)
    runs, together = {1: {}, 2: {}}, Runs(tiny_clip)
    list(Company(2).results(together.work(run) for run in runs))
    assert {16, 8, 4} <= set(asked)
    monkeypatch.setattr(Backbone, "encode_images", encode)
    assert_same_runs(together, alone(tiny_clip, runs), runs)


def test_no_more_of_them_than_fit_into_the_passes_that_are_asked_for(tiny_clip, monkeypatch):
    from lowshot.training import joined

    widths = []

    class Watched(joined.JointStep):
        def gradients(self, batches):
            widths.append(len(batches))
            return super().gradients(batches)

    monkeypatch.setattr(joined, "JointStep", Watched)
    runs, together = {run: {"images_per_pass": 2} for run in range(5)}, Runs(tiny_clip)
    list(Company(5).results(together.work(run, **settings) for run, settings in runs.items()))
    assert set(widths) == {2}
    assert_same_runs(together, alone(tiny_clip, runs), runs)


def test_an_error_of_one_ends_the_others_which_go_on_from_their_states(tiny_clip, tmp_path):
    class Failing(Losses):
        def step(self, taken):
            if taken.step == 3:
                raise InputError("no more")
            super().step(taken)

    together = Runs(tiny_clip, tmp_path)
    with pytest.raises(InputError, match="no more"):
        list(Company(3).results([together.work(1), together.work(2, report=Failing()), together.work(3)]))
    assert not together.outcomes
    again = Runs(tiny_clip, tmp_path)
    list(Company(3).results(again.work(run) for run in (1, 2, 3)))
    assert {outcome.begun_at_step for outcome in again.outcomes.values()} <= {2, 3}
    assert_same_runs(again, alone(tiny_clip, {1: {}, 3: {}}), (1, 3))


def test_whoever_stops_asking_ends_what_is_under_way(tiny_clip, tmp_path):
    together = Runs(tiny_clip, tmp_path)
    results = Company(2).results([together.work(1, steps=1), together.work(2, steps=9), together.work(3)])
    assert next(results) == 1
    results.close()
    assert set(together.outcomes) == {1}
    assert (tmp_path / "2.safetensors").exists()


def test_a_work_that_hands_over_never_is_done_before_the_next_begins():
    begun = []

    def work(number):
        begun.append(number)
        time.sleep(0.001)
        assert begun[-1] == number
        return number

    assert list(Company(3).results(lambda number=number: work(number) for number in range(7))) == list(range(7))


@pytest.fixture
def interruptible():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_arrives_in_the_run_that_works_and_the_others_end_where_they_handed_over(interruptible):
    ends, begun = {}, []

    def work(name):
        begun.append(name)
        try:
            member_here().hand_over()
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        except BaseException as error:
            ends[name] = type(error)
            raise

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt) as caught:
        list(Company(3).results([lambda: work("one"), lambda: work("two"), lambda: work("three")]))
    assert ends == {"one": KeyboardInterrupt, "two": GreenletExit, "three": GreenletExit}
    assert time.monotonic() - started < 4
    assert "work" in [frame.name for frame in traceback.extract_tb(caught.tb)]


def test_ctrl_c_while_the_others_are_ended_ends_all_the_same(interruptible):
    ended = []

    def work(name):
        try:
            member_here().hand_over()
            raise InputError(name)
        except GreenletExit:
            if name == "three":
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(5)
            raise
        finally:
            ended.append(name)

    with pytest.raises(KeyboardInterrupt):
        list(Company(4).results(lambda name=name: work(name) for name in ("one", "two", "three", "four")))
    assert sorted(ended) == ["four", "one", "three", "two"]


def test_a_work_that_has_not_begun_when_another_fails_never_does():
    begun = []

    def failing():
        raise InputError("no")

    with pytest.raises(InputError):
        list(Company(2).results([failing, lambda: begun.append(1)]))
    assert not begun


def test_runs_and_whoever_asks_are_on_one_thread():
    for most in (1, 3):
        assert list(Company(most).results([threading.current_thread] * 3)) == [threading.current_thread()] * 3


def test_what_torch_keeps_for_the_thread_reaches_no_other_run_nor_whoever_asks():
    seen = []

    def state():
        return torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")

    def work(turns):
        def run():
            with own_torch_state():
                for _ in range(turns):
                    member_here().hand_over()
                    seen.append((state(), torch.get_default_dtype(), torch.zeros(1).device.type))
            return turns

        return run

    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16), torch.device("meta"):
            before = (state(), torch.get_default_dtype(), torch.zeros(1).device.type)
            for _ in Company(3).results(work(turns) for turns in (3, 1, 2, 4)):
                assert (state(), torch.zeros(1).device.type) == (before[0], before[2])  # the type is the process's
            assert (state(), torch.get_default_dtype(), torch.zeros(1).device.type) == before
    finally:
        torch.set_default_dtype(default)
    assert set(seen) == {((True, False, False), torch.float32, "cpu")}
    assert len(seen) == 10


def test_each_run_has_the_callers_context_and_changes_its_own():
    variable = contextvars.ContextVar("variable", default="nobody's")
    variable.set("the caller's")

    def work(number):
        before = variable.get()
        variable.set(number)
        member_here().hand_over()
        return before, variable.get()

    results = list(Company(2).results(lambda number=number: work(number) for number in range(3)))
    assert sorted(results) == [("the caller's", number) for number in range(3)]
    assert variable.get() == "the caller's"
    assert member_here() is None


def test_runs_may_have_companies_of_their_own():
    def inner(name):
        member_here().hand_over()
        return name

    def outer(number):
        member, names = member_here(), []
        for name in Company(2).results(lambda name=name: inner(name) for name in ("a", "b")):
            names.append(name)
            assert member_here() is member
        member.hand_over()
        return number, names

    assert sorted(Company(2).results([lambda: outer(1), lambda: outer(2)])) == [(1, ["a", "b"]), (2, ["a", "b"])]


def test_a_run_that_has_ended_is_let_go_of_though_others_go_on():
    class Model:
        pass

    models = []

    def work(turns):
        model = Model()
        models.append(weakref.ref(model))
        for _ in range(turns):
            member_here().hand_over()

    gc.disable()
    try:
        results = Company(2).results([lambda: work(1), lambda: work(5)])
        next(results)
        assert [model() is None for model in models] == [True, False]
        results.close()
        assert models[1]() is None
    finally:
        gc.enable()


def test_works_are_asked_for_when_there_is_room():
    asked = []

    def works():
        for number in range(4):
            asked.append(number)
            yield lambda number=number: number

    results = Company(2).results(works())
    assert next(results) == 0
    assert asked == [0, 1]


def test_the_clock_of_each_counts_its_share(tiny_clip):
    together, seconds = Runs(tiny_clip), {}

    def timed(run):
        work = together.work(run)

        def fit():
            started = working_seconds()
            work()
            seconds[run] = working_seconds() - started

        return fit

    started = time.perf_counter()
    list(Company(3).results(timed(run) for run in (1, 2, 3)))
    assert sum(seconds.values()) <= time.perf_counter() - started
    assert all(0 < together.outcomes[run].seconds < seconds[run] for run in (1, 2, 3))


def test_one_at_a_time_is_a_run_as_it_always_was(tiny_clip):
    by_itself, before = Runs(tiny_clip), alone(tiny_clip, {1: {}})
    list(Company(1).results([by_itself.work(1)]))
    assert by_itself.outcomes[1].notes == ()
    assert by_itself.losses[1].all == before.losses[1].all
