"""What a tracker is told, and that no tracker can cost a run anything."""

import gc
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowshot import FewShotClassifier, Recipe
from lowshot.bench.grid import Cell
from lowshot.classifier import learning
from lowshot.cli import main
from lowshot.data import task_of_arrays
from lowshot.errors import DataError, InputError, MissingExtraError, RunError, UnknownNameError
from lowshot.progress import StepTaken
from lowshot.settings import SETTINGS
from lowshot.tracking import Tracking, refuse_missing_tracker
from lowshot.tracking.figures import measures_of, settings_of
from lowshot.tracking.tracker import TrackedRun, as_key
from refusing import assert_states, refused

COLOURS = ("blue", "green", "red")
STEPS = 24


def pictures(count=12):
    generator = np.random.default_rng(0)
    images = generator.integers(0, 60, (count, 20, 20, 3), dtype=np.uint8)
    for index, image in enumerate(images):
        image[..., index % 3] += 150
    return list(images), [COLOURS[::-1][index % 3] for index in range(count)]


@pytest.fixture
def quick(tiny_clip):
    """Settings of 24 steps on a tiny CLIP, reported every tenth."""
    return {
        "model": str(tiny_clip),
        "rank": 4,
        "steps_per_shot": 0,
        "base_steps": STEPS,
        "batch_size": 5,
        "learning_rate": 1e-2,
        "report_to": "tensorboard",
    }


def step_of(number, loss, steps=STEPS):
    return StepTaken(number, steps, loss, 0.1, 5 * number, 0.5)


def interrupted_before(step):
    def track(items, *, what, total):
        for number, item in enumerate(items):
            if what.startswith("training") and number == step:
                raise KeyboardInterrupt
            yield item

    return track


# What is told.


def test_a_report_is_the_mean_over_the_steps_since_the_last(told):
    tracking = Tracking("tensorboard", 4)
    tracking.begin("run", [])
    for number in range(1, 11):
        tracking.step(step_of(number, float(number), steps=10))
    assert told.curve("train/loss") == [(4, 2.5), (8, 6.5), (10, 9.5)]
    assert told.curve("train/images") == [(4, 20), (8, 40), (10, 50)]
    assert told.curve("train/step_seconds") == [(4, 0.5), (8, 0.5), (10, 0.5)]
    assert told.curve("train/learning_rate") == [(4, 0.1), (8, 0.1), (10, 0.1)]


def curve_of(losses, every, cuts=()):
    """The reported losses of a run that was interrupted after each of these steps."""
    points = {}
    starts = [0, *sorted(cuts)]
    for start, end in zip(starts, [*sorted(cuts), len(losses)], strict=True):
        tracking = Tracking("none", every)
        tracking._log = lambda values, step: points.__setitem__(step, values["train/loss"])
        tracking.begin("run", losses[:start])
        for number in range(start, end):
            tracking.step(step_of(number + 1, losses[number], steps=len(losses)))
    return points


@given(losses=st.lists(st.floats(0, 10), min_size=1, max_size=40), every=st.integers(1, 12), data=st.data())
def test_the_curve_is_the_same_wherever_the_run_was_interrupted(losses, every, data):
    cuts = data.draw(st.lists(st.integers(0, len(losses)), max_size=3))
    assert curve_of(losses, every, cuts) == curve_of(losses, every)


