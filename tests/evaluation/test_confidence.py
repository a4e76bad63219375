"""Calibrated classifiers: what their probabilities and sets of classes hold, from the fit to the saved adapter."""

import gc
import json
import weakref

import numpy as np
import pytest

import lowshot.classifier.learning
from coloured import as_folder
from lowshot import FewShotClassifier
from lowshot.data import Examples, Task, builtin_task
from lowshot.errors import AdapterError, DataError, InputError, NotFittedError, RunError
from refusing import refused

COLOURS = ("blue", "green", "red")


def pictures(count, seed=0, noise=235):
    """Noisy pictures of which one colour is a little stronger, and their labels."""
    generator = np.random.default_rng(seed)
    images = generator.integers(0, noise, (count, 20, 20, 3), dtype=np.uint8)
    labels = [COLOURS[i % 3] for i in range(count)]
    for image, label in zip(images, labels, strict=True):
        image[..., ("red", "green", "blue").index(label)] += 256 - noise - 1
    return list(images), labels


@pytest.fixture(scope="module")
def quick(tiny_clip):
    return {"model": str(tiny_clip), "rank": 4, "base_steps": 5, "steps_per_shot": 0, "learning_rate": 1e-2}


@pytest.fixture(scope="module")
def plain(quick):
    return FewShotClassifier(method="lora", **quick).fit(*pictures(18))


@pytest.fixture(scope="module")
def calibrated(quick):
    return FewShotClassifier(method="lora", **quick, calibration_folds=3, together=1).fit(*pictures(18))


@pytest.fixture
def folder(tmp_path):
    """``photos/<class>/*.png``, six of each."""
    return as_folder(tmp_path / "photos", *pictures(18))


def test_calibration_changes_probabilities_by_its_temperature_and_no_prediction(plain, calibrated):
    images, labels = pictures(60, seed=1)
    before, after = plain.predict_proba(images), calibrated.predict_proba(images)
    temperature = calibrated.calibration.temperature
    assert temperature != 1
    expected = np.exp(np.log(before.astype(np.float64)) / temperature)
    np.testing.assert_allclose(after, expected / expected.sum(1, keepdims=True), atol=1e-5)
    assert (calibrated.predict(images) == plain.predict(images)).all()
    assert calibrated.score(images, labels) == plain.score(images, labels)
    assert plain.record_.calibration == {}


def test_the_record_keeps_all_that_prediction_needs(calibrated):
    kept = calibrated.record_.calibration
    assert (kept["folds"], kept["images"], len(kept["scores"])) == (3, 18, 18)
    assert calibrated.calibration.to_dict() == kept
    assert len(calibrated.record_.learnt) == len(calibrated.record_.draw) == 18


def test_saved_and_loaded_it_is_as_calibrated(calibrated, tmp_path):
    calibrated.save_pretrained(tmp_path / "adapter")
    loaded = FewShotClassifier.from_pretrained(tmp_path / "adapter")
    images, _ = pictures(9, seed=2)
    assert loaded.record_ == calibrated.record_
    np.testing.assert_array_equal(loaded.predict_proba(images), calibrated.predict_proba(images))
    assert loaded.predict_sets(images, 0.8) == calibrated.predict_sets(images, 0.8)
    assert "Probabilities are calibrated on 18 images" in (tmp_path / "adapter" / "README.md").read_text()


@pytest.mark.parametrize("change", [{"temperature": -1.0}, {"scores": [2.0]}, {"folds": "x"}], ids=str)
def test_a_damaged_calibration_is_refused(calibrated, tmp_path, change):
    calibrated.save_pretrained(tmp_path / "adapter")
    file = tmp_path / "adapter" / "lowshot.json"
    record = json.loads(file.read_text())
    file.write_text(json.dumps({**record, "calibration": {**record["calibration"], **change}}))
    with refused(AdapterError, "lowshot.json", "calibration"):
        FewShotClassifier.from_pretrained(tmp_path / "adapter")


