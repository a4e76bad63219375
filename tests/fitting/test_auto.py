"""``--method auto``: chosen by the shots, within the time, and by nothing else."""

import json
import re
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowshot import FewShotClassifier
from lowshot.cli import main
from lowshot.data import Examples, MemoryImages, Task
from lowshot.errors import DataError, InputError
from lowshot.fitting import auto, fit, lesson_of, trials
from lowshot.fitting.auto import CANDIDATES, concrete, decided, gain_of, preset_of
from lowshot.fitting.trials import Trial, Trials
from lowshot.models import Backbone
from lowshot.progress import silent
from lowshot.records import RunRecord
from lowshot.settings import Recipe, preset_recipe
from refusing import refused

COLOURS = ("blue", "green", "red")


def pictures(of_each, seed=0):
    """Plain colours with noise, ``of_each`` of every class."""
    generator = np.random.default_rng(seed)
    labels = np.tile(np.arange(3), of_each)
    pixels = generator.integers(0, 60, (len(labels), 20, 20, 3), dtype=np.uint8)
    for row, label in enumerate(labels):
        pixels[row, ..., 2 - label] += 180
    return Examples(MemoryImages(pixels), labels, tuple(f"{seed} {row}" for row in range(len(labels))))


class Untouchable:
    """Images that nobody may look at."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        raise AssertionError("a test image was looked at")


def task(of_each):
    hidden = Examples(Untouchable(), np.arange(3), tuple("abc"))
    return Task("colours", COLOURS, train=pictures(of_each), validation=hidden, test=hidden)


@pytest.fixture
def quick(monkeypatch):
    """The built-in model without its longest candidate, unless a test asks for it."""
    monkeypatch.setattr(auto, "CANDIDATES", ("task-res", "proker", "gda"))


def tried(classifier):
    return {trial["method"]: trial for trial in classifier.record_.choice["tried"]}


# -- the rule ----------------------------------------------------------------------------------------------------------


def trial(method, right):
    return Trial(method, dict(enumerate(right)))


ANSWERS = st.lists(st.booleans(), min_size=8, max_size=8)


@given(st.lists(ANSWERS, min_size=1, max_size=4), ANSWERS)
def test_what_is_taken_is_not_worse_than_zero_shot_by_more_than_a_standard_error(answers, of_zero):
    found = [trial(name, right) for name, right in zip(CANDIDATES, answers, strict=False)]
    zero = trial("zero-shot", of_zero)
    method, why = decided(found, zero)
    taken = {one.method: one for one in (*found, zero)}[method]
    gain, error = gain_of(taken, zero)
    assert method == "zero-shot" or gain >= -error
    assert why


@given(ANSWERS, ANSWERS)
def test_the_first_is_taken_unless_the_second_is_better_by_more_than_a_standard_error(first, second):
    one, other = trial("lora", first), trial("proker", second)
    nothing = trial("zero-shot", [False] * 8)
    apart = np.array(second, float) - np.array(first, float)
    better = apart.mean() > apart.std(ddof=1) / np.sqrt(8)
    best = other if better else one
    assert decided([one, other], nothing)[0] == best.method


@pytest.mark.parametrize(("images", "taken"), [(auto.FEW - 1, "lora"), (auto.FEW, "zero-shot")])
def test_no_better_than_zero_shot_is_a_reason_to_learn_nothing_on_many_images_only(images, taken):
    right = [row % 2 == 0 for row in range(images)]
    assert decided([trial("lora", right)], trial("zero-shot", right))[0] == taken


def test_worse_by_more_than_a_standard_error_is_a_reason_on_few_too():
    worse, zero = trial("lora", [True, False, False, False]), trial("zero-shot", [True] * 4)
    assert decided([worse], zero) == ("zero-shot", "nothing was better: lora by -75.0 points")


def test_candidates_are_compared_on_the_images_that_both_have_judged():
    half = Trial("lora", {0: True, 1: True})
    whole = trial("proker", [True, True, False, False])
    assert gain_of(half, whole) == (0.0, 0.0)
    assert decided([half, whole], trial("zero-shot", [False] * 4))[0] == "lora"


def test_where_nothing_could_be_tried_zero_shot_is_taken():
    assert decided([Trial("lora", note="not tried")], trial("zero-shot", [True]))[0] == "zero-shot"


def test_equals_are_named_in_the_reason():
    one, other = trial("lora", [True, True, False]), trial("proker", [True, True, True])
    _, why = decided([one, other], trial("zero-shot", [False, True, False]))
    assert why == "+33.3 points against zero-shot, no further from proker than chance may be"


# -- what is handed on -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["paper", "builtin"])
def test_what_was_asked_of_model_data_and_engine_is_kept_and_the_rest_is_the_presets(preset):
    asked = preset_recipe(preset, "auto").replace(template="a {}.", threads=1, seed=5, quantize="nf4", shots=3)
    made = concrete(asked, preset, "proker")
    assert made == preset_recipe(preset, "proker").replace(
        template="a {}.", threads=1, seed=5, quantize="nf4", shots=3, flip=asked.training.flip
    )
    assert (
        preset_of(asked.replace(model="builtin" if preset == "builtin" else "openai/clip-vit-base-patch16")) == preset
    )


@pytest.mark.parametrize(
    "setting", [{"learning_rate": 0.5}, {"steps_per_shot": 7}, {"views": 3}, {"crop_minimum": 0.9}]
)
def test_training_settings_that_would_do_nothing_are_refused(setting):
    [name] = setting
    with refused(InputError, name.replace("_", "-"), setting[name], "auto", "preset"):
        FewShotClassifier(method="auto", **setting).fit(task(1))


def test_a_setting_of_another_method_asks_for_a_method():
    with refused(InputError, "rank is 4", "--method"):
        FewShotClassifier(rank=4)


@pytest.mark.parametrize("command", ["params", "plan"])
def test_what_counts_before_there_are_shots_wants_a_method(command, capsys):
    assert main([command, "--method", "auto"]) == 2
    assert (
        "method auto is one that fit chooses by the shots; expected a method by its own name" in capsys.readouterr().err
    )


def test_several_processes_do_not_choose_each_for_itself(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with refused(InputError, "method auto", "several processes"):
        FewShotClassifier(method="auto").fit(task(2))


def test_lora_is_the_best_one_that_was_measured_on_this_model():
    of_builtin, of_others = (concrete(preset_recipe(name, "auto"), name, "lora") for name in ("builtin", "paper"))
    assert of_builtin.method == preset_recipe("builtin-best", "lora").method
    assert of_others.method == preset_recipe("paper", "lora").method


# -- trials ------------------------------------------------------------------------------------------------------------


def test_the_default_tries_holds_out_and_never_looks_at_a_test_image(quick):
    classifier = FewShotClassifier().fit(task(4))
    made = classifier.record_.choice
    assert made["folds"] == 4
    assert [(one["method"], one["images"]) for one in made["tried"]] == [
        (name, 12)
        for name in ("zero-shot", "gda", "proker", "task-res")  # the cheapest first
    ]
    assert made["method"] == classifier.record_.recipe["method"]["method"]
    assert classifier.record_.method == "auto"


def test_what_is_saved_predicts_the_same_and_knows_why(quick, tmp_path):
    classifier = FewShotClassifier().fit(task(2))
    classifier.save_pretrained(tmp_path / "adapter")
    loaded = FewShotClassifier.from_pretrained(tmp_path / "adapter")
    images = list(pictures(3, seed=1).images)
    assert np.array_equal(classifier.predict_proba(images), loaded.predict_proba(images))
    assert loaded.record_.choice == json.loads(json.dumps(classifier.record_.choice))
    assert "auto` chose " in (tmp_path / "adapter" / "README.md").read_text(encoding="utf-8")


def test_what_is_chosen_is_what_its_own_recipe_would_have_learnt(quick):
    chosen = FewShotClassifier().fit(task(3))
    named = FewShotClassifier.from_recipe(Recipe.from_dict(chosen.record_.recipe)).fit(task(3))
    images = list(pictures(3, seed=1).images)
    assert np.array_equal(chosen.predict_proba(images), named.predict_proba(images))


def test_what_is_chosen_is_calibrated_by_the_shots_that_were_held_out(quick, monkeypatch):
    asked = FewShotClassifier(calibration_folds=3).fit(task(4)).record_
    monkeypatch.setattr(fit, "hold_out", lambda *_, **__: pytest.fail("calibrated once more"))
    record = FewShotClassifier().fit(task(4)).record_

    assert (record.calibration["folds"], record.calibration["images"]) == (4, 12)
    assert record.recipe["training"]["calibration_folds"] == 4
    assert asked.calibration["folds"] == 4  # a head is computed anew without one shot of every class at a time
    assert not FewShotClassifier().fit(task(1)).record_.calibration  # judged by crops of what it has learnt


def test_zero_shot_is_calibrated_by_all_shots(quick, monkeypatch):
    monkeypatch.setattr(auto, "decided", lambda trials, zero: ("zero-shot", "so it is"))
    record = FewShotClassifier().fit(task(4)).record_
    assert (record.calibration["folds"], record.calibration["images"]) == (0, 12)


def test_without_time_only_zero_shot_is_tried():
    classifier = FewShotClassifier(time_budget=1e-9).fit(task(2))
    assert classifier.record_.choice["method"] == "zero-shot"
    said = {name: trial["said"] for name, trial in tried(classifier).items() if name != "zero-shot"}
    assert set(said) == set(CANDIDATES)
    # Of the least that heads take half a second may not be known, which is not told as 0 s.
    assert all(re.match(r"not tried: (no time is left|it would take [1-9])", text) for text in said.values())
    assert said["lora"].startswith("not tried: it would take")


def test_the_time_of_each_trial_is_told(monkeypatch):
    monkeypatch.setattr(Trials, "_tried", lambda self, method: time.sleep(0.01) or Trial(method))
    trials, started = trials_of(1), time.monotonic()
    told = [trials.zero_shot().seconds, trials.of("gda").seconds]
    assert told[0] > 0 and told[1] >= 0.01
    assert sum(told) <= time.monotonic() - started


def test_zero_shot_tells_how_sure_it_is_where_others_are_held_out_too():
    assert trials_of(2).zero_shot().held_out.calibration.folds == 0
    assert not trials_of(1).zero_shot().held_out.is_told


def test_as_many_folds_are_held_out_as_there_is_time_for(monkeypatch, quick):
    """The training that follows comes first: of 10 seconds 4 are for it, and 4 for one fold."""
    monkeypatch.setattr(Trials, "_seconds", lambda self, method, shots: 4.0)
    monkeypatch.setattr(trials.time, "monotonic", lambda: 0.0)
    classifier = FewShotClassifier(time_budget=10.0).fit(task(4))
    found = tried(classifier)
    assert {one["images"] for name, one in found.items() if name != "zero-shot"} == {3}
    assert found["proker"]["said"] == "1 of 4 folds, as many as there is time for"


def trials_of(of_each, **settings):
    whole = task(of_each)
    lesson = lesson_of(
        whole, {}, preset_recipe("builtin", "lora").replace(shots=of_each, **settings), lambda lines: None
    )
    return Trials(lesson, lambda method: lesson.recipe, 10.0, silent)


def test_a_fold_learns_from_the_shots_that_are_not_held_out(monkeypatch):
    asked = []
    monkeypatch.setattr(Trials, "_seconds", lambda self, method, shots: asked.append(shots) or 20.0)
    assert trials_of(4).of("lora").note.startswith("not tried: it would take 40 s or more")
    assert asked == [4, 3]


def test_a_training_that_takes_too_long_at_any_speed_is_not_probed(monkeypatch):
    """A step goes through the vision tower forward and back for each image of its batch."""
    trials = trials_of(2, batch_size=4, base_steps=10, steps_per_shot=5)
    trials._image_seconds = 1.0
    monkeypatch.setattr(Trials, "_of", lambda *_: pytest.fail("it was probed"))
    assert trials._seconds("lora", 2) == 3.0 * 4 * 20


def test_what_was_held_out_in_part_calibrates_nothing(monkeypatch, quick):
    """The recipe of what is chosen could not say in which folds, and would give another temperature."""
    monkeypatch.setattr(Trials, "_seconds", lambda self, method, shots: 4.0)
    monkeypatch.setattr(trials.time, "monotonic", lambda: 0.0)
    classifier = FewShotClassifier(time_budget=12.0).fit(task(4))
    assert tried(classifier)["proker"]["said"] == "2 of 4 folds, as many as there is time for"
    assert (classifier.record_.calibration, classifier.recipe.training.calibration_folds) == ({}, 0)


def test_the_folds_of_a_calibration_are_counted_as_the_training_that_they_are_part_of(monkeypatch, quick):
    """Of 25 seconds 20 are for four folds of a calibration and the training, and 4 for one fold."""
    monkeypatch.setattr(Trials, "_seconds", lambda self, method, shots: 4.0)
    monkeypatch.setattr(trials.time, "monotonic", lambda: 0.0)
    classifier = FewShotClassifier(time_budget=25.0, calibration_folds=4).fit(task(4))
    assert tried(classifier)["proker"]["said"] == "1 of 4 folds, as many as there is time for"


def test_shots_that_nothing_can_be_calibrated_on_are_refused_before_anything_is_tried(monkeypatch):
    monkeypatch.setattr(Trials, "__init__", lambda *_: pytest.fail("tried"))
    with refused(DataError, "more than one", "2 shots", "calibration-folds"):
        FewShotClassifier(calibration_folds=4).fit(task(1))


def test_what_the_first_pass_takes_longer_is_not_taken_for_the_time_of_an_image(monkeypatch):
    """A GPU's first pass takes seconds: of a few images each would seem to take so long that nothing were tried."""
    encode, slept = Backbone.encode_images, []

    def encoding(self, images):
        if not slept:
            slept.append(time.sleep(1.0))
        return encode(self, images)

    monkeypatch.setattr(Backbone, "encode_images", encoding)
    recipe = preset_recipe("builtin", "auto").replace(shots=2)
    lesson = lesson_of(task(2), {}, recipe, lambda _: None)
    found = Trials(lesson, lambda method: concrete(recipe, "builtin", method), 60.0, silent)
    found.zero_shot()
    assert slept
    assert 0 < found._image_seconds < 1.0 / len(lesson.examples) / 2


