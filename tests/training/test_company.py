"""Runs side by side: each comes to the end that it would have come to alone."""

import os
import signal
import threading
import time

import numpy as np
import pytest
import torch

from lowshot.data import task_of_arrays
from lowshot.errors import InputError
from lowshot.models import KeptBackbone
from lowshot.progress import silent
from lowshot.settings import preset_recipe
from lowshot.training import create_learner
from lowshot.training.company import THREADS, Abandoned, Company, working_seconds
from lowshot.training.run import BESIDE_OTHERS

from .steps import PROMPTS, Losses


def examples(seed, per_class=3):
    images = np.random.default_rng(seed).integers(0, 256, (per_class * len(PROMPTS), 16, 16, 3), dtype=np.uint8)
    return task_of_arrays(images, np.arange(len(images)) % len(PROMPTS), PROMPTS).train


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
    assert not [thread for thread in threading.enumerate() if thread.name == THREADS]


def test_a_work_that_hands_over_never_is_done_before_the_next_begins():
    begun = []

    def work(number):
        begun.append(number)
        time.sleep(0.001)
        assert begun[-1] == number
        return number

    assert list(Company(3).results(lambda number=number: work(number) for number in range(7))) == list(range(7))


def test_a_work_that_never_hands_over_ends_too_where_the_process_is_interrupted():
    seen, company = [], Company(2)

    def work():
        for number in company.watched(silent)(range(10_000), what="waiting", total=10_000):
            seen.append(number)
            if number == 3:
                os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.001)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            list(company.results([work, work]))
    finally:
        signal.signal(signal.SIGINT, before)
    assert 3 in seen and len(seen) < 5_000


def test_one_at_a_time_has_no_thread_of_its_own():
    assert list(Company(1).results([threading.current_thread] * 2)) == [threading.current_thread()] * 2


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


def test_abandoned_is_no_error_that_a_run_may_catch():
    assert not issubclass(Abandoned, Exception)