def test_sets_hold_the_predicted_class_first_and_grow_with_the_coverage(calibrated):
    images, _ = pictures(30, seed=3)
    table, predicted = calibrated.predict_proba(images), calibrated.predict(images)
    small, large = (calibrated.predict_sets(images, coverage) for coverage in (0.3, 0.9))
    for row, best, few, more in zip(table, predicted, small, large, strict=True):
        assert few[0] == more[0] == best
        assert few == more[: len(few)]
        probabilities = [row[COLOURS.index(name)] for name in more]
        assert probabilities == sorted(probabilities, reverse=True)
    assert sum(map(len, small)) < sum(map(len, large))


def test_no_images_have_no_sets(calibrated):
    assert calibrated.predict_sets([], 0.5) == []


@pytest.fixture(scope="module")
def head(tiny_clip):
    return FewShotClassifier(str(tiny_clip), method="proker").fit(*pictures(18))


def test_sets_with_a_guarantee_need_no_calibration_and_are_the_same_of_the_saved_adapter(head, tmp_path):
    images, labels = pictures(30, seed=4)
    sets = head.predict_sets(images, 0.8, guaranteed=True)
    assert [members[0] for members in sets] == head.predict(images).tolist()
    head.save_pretrained(tmp_path / "adapter")
    loaded = FewShotClassifier.from_pretrained(tmp_path / "adapter")
    assert loaded.predict_sets(images, 0.8, guaranteed=True) == sets
    assert loaded.predict_sets([], 0.8, guaranteed=True) == []
    streamed = [entry.members for entry in loaded.stream_judgements(images, loaded.sets(0.8, guaranteed=True))]
    assert [set(np.array(COLOURS)[inside]) for inside in streamed] == [set(members) for members in sets]
    numbers = np.array([COLOURS.index(label) for label in labels])
    test = Examples(images, numbers, tuple(map(str, range(30))))
    found = loaded.evaluate(Task("colours", COLOURS, train=test, test=test), coverage=0.8, guaranteed=True)["sets"]
    assert found["guaranteed"] is True
    assert found["covered"] == np.mean([label in inside for label, inside in zip(labels, sets, strict=True)])
    assert len(head.predict_sets(images, 0.3, guaranteed=True)[0]) <= len(sets[0])
    (tmp_path / "adapter" / "shots.safetensors").unlink()
    with refused(InputError, "shots.safetensors", "leave guaranteed out"):
        FewShotClassifier.from_pretrained(tmp_path / "adapter").predict_sets(images, 0.8, guaranteed=True)


def test_what_has_no_shots_to_compare_with_guarantees_nothing(tiny_clip, plain, head):
    images, labels = pictures(18)
    for method, facts in (
        ("gda", ("method gda", "random crops", "--calibration-folds 4")),
        ("zero-shot", ("method zero-shot", "no shots")),
    ):
        classifier = FewShotClassifier(str(tiny_clip), method=method).fit(images, labels)
        with refused(InputError, *facts):
            classifier.predict_sets(["no such image.png"], 0.8, guaranteed=True)
    with refused(InputError, "method lora", "trains the towers"):
        plain.predict_sets(images, 0.8, guaranteed=True)
    with refused(InputError, "0.9", "6 shots", "0.857"):
        head.predict_sets(images, 0.9, guaranteed=True)
    with refused(InputError, "guaranteed", "coverage"):
        head.evaluate("digits", guaranteed=True)
    of_views = FewShotClassifier(str(tiny_clip), method="gda", views=2, calibration_folds=2).fit(images, labels)
    assert all(of_views.predict_sets(images, 0.8, guaranteed=True))


def test_evaluation_tells_how_many_sets_hold_the_true_class(calibrated):
    images, labels = pictures(30, seed=4)
    numbers = np.array([COLOURS.index(label) for label in labels])
    test = Examples(images, numbers, tuple(map(str, range(30))))
    task = Task("colours", COLOURS, train=test, test=test)
    found = calibrated.evaluate(task, coverage=0.75)["sets"]
    members = calibrated.predict_sets(images, 0.75)
    hits = [label in inside for label, inside in zip(labels, members, strict=True)]
    least = min(np.mean([hit for hit, label in zip(hits, labels, strict=True) if label == each]) for each in COLOURS)
    sizes = {"mean_set_size": np.mean([len(m) for m in members])}
    assert found == {"coverage": 0.75, "covered": np.mean(hits), "least_covered": least, **sizes}
    assert calibrated.record_.metrics["sets"] == found
    assert "sets" not in calibrated.evaluate(task)