def test_a_fit_tells_settings_course_costs_and_measures(told, quick):
    classifier = FewShotClassifier(method="lora", **quick).fit(*pictures(), shots=2)
    assert told.closed == []  # it is still to be judged
    images, labels = pictures(30)
    classifier.evaluate(task_of_arrays(images, labels))
    [run] = told.opened
    assert run.name == f"lora on {classifier.record_.task}, 2 shots, seed 1"
    assert run.settings["rank"] == 4
    assert run.settings["shots"] == 2
    assert run.settings["images"] == 6
    assert run.settings["precision"] == "fp32"  # resolved, not `auto`
    assert [step for step, _ in told.curve("train/loss")] == [10, 20, STEPS]
    record = classifier.record_
    assert told.curve("train/images")[-1] == (STEPS, STEPS // 2 * (5 + 1))  # six images in batches of five and of one
    assert told.curve("train/final_loss") == [(STEPS, record.final_loss)]
    assert told.curve("cost/peak_memory_bytes") == [(STEPS, record.peak_memory_bytes)]
    assert told.curve("cost/trainable_parameters") == [(STEPS, record.trainable_parameters)]
    assert told.curve("eval/acc1") == [(STEPS, record.metrics["acc1"])]
    assert told.curve("cost/evaluation_seconds")[-1] == (STEPS, record.evaluation_seconds)
    assert told.closed == [False]


def test_how_often_is_a_setting(told, quick):
    FewShotClassifier(method="lora", **quick, logging_steps=7).fit(*pictures())
    assert [step for step, _ in told.curve("train/loss")] == [7, 14, 21, STEPS]


def test_nothing_is_told_where_nobody_asked(told, quick):
    FewShotClassifier(method="lora", **{**quick, "report_to": "none"}).fit(*pictures())
    assert told.opened == []


def test_a_run_that_goes_on_is_the_same_run_with_the_same_curve(told, quick, tmp_path):
    FewShotClassifier(method="lora", **quick).fit(*pictures(), checkpoint=tmp_path / "whole")
    whole, told.logged[:] = dict(told.curve("train/loss")), []
    with pytest.raises(KeyboardInterrupt):
        FewShotClassifier(method="lora", **quick).fit(
            *pictures(), checkpoint=tmp_path / "state", track=interrupted_before(13)
        )
    assert told.closed[-1] is True
    assert dict(told.curve("train/loss")) == {10: whole[10]}
    FewShotClassifier(method="lora", **quick).fit(*pictures(), checkpoint=tmp_path / "state")
    before, after = told.opened[-2:]
    assert (before.id, before.step, after.id, after.step) == (before.id, 0, before.id, 13)
    assert told.opened[0].id != before.id
    assert dict(told.curve("train/loss")) == whole
    assert told.curve("train/images")[-1][1] == STEPS // 3 * 12  # twelve images in three batches, those before counted


def test_the_folds_of_a_calibration_are_no_part_of_the_curve(told, quick):
    FewShotClassifier(method="lora", **quick, calibration_folds=2).fit(*pictures())
    assert len(told.opened) == 1
    assert [step for step, _ in told.curve("train/loss")] == [10, 20, STEPS]


def test_a_method_that_takes_no_steps_has_measures_all_the_same(told, tiny_clip):
    classifier = FewShotClassifier(str(tiny_clip), method="zero-shot", report_to="tensorboard")
    metrics = classifier.fit(*pictures()).evaluate(task_of_arrays(*pictures(30)))
    assert told.curve("eval/acc1") == [(0, metrics["acc1"])]
    assert told.curve("train/loss") == []


def test_an_early_end_is_told_to_its_last_step(told, quick):
    classifier = FewShotClassifier(method="lora", **{**quick, "learning_rate": 1e30})
    with refused(RunError, "diverged"):
        classifier.fit(*pictures())
    assert told.curve("train/loss")
    assert told.curve("cost/train_seconds")[0][0] == classifier.record_.steps
    with pytest.raises(DataError):
        classifier.evaluate(task_of_arrays(*pictures()))
    assert told.closed == [True]


def test_of_several_processes_only_the_first_tells(told, quick, monkeypatch):
    monkeypatch.setattr(learning, "is_first_process", lambda: False)
    FewShotClassifier(method="lora", **quick).fit(*pictures())
    assert told.opened == []


def test_a_run_that_is_never_judged_ends_with_its_classifier(told, quick):
    classifier = FewShotClassifier(method="lora", **quick).fit(*pictures())
    del classifier
    gc.collect()
    assert told.closed == [False]


def test_learning_anew_ends_the_run_before(told, quick):
    classifier = FewShotClassifier(method="lora", **quick)
    classifier.fit(*pictures()).fit(*pictures())
    assert len({run.id for run in told.opened}) == 2
    assert told.closed == [False]


# That it costs nothing.


@pytest.mark.parametrize("where", ["open", "log", "close"])
def test_a_tracker_that_fails_is_one_warning_and_changes_nothing(told, quick, where):
    told.fails_in = where
    classifier = FewShotClassifier(method="lora", **quick).fit(*pictures())
    unseen = task_of_arrays(*pictures(30))
    assert classifier.evaluate(unseen)["acc1"] > 0.5
    step = {"open": 0, "log": 10, "close": STEPS}[where]
    assert classifier.warnings_ == [
        f"tensorboard failed at step {step} and was told nothing more; the run went on without it: "
        "No space left on device"
    ]
    plain = FewShotClassifier(method="lora", **{**quick, "report_to": "none"}).fit(*pictures())
    images = pictures(6)[0]
    assert np.array_equal(classifier.predict_proba(images), plain.predict_proba(images))


def test_a_package_that_cannot_be_imported_is_a_warning(quick, monkeypatch):
    monkeypatch.setitem(sys.modules, "lowshot.tracking.tensorboard", None)
    classifier = FewShotClassifier(method="lora", **quick).fit(*pictures())
    assert len(classifier.warnings_) == 1
    assert classifier.warnings_[0].startswith("tensorboard failed at step 0")


def test_a_missing_package_is_said_before_anything_is_read(monkeypatch, quick, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with refused(MissingExtraError, "report-to wandb", "package wandb", "pip install", "wandb>"):
        FewShotClassifier(method="lora", **{**quick, "report_to": "wandb"}).fit(tmp_path / "nowhere")


def test_the_folder_that_a_tracker_writes_is_not_its_package(monkeypatch, tmp_path):
    """Weights & Biases writes ./wandb, which Python would import."""
    (tmp_path / "wandb").mkdir()
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(MissingExtraError):
        refuse_missing_tracker("wandb")


def test_nothing_of_a_tracker_is_imported_before_a_run_reports_to_it():
    imported = "{'accelerate', 'tensorboard', 'wandb', 'mlflow', 'trackio'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", f"import sys, lowshot.tracking; sys.exit(bool({imported}))"])
    assert done.returncode == 0