def test_a_candidate_that_fails_leaves_the_others(monkeypatch, quick):
    try_one = Trials._tried

    def failing(self, method):
        if method == "proker":
            raise InputError("proker cannot take so many shots\nand more")
        return try_one(self, method)

    monkeypatch.setattr(Trials, "_tried", failing)
    found = tried(FewShotClassifier().fit(task(2)))
    assert found["proker"]["acc1"] is None
    assert found["proker"]["said"] == "proker cannot take so many shots"
    assert found["gda"]["acc1"] is not None


def test_of_one_shot_each_crops_are_judged_and_the_record_says_so(quick):
    classifier = FewShotClassifier().fit(task(1))
    made = classifier.record_.choice
    if made["tried"]:
        assert {one["images"] for one in made["tried"]} == {3}
    else:
        assert made["why"] == "it recognises every shot, and none can be held out"
    assert made["folds"] == 0


def test_where_zero_shot_knows_all_single_shots_nothing_is_tried(monkeypatch):
    monkeypatch.setattr(Trials, "recognises_every_shot", lambda self: True)
    monkeypatch.setattr(auto, "FEW", 3)
    monkeypatch.setattr(trials, "random_crops", lambda *_, **__: pytest.fail("a crop was made for nothing"))
    record = FewShotClassifier().fit(task(1)).record_
    assert (record.choice["method"], record.choice["tried"]) == ("zero-shot", [])
    assert (record.shots, len(record.draw), len(record.learnt)) == (1, 3, 3)  # they decided, so they are not unseen