def test_sets_without_calibration_are_refused_with_the_way_to_them(plain):
    for ask in (lambda: plain.predict_sets([], 0.9), lambda: plain.evaluate("digits", coverage=0.9)):
        with refused(InputError, "not calibrated", "--calibration-folds 5"):
            ask()
    with pytest.raises(NotFittedError):
        FewShotClassifier().predict_sets([], 0.9)


def test_more_coverage_than_the_shots_allow_is_refused_before_anything_is_computed(calibrated):
    with refused(InputError, "0.95", "18 held-out images", "0.947", 19):
        calibrated.predict_sets(["no such image.png"], 0.95)


def test_one_shot_cannot_be_held_out_and_learnt_from(quick):
    with refused(DataError, "more than one", "2 shots"):
        FewShotClassifier(method="lora", **quick, calibration_folds=2).fit(*pictures(18), shots=1)
    with refused(InputError, "calibration-folds is 1", 0, 2):
        FewShotClassifier(method="lora", **quick, calibration_folds=1)


def test_a_class_with_one_image_is_named_and_learnt_from(quick):
    images, labels = pictures(18)
    few = [i for i in range(18) if labels[i] != "red"] + [2]
    classifier = FewShotClassifier(method="lora", **quick, calibration_folds=2)
    classifier.fit([images[i] for i in few], [labels[i] for i in few])
    assert classifier.warnings_[0] == "1 class(es) have one image, such as 'red': nothing is calibrated on those"
    assert classifier.record_.calibration["images"] == 12
    assert len(classifier.record_.draw) == 13


def test_zero_shot_is_calibrated_on_the_shots_themselves_and_is_not_judged_on_them(quick, folder):
    classifier = FewShotClassifier(quick["model"], method="zero-shot", calibration_folds=2).fit(folder, shots=2)
    assert (classifier.record_.calibration["folds"], classifier.record_.calibration["images"]) == (0, 6)
    assert classifier.evaluate(folder)["images"] == 12
    assert (classifier.record_.shots, classifier.record_.draw) == (0, ())
    classifier.fit(folder, shots=1)
    assert classifier.record_.calibration["images"] == 3