# Names and values.


def test_a_tracker_that_is_misspelt_is_guessed(capsys):
    with refused(UnknownNameError, "tracker 'tensorbord'", "did you mean tensorboard"):
        Recipe().replace(report_to="tensorbord")
    assert main(["fit", "digits", "--out", "nowhere", "--report-to", "mlfow"]) == 2
    assert_states(capsys.readouterr().err, "tracker 'mlfow'", "did you mean mlflow")


def test_reports_are_one_or_more_steps_apart():
    with refused(InputError, "logging-steps", 0, "1 or more"):
        Recipe().replace(logging_steps=0)


def test_who_is_told_makes_no_other_run():
    cell = Cell("letters", Recipe().replace(report_to="wandb", logging_steps=3))
    assert cell.key == Cell("letters", Recipe()).key


def test_settings_are_single_values():
    settings = settings_of(Recipe().replace(template=["{}.", "a {}."], shots=4), task="digits")
    assert {type(value) for value in settings.values()} <= {str, int, float, bool}
    assert (settings["template"], settings["shots"], settings["task"]) == ("{}. a {}.", 4, "digits")
    unset = {name for name, value in Recipe().settings().items() if value is None} - {"shots"}
    assert set(settings) == {*SETTINGS, "task"} - unset


def test_measures_are_the_numbers_with_names_that_every_tracker_takes(tiny_clip):
    record = FewShotClassifier(str(tiny_clip), method="zero-shot").fit(*pictures()).record_
    metrics = {
        "acc1": 0.5,
        "images": 3,
        "split": "test",
        "class_recall": [0.1, 0.9],
        "nll": float("nan"),
        "others": {"/data/new ones": {"acc1": 0.25}},
    }
    assert measures_of(type(record).from_dict({**record.to_dict(), "metrics": metrics})) == {
        "eval/acc1": 0.5,
        "eval/images": 3.0,
        "eval/others/data-new-ones/acc1": 0.25,
    }


@given(text=st.text(max_size=30))
def test_a_key_is_a_file_name(text):
    key = as_key(text)
    assert key
    assert not set(key) & set("/\\ :") and key.strip(".") == key
    assert key in TrackedRun("0" * 32, text, {}).file_name