# -- interruption ------------------------------------------------------------------------------------------------------


def test_a_choice_is_kept_beside_the_state_and_taken_up_again(monkeypatch, quick, tmp_path):
    state = tmp_path / "run.training.safetensors"
    first = FewShotClassifier().fit(task(2), checkpoint=state)
    assert auto.choice_file(state) in first.training_states(state)
    monkeypatch.setattr(Trials, "of", lambda self, method: pytest.fail("tried again"))
    again = FewShotClassifier().fit(task(2), checkpoint=state)
    assert again.record_.choice == first.record_.choice
    assert again.record_.calibration == first.record_.calibration != {}
    with pytest.raises(pytest.fail.Exception, match="tried again"):
        FewShotClassifier(seed=2).fit(task(2), checkpoint=state)


def test_a_kept_choice_that_lacks_what_is_told_of_it_is_made_anew(quick, tmp_path):
    state = tmp_path / "run.training.safetensors"
    FewShotClassifier().fit(task(2), checkpoint=state)
    kept = json.loads(auto.choice_file(state).read_text())
    del kept["choice"]["tried"]
    auto.choice_file(state).write_text(json.dumps(kept))
    assert FewShotClassifier().fit(task(2), checkpoint=state).record_.choice["tried"]


@pytest.mark.parametrize("content", ["", "[]", '{"of": 3}', '{"of": "x", "choice": {"method": "rm -rf"}}'])
def test_a_damaged_choice_is_made_anew(quick, tmp_path, content):
    state = tmp_path / "run.training.safetensors"
    auto.choice_file(state).write_text(content)
    assert FewShotClassifier().fit(task(2), checkpoint=state).record_.choice["tried"]


# -- the command -------------------------------------------------------------------------------------------------------


def test_the_command_says_what_it_tried_and_why(quick, tmp_path, capsys):
    assert main(["fit", "digits", "--shots", "2", "--out", str(tmp_path / "adapter")]) == 0
    said = capsys.readouterr().out
    assert "auto tried, on 20 shots held out in 2 folds:" in said
    assert "\n  zero-shot " in said
    assert "\nit took " in said
    record = RunRecord.from_dict(json.loads((tmp_path / "adapter" / "lowshot.json").read_text()))
    assert record.choice["method"] in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter"]