class Untouchable:
    """Test images that nobody may look at."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        raise AssertionError("a test image was looked at")


def test_no_test_image_is_looked_at(quick):
    images, labels = pictures(12)
    numbers = np.array([COLOURS.index(label) for label in labels])
    train = Examples(images, numbers, tuple(map(str, range(12))))
    hidden = Examples(Untouchable(), np.arange(3), tuple("abc"))
    task = Task("colours", COLOURS, train=train, validation=hidden, test=hidden)
    assert FewShotClassifier(method="lora", **quick, calibration_folds=2).fit(task).calibration.temperature > 0


def test_folds_one_after_the_other_have_one_model_in_memory_at_a_time(quick, monkeypatch):
    load, models = lowshot.classifier.learning.load_backbone, []

    def counted(*arguments):
        assert not [model for model in models if model() is not None]
        backbone = load(*arguments)
        models.append(weakref.ref(backbone.model))
        return backbone

    gc.collect()
    monkeypatch.setattr(lowshot.classifier.learning, "load_backbone", counted)
    FewShotClassifier(method="lora", **quick, calibration_folds=2, together=1).fit(*pictures(12))
    assert len(models) == 4  # to look whether the settings fit, two folds, and the classifier


def test_folds_together_tell_what_they_tell_one_after_the_other(quick, calibrated):
    together = FewShotClassifier(method="lora", **quick, calibration_folds=3, together=3).fit(*pictures(18))
    one, other = together.calibration, calibrated.calibration
    assert one.temperature == pytest.approx(other.temperature, rel=1e-3)
    assert one.scores == pytest.approx(other.scores, abs=1e-4)
    images, _ = pictures(9, seed=5)
    np.testing.assert_allclose(together.predict_proba(images), calibrated.predict_proba(images), atol=1e-4)


def test_interrupted_in_a_fold_it_goes_on_to_the_very_same(quick, calibrated, tmp_path):
    file = tmp_path / "run.training.safetensors"

    def interrupted(items, /, *, what, total):
        for number, item in enumerate(items):
            if what.startswith("fold 2") and number == 2:
                raise KeyboardInterrupt
            yield item

    seen = []

    def counted(items, /, *, what, total):
        seen.append((what, total))
        yield from items

    classifier = FewShotClassifier(method="lora", **quick, calibration_folds=3, together=1)
    with pytest.raises(KeyboardInterrupt):
        classifier.fit(*pictures(18), checkpoint=file, track=interrupted)
    assert not classifier.is_fitted
    states = classifier.training_states(file)
    assert [state.exists() for state in states] == [True, True, False, False]
    classifier.fit(*pictures(18), checkpoint=file, track=counted)
    steps = {what: total for what, total in seen if "training" in what}
    assert steps == {
        "fold 1 of 3: training lora": 0,
        "fold 2 of 3: training lora": 3,
        "fold 3 of 3: training lora": 5,
        "training lora": 5,
    }
    assert classifier.record_.calibration == calibrated.record_.calibration
    images, _ = pictures(9, seed=5)
    np.testing.assert_array_equal(classifier.predict_proba(images), calibrated.predict_proba(images))


def test_where_a_fold_diverges_there_is_no_classifier(quick):
    classifier = FewShotClassifier(method="lora", **{**quick, "learning_rate": 1e30}, calibration_folds=2)
    with refused(RunError, "fold 1 of 2", "diverged", "learning rate"):
        classifier.fit(*pictures(12))
    assert not classifier.is_fitted


def test_a_fold_takes_the_steps_of_the_shots_it_learns_from(quick):
    seen = []

    def counted(items, /, *, what, total):
        seen.append((what, total))
        yield from items

    settings = {**quick, "base_steps": 1, "steps_per_shot": 2}
    FewShotClassifier(method="lora", **settings, calibration_folds=2).fit(*pictures(18), shots=4, track=counted)
    steps = [total for what, total in seen if "training" in what]
    assert steps == [1 + 2 * 2, 1 + 2 * 2, 1 + 2 * 4]


SLACK = 3.5
"""Deviations from the stated coverage that are put down to chance."""


def off_by(classifier, task, coverage):
    """How many deviations the coverage is above the stated one, and the mean size of a set.

    The share of test images that are covered is binomial around a coverage that is itself beta-distributed over the
    draw of the held-out images.
    """
    found = classifier.evaluate(task, coverage=coverage)
    held_out, tested = classifier.record_.calibration["images"], found["images"]
    deviation = np.sqrt(coverage * (1 - coverage) * (1 / tested + 1 / (held_out + 2)))
    return (found["sets"]["covered"] - coverage) / deviation, found["sets"]["mean_set_size"]


@pytest.mark.parametrize("name", ["digits", "letters", "greek"])
def test_zero_shot_sets_cover_what_they_state_and_no_more(name):
    task = builtin_task(name)
    classifier = FewShotClassifier(method="zero-shot", calibration_folds=2).fit(task, shots=16)
    for coverage in (0.8, 0.9, 0.95):
        above, _ = off_by(classifier, task, coverage)
        assert abs(above) <= SLACK


def test_sets_of_a_classifier_that_learns_cover_what_they_state():
    """Nothing guarantees it: the folds' classifiers have learnt from half of the shots."""
    task = builtin_task("letters")
    settings = {"base_steps": 30, "steps_per_shot": 0, "threads": 1}
    classifier = FewShotClassifier(method="lora-xs", calibration_folds=2, **settings).fit(task, shots=16)
    above, size = off_by(classifier, task, 0.9)
    assert above >= -SLACK
    assert size < len(task.class_names) / 2  # sets of all classes would cover as well
